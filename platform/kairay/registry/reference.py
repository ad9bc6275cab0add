"""Where an artifact is: an OCI image layout on disk or a repository of a registry, parsed from one string.

    oci:/absolute/folder:tag
    registry/repository[:tag][@sha256:…]

Names follow the OCI distribution specification 1.1. A name without a registry means Docker Hub, a reference
without tag and digest means `latest`, as with every container tool. Standard library only: cheap to import.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path

from kairay.errors import InputError

DEFAULT_TAG = "latest"
DOCKER_HUB = "docker.io"
LAYOUT_PREFIX = "oci:"

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")


def names_a_registry(reference: str) -> bool:
    """Docker's rule: what is before the first slash is a registry if it has a dot or port or is localhost."""
    host, slash, _ = reference.partition("/")
    return (
        bool(slash)
        and not reference.startswith((".", "/", "~"))
        and ("." in host or ":" in host or host == "localhost")
    )


class ArtifactReference:
    """Either kind of place; `str()` gives the text that parses back to the same value."""

    __slots__ = ()

    @staticmethod
    def parse(text: str) -> LayoutReference | RemoteReference:
        """Read `oci:/folder:tag` or `registry/repository[:tag][@digest]`; InputError says what is wrong."""
        if text.startswith(LAYOUT_PREFIX):
            return _parse_layout(text)
        return _parse_remote(text)


@dataclass(frozen=True, slots=True)
class LayoutReference(ArtifactReference):
    """One tag of an OCI image layout; `path` is absolute, since jobs run in other folders."""

    path: Path
    tag: str

    def __str__(self) -> str:
        return f"{LAYOUT_PREFIX}{self.path}:{self.tag}"

    def with_tag(self, tag: str) -> LayoutReference:
        """The same layout, another tag."""
        return replace(self, tag=_checked_tag(tag, str(self)))


@dataclass(frozen=True, slots=True)
class RemoteReference(ArtifactReference):
    """A repository of a registry, and a tag, a digest or both (then the digest decides)."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine by its very name: localhost, 127.0.0.0/8, ::1."""
        return is_loopback(self.registry)

    def with_tag(self, tag: str) -> RemoteReference:
        """The same repository, another tag and no digest."""
        return replace(self, tag=_checked_tag(tag, str(self)), digest=None)


def is_loopback(host: str) -> bool:
    """Whether `host` or `host:port` names this machine without asking a name server."""
    name = host[1 : host.index("]")] if host.startswith("[") else host.rsplit(":", 1)[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _parse_layout(text: str) -> LayoutReference:
    rest = text.removeprefix(LAYOUT_PREFIX)
    folder, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        folder, tag = rest, DEFAULT_TAG
    if not folder.startswith("/"):
        raise InputError(f"{text!r} does not name a folder by its absolute path; write oci:/folder:tag")
    return LayoutReference(path=Path(folder), tag=_checked_tag(tag, text))


def _parse_remote(text: str) -> RemoteReference:
    if "@" in text.split("/", 1)[0]:
        raise InputError(
            "an artifact's reference holds a user or a password before the registry's name; leave it out and "
            "log in instead"
        )
    if "://" in text:
        raise InputError(f"{text!r} starts with a scheme; write registry/repository:tag without it")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InputError(f"{text!r} has a digest that is not sha256: and 64 hexadecimal digits")
    registry, path = _split_registry(name)
    repository, colon, tag = path.partition(":")
    if not _REGISTRY.fullmatch(registry):
        raise InputError(f"{text!r} names a registry, {registry!r}, that is not a host or host:port")
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(
            f"{text!r} names a repository, {repository!r}, that is not lower-case words "
            "joined by '/', '.', '_' or '-'"
        )
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not colon and not at:
        tag = DEFAULT_TAG
    checked = _checked_tag(tag, text) if colon or not at else None
    return RemoteReference(registry=registry, repository=repository, tag=checked, digest=digest or None)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or any(c in first for c in ".:[")):
        return first, rest
    return DOCKER_HUB, name


def _checked_tag(tag: str, text: str) -> str:
    if not _TAG.fullmatch(tag):
        raise InputError(
            f"{text!r} has a tag, {tag!r}, that is not 1 to 128 of letters, digits, '_', '.' and '-', "
            "starting with neither dot nor dash"
        )
    return tag
