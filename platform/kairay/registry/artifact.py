"""Folders pushed and pulled as OCI artifacts: one layer per file, to a registry or to an OCI image layout
on disk.

The same files and annotations give the same digest anywhere, so a second push finds its work done. A push
shows itself last, by its manifest, and a pull by one rename: whatever dies half-way leaves nothing that a
second try trips over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kairay.errors import InputError, KairayError, TransientError
from kairay.registry.credentials import Credentials
from kairay.registry.disk import digest_file, disk_errors
from kairay.registry.manifest import (
    EMPTY_CONFIG,
    EMPTY_CONTENT,
    TITLE,
    ArtifactMedia,
    Descriptor,
    Manifest,
    build_manifest,
)
from kairay.registry.pulled import PulledFolder
from kairay.registry.reference import ArtifactReference, LayoutReference, RemoteReference
from kairay.registry.store import Action, RemoteOptions, Store, open_store
from kairay.registry.unpack import MARKER, unpack

__all__ = [
    "Artifact",
    "ArtifactMedia",
    "ArtifactReference",
    "Credentials",
    "LayoutReference",
    "RemoteOptions",
    "RemoteReference",
    "find",
    "pull",
    "push_directory",
    "tag",
]

Reference = LayoutReference | RemoteReference
"""What callers hold; each function below takes its text as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An artifact that is at `reference`."""

    reference: Reference
    digest: str
    """`sha256:` of the manifest."""
    annotations: Mapping[str, str]
    size: int
    """Bytes of all files together, as stored."""
    artifact_type: str | None = None


def push_directory(
    directory: Path,
    target: Reference | str,
    *,
    media: ArtifactMedia,
    annotations: Mapping[str, str],
    credentials: Credentials | None = None,
    options: RemoteOptions | None = None,
) -> Artifact:
    """Store every file below `directory`, named by its relative path, at `target`, unless it is there.

    Links to files are stored as the files. InputError for an empty folder, a refusal or a target given by
    digest; TransientError (RegistryUnavailable) after the last try; HostError for a full disk; KairayError
    (DigestMismatch) when the place does not hold afterwards what was sent.
    """
    place = _parsed(target)
    if isinstance(place, RemoteReference) and place.digest:
        raise InputError(f"{place} names a digest, which only the content decides; push to a tag")
    files = _files(directory)
    layers = tuple(_layer(path, title, media) for title, path in files.items())
    manifest = build_manifest(media, layers, annotations)
    with open_store(place, Action.PUSH, credentials, options or RemoteOptions()) as store:
        if not _complete(store, manifest):
            _push(store, manifest, files, _tag_of(place))
            if not _complete(store, manifest):
                raise KairayError(
                    f"{place} does not hold {manifest.digest} after the push; push it again",
                    reason="DigestMismatch",
                )
    return _artifact(place, manifest)


def pull(
    source: Reference | str,
    into: Path,
    *,
    credentials: Credentials | None = None,
    options: RemoteOptions | None = None,
) -> Artifact:
    """Make the folder `into` hold the artifact's files, all of them checked, or leave it as it was.

    A folder that holds the same digest already is left alone; one that an earlier pull made is replaced;
    any other that is not empty is refused. InputError where there is no artifact or one that would write
    outside the folder; HostError for a full disk; KairayError (DigestMismatch) names a corrupt blob;
    TransientError as for a push.
    """
    place, folder = _parsed(source), PulledFolder(into)
    with (
        disk_errors(into),
        folder.alone(),
        open_store(place, Action.PULL, credentials, options or RemoteOptions()) as store,
    ):
        manifest = store.resolve()
        if manifest is None:
            raise InputError(f"{place} does not exist; check its name and tag", reason="NotFound")
        if not folder.holds(manifest.digest):
            with folder.replaced(manifest.size) as staged:
                unpack(manifest, store.fetch, staged, str(place))
                folder.mark(staged, str(place), manifest.digest)
    return _artifact(place, manifest)


def find(
    source: Reference | str, *, credentials: Credentials | None = None, options: RemoteOptions | None = None
) -> Artifact | None:
    """What is at `source`, without its files; None where there is nothing. Errors as for a pull."""
    place = _parsed(source)
    with open_store(place, Action.PULL, credentials, options or RemoteOptions()) as store:
        manifest = store.resolve()
    return None if manifest is None else _artifact(place, manifest)


def tag(
    source: Reference | str,
    new_tag: str,
    *,
    credentials: Credentials | None = None,
    options: RemoteOptions | None = None,
) -> Artifact:
    """Let `new_tag` of the same place point at the artifact; moves the tag if it points elsewhere."""
    place = _parsed(source)
    target = place.with_tag(new_tag)
    with open_store(place, Action.PUSH, credentials, options or RemoteOptions()) as store:
        manifest = store.resolve()
        if manifest is None:
            raise InputError(f"{place} does not exist, so it cannot be tagged {new_tag}", reason="NotFound")
        store.put_manifest(manifest, new_tag)
    return _artifact(target, manifest)


def _parsed(reference: Reference | str) -> Reference:
    return ArtifactReference.parse(reference) if isinstance(reference, str) else reference


def _artifact(reference: Reference, manifest: Manifest) -> Artifact:
    return Artifact(
        reference=reference,
        digest=manifest.digest,
        annotations=manifest.annotations,
        size=manifest.size,
        artifact_type=manifest.artifact_type,
    )


def _files(directory: Path) -> dict[str, Path]:
    """Title to path, sorted by title."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder, so it cannot be pushed")
    with disk_errors(directory):
        found = {path.relative_to(directory).as_posix(): path for path in _walk(directory)}
    if not found:
        raise InputError(f"{directory} has no files to push")
    return dict(sorted(found.items()))


def _walk(directory: Path) -> Iterator[Path]:
    """Every file below; a link to a folder may lead anywhere, a pipe never ends, so both are refused."""
    for parent, folders, names in os.walk(directory, onerror=_reraise):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for path in (Path(parent, name) for name in (*links, *names) if name != MARKER):
            if not path.is_file() or not path.name.isprintable():
                raise InputError(
                    f"{str(path)!r} is not a plainly named file or a link to one; remove it first"
                )
            yield path


def _reraise(error: OSError) -> None:
    raise error


def _layer(path: Path, title: str, media: ArtifactMedia) -> Descriptor:
    with disk_errors(path):
        digest, size = digest_file(path)
    return Descriptor(
        media_type=media.layer_type(title), digest=digest, size=size, annotations={TITLE: title}
    )


def _complete(store: Store, manifest: Manifest) -> bool:
    """Whether the target points at the manifest and has all that it lists."""
    there = store.resolve()
    return there is not None and there.digest == manifest.digest and all(store.has(b) for b in manifest.blobs)


def _push(store: Store, manifest: Manifest, files: Mapping[str, Path], tag_name: str) -> None:
    contents: dict[str, Path | bytes] = {EMPTY_CONFIG.digest: EMPTY_CONTENT}
    contents |= {layer.digest: files[layer.title] for layer in manifest.layers if layer.title}
    for blob in manifest.blobs:
        try:
            store.put_blob(blob, contents[blob.digest])
        except KairayError as error:
            if error.reason == "DigestMismatch":
                raise TransientError(f"{blob.title} changed while it was pushed; push it again") from error
            raise
    store.put_manifest(manifest, tag_name)


def _tag_of(target: Reference) -> str:
    return target.tag if isinstance(target, LayoutReference) else target.version
