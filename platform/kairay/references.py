"""What a Workspace points at, parsed: container images and addresses of data.

Images follow the grammar of https://github.com/distribution/reference, with its defaults written out
(docker.io, library/, latest), so that two spellings of one image compare equal. Addresses are http or https
and may not name a host of the inside as a literal; names are resolved and checked again by whoever fetches.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from kairay.errors import InputError
from kairay.hosts import normalise_host, why_internal

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_HOST_PART = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_PATH_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_LONGEST_NAME = 255
_LONGEST_URL = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """One container image; `str()` gives it in full."""

    registry: str
    """Host and port, lower case."""
    repository: str
    tag: str | None
    """None only when a digest says which image is meant."""
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """From the form that `docker pull` takes; InputError says which part is wrong and what to write."""
        _refuse_schemes(text)
        rest, at, digest = text.partition("@")
        registry, path = _split_registry(rest)
        repository, colon, tag = path.partition(":")
        _check_repository(repository, text)
        _check_registry(registry, text)
        if colon and not _TAG.fullmatch(tag):
            raise InputError(f"{tag!r} is not a tag; take letters, digits, _ . and -, at most 128")
        if at and not _DIGEST.fullmatch(digest):
            raise InputError(f"{digest[:80]!r} is not a digest; write sha256: and 64 hex digits after the @")
        if len(f"{registry}/{repository}") > _LONGEST_NAME:
            raise InputError(f"an image name has at most {_LONGEST_NAME} characters; this one is longer")
        return cls(
            registry=registry,
            repository=repository,
            tag=tag if colon else None if at else DEFAULT_TAG,
            digest=digest if at else None,
        )

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUrl:
    """One http(s) address of data; `str()` gives it as it was written."""

    text: str
    host: str
    """Lower case, without port, brackets or a dot at the end."""

    @classmethod
    def parse(cls, text: str, *, allowed_hosts: Collection[str] = ()) -> DataUrl:
        """An address on the outside or on one of the operator's `allowed_hosts`; InputError otherwise."""
        if len(text) > _LONGEST_URL or not text.isprintable() or re.search(r"[\s\\]", text):
            raise InputError(
                f"an address has at most {_LONGEST_URL} characters and no spaces or backslashes in it"
            )
        split = _split(text)
        if split.scheme.lower() not in ("http", "https"):
            found = split.scheme or "no scheme"
            raise InputError(
                f"give an http or https address, found {found}; data on a disk goes into volumeSource"
            )
        if split.username is not None or split.password is not None:
            raise InputError("an address carries no user or password; put data that needs them into a volume")
        host = normalise_host(split.hostname or "")
        if host not in {normalise_host(allowed) for allowed in allowed_hosts} and (
            reason := why_internal(host)
        ):
            raise InputError(
                f"{host} is {reason}; give an address on the outside, or let the operator allow the host"
            )
        return cls(text=text, host=host)

    def __str__(self) -> str:
        return self.text


def _refuse_schemes(text: str) -> None:
    if match := _SCHEME.match(text):
        raise InputError(
            f"an image has no {match[1]}:// in front; write {text[match.end() :] or 'registry/name:tag'}"
        )
    if text.startswith("oci:"):
        raise InputError("an image is in a registry; a folder on a disk goes into volumeSource")


def _split_registry(name: str) -> tuple[str, str]:
    """Registry and the rest; the first part is a host if it looks like one, as in every container tool."""
    first, slash, rest = name.partition("/")
    is_host = first == "localhost" or any(mark in first for mark in ".:[")
    if not slash or not is_host:
        first, rest = DEFAULT_REGISTRY, name
    registry = {"index.docker.io": DEFAULT_REGISTRY}.get(first.lower(), first.lower())
    if registry == DEFAULT_REGISTRY and "/" not in rest:
        rest = f"library/{rest}"
    return registry, rest


def _check_repository(repository: str, text: str) -> None:
    if repository != repository.lower():
        raise InputError(
            f"image repositories are lower case; write {repository.lower()} instead of {repository}"
        )
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(
            f"{text[:100]!r} is not an image; write registry/name:tag in lower-case letters and digits, "
            "with . _ or - only inside"
        )


def _check_registry(registry: str, text: str) -> None:
    match = _REGISTRY.fullmatch(registry)
    if match is None or int(match["port"] or 0) > 65535:
        raise InputError(
            f"{registry!r} in {text[:100]!r} is not a registry; write its host, such as contoso.azurecr.io"
        )


def _split(text: str) -> SplitResult:
    try:
        split = urlsplit(text)
        _ = split.port
    except ValueError as error:
        raise InputError(f"not an address ({error}); write https://host/path") from error
    return split
