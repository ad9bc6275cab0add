"""What an artifact is made of: descriptors and the manifest that lists them (OCI image specification 1.1).

Writing is canonical (sorted keys, no spaces, no times), so the same files and annotations give the same
digest on any machine. Reading is strict about what becomes a path or a length, and tolerant of fields that
we do not know.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from kairay.errors import InputError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_INDEX_TYPE)
LARGEST_MANIFEST = 4 * 2**20
"""Bytes; the distribution specification lets registries refuse more."""

TITLE = "org.opencontainers.image.title"
OCTETS = "application/octet-stream"
_SUFFIXES = {".json": "json", ".safetensors": "safetensors", ".gguf": "gguf", ".jinja": "jinja"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLATFORM = ("linux", "amd64")


class ArtifactMedia(StrEnum):
    """What an artifact holds; gives the manifest's artifactType and the layers' types."""

    ADAPTER = "adapter"
    MODEL = "model"

    @property
    def artifact_type(self) -> str:
        """The manifest's artifactType."""
        return f"application/vnd.kairay.{self.value}.v1"

    def layer_type(self, title: str) -> str:
        """The media type of a file by its name's ending; plain octets where none is known."""
        suffix = _SUFFIXES.get(PurePosixPath(title).suffix)
        return f"application/vnd.kairay.{self.value}.layer.v1+{suffix}" if suffix else OCTETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A blob by content: its type, `sha256:` digest and size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str | None:
        """The file's path in the artifact, `/`-separated, unchecked."""
        return self.annotations.get(TITLE)

    def to_json(self) -> dict[str, Any]:
        """The descriptor as the specification writes it."""
        written: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            written["annotations"] = dict(self.annotations)
        return written


EMPTY_CONTENT = b"{}"
EMPTY_CONFIG = Descriptor(
    media_type="application/vnd.oci.empty.v1+json",
    digest=f"sha256:{hashlib.sha256(EMPTY_CONTENT).hexdigest()}",
    size=len(EMPTY_CONTENT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest with the exact bytes it was read from or is written as; the digest is theirs."""

    body: bytes
    media_type: str
    artifact_type: str | None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @property
    def digest(self) -> str:
        """`sha256:` of the body."""
        return digest_of(self.body)

    @property
    def size(self) -> int:
        """Bytes of all layers together."""
        return sum(layer.size for layer in self.layers)

    @property
    def descriptor(self) -> Descriptor:
        """The manifest itself as a blob."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.body))

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())


def digest_of(content: bytes) -> str:
    """`sha256:` and the hash in hexadecimal."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def canonical_json(value: object) -> bytes:
    """The one way we write JSON that is addressed by its content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def build_manifest(
    media: ArtifactMedia, layers: tuple[Descriptor, ...], annotations: Mapping[str, str]
) -> Manifest:
    """The manifest of an artifact of ours, with the empty config that OCI 1.1 asks for."""
    written: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": media.artifact_type,
        "config": EMPTY_CONFIG.to_json() | {"data": base64.b64encode(EMPTY_CONTENT).decode()},
        "layers": [layer.to_json() for layer in layers],
    }
    if annotations:
        written["annotations"] = dict(annotations)
    return Manifest(
        body=canonical_json(written),
        media_type=MANIFEST_TYPE,
        artifact_type=media.artifact_type,
        config=EMPTY_CONFIG,
        layers=layers,
        annotations=dict(annotations),
    )


def parse_manifest(body: bytes, where: str) -> Manifest | Descriptor:
    """The manifest in `body`, or, where it is an index, the descriptor of its manifest for Linux on x86-64.

    InputError names `where` when the bytes are neither.
    """
    try:
        read = json.loads(body)
        if "manifests" in read:
            return _chosen(read["manifests"], where)
        return Manifest(
            body=body,
            media_type=str(read.get("mediaType", MANIFEST_TYPE)),
            artifact_type=None if read.get("artifactType") is None else str(read["artifactType"]),
            config=parse_descriptor(read["config"]),
            layers=tuple(parse_descriptor(layer) for layer in read["layers"]),
            annotations=_annotations(read),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{where} has a manifest that is not an OCI image manifest: {type(error).__name__}: {error}"
        ) from error


def parse_descriptor(read: Mapping[str, Any]) -> Descriptor:
    """A descriptor whose digest is safe to make a path of; ValueError, KeyError or TypeError otherwise."""
    digest, size = read["digest"], read["size"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"digest {digest!r} is not sha256")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"size {size!r} is not a number of bytes")
    return Descriptor(
        media_type=str(read.get("mediaType", OCTETS)),
        digest=digest,
        size=size,
        annotations=_annotations(read),
    )


def _annotations(read: Mapping[str, Any]) -> dict[str, str]:
    found = read.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("annotations are not strings")
    return found


def _chosen(entries: list[dict[str, Any]], where: str) -> Descriptor:
    for entry in entries:
        platform = entry.get("platform")
        if platform is None or (platform.get("os"), platform.get("architecture")) == _PLATFORM:
            return parse_descriptor(entry)
    raise InputError(f"{where} is an index without a manifest for {'/'.join(_PLATFORM)}")
