"""Layers into a folder: files by their titles, and the tars of container images, neither able to leave the
folder.

Adapters of KAITO are images with one gzipped tar that has the files under /data (its pusher, and the data
images that its documentation describes); whatever an image has outside /data is of no use to us and is left
out. Every layer's digest has been checked before anything of it is unpacked.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kairay.errors import InputError
from kairay.registry.disk import CHUNK
from kairay.registry.manifest import Descriptor, Manifest

MARKER = ".kairay-artifact.json"
"""Our own file in a pulled folder; never a title, never pushed."""

_UNPACK = "io.deis.oras.content.unpack"
_DATA = "data"
_TAR_TYPES = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_TEMPORARY = ".kairay-layer"
_WHITEOUT = ".wh."


def unpack(manifest: Manifest, fetch: Callable[[Descriptor, Path], None], into: Path, where: str) -> None:
    """Write an artifact's layers into the empty folder `into`; InputError (UnsafeArtifact) for one that
    would escape.

    `fetch` writes one checked blob to a file.
    """
    for layer in manifest.layers:
        if layer.title is not None and layer.annotations.get(_UNPACK) != "true":
            fetch(layer, _new_file(into, layer.title, where))
        elif layer.media_type in _TAR_TYPES:
            _unpack_tar(layer, fetch, into, where)
        else:
            raise InputError(
                f"{where} has a layer of type {layer.media_type} without a title, neither a file nor "
                "a gzipped tar; push the files themselves"
            )
    if not any(path.is_file() for path in into.rglob("*")):
        raise InputError(f"{where} holds no files; an image must have them under /{_DATA}")


def _unpack_tar(layer: Descriptor, fetch: Callable[[Descriptor, Path], None], into: Path, where: str) -> None:
    archive = into / _TEMPORARY
    fetch(layer, archive)
    below = None if layer.annotations.get(_UNPACK) == "true" else _DATA
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                _unpack_member(tar, member, into, below, f"{where}, layer {layer.digest}")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{where}: layer {layer.digest} is not a tar that can be read: {error}") from error
    finally:
        archive.unlink(missing_ok=True)


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path, below: str | None, where: str
) -> None:
    parts = _safe_parts(member.name, where)
    if below is not None:
        if parts[:1] != (below,):
            return
        parts = parts[1:]
    if not parts or member.isdir():
        return
    if not member.isreg() or parts[-1].startswith(_WHITEOUT):
        raise InputError(
            f"{where} has {member.name!r}, a link, device or deletion; only plain files are taken",
            reason="UnsafeArtifact",
        )
    path = _file(into, parts, member.name, where)
    content = tar.extractfile(member)
    assert content is not None
    with content, path.open("wb") as handle:
        while piece := content.read(CHUNK):
            handle.write(piece)


def _new_file(into: Path, title: str, where: str) -> Path:
    path = _file(into, _safe_parts(title, where), title, where)
    if path.exists():
        raise InputError(f"{where} has two layers with the title {title!r}", reason="UnsafeArtifact")
    return path


def _safe_parts(name: str, where: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or MARKER in path.parts:
        raise InputError(
            f"{where} has a file named {name!r}, which would leave the folder", reason="UnsafeArtifact"
        )
    return path.parts


def _file(into: Path, parts: tuple[str, ...], name: str, where: str) -> Path:
    path = into.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{where} has {name!r} below a file", reason="UnsafeArtifact") from error
    if not parts or path.is_dir():
        raise InputError(f"{where} has {name!r} as a file and as a folder", reason="UnsafeArtifact")
    return path
