"""An OCI image layout on disk (OCI image specification 1.1, image-layout.md), read and written.

Several processes may push into one layout at once, and any of them may be killed: blobs and the index
appear by renaming, the index changes under a lock, and what a dead process left is removed by the next
push. Files of other kinds may live in the same folder.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kairay.errors import InputError, KairayError
from kairay.registry.disk import (
    check_content,
    check_small,
    disk_errors,
    locked,
    read_chunks,
    replace_file,
    shared_after_cleaning,
    sync_folder,
    write_checked,
)
from kairay.registry.manifest import (
    INDEX_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    digest_of,
    parse_descriptor,
    parse_manifest,
)
from kairay.registry.reference import LayoutReference

REF_NAME = "org.opencontainers.image.ref.name"
_VERSION = "1.0.0"
_PARTIAL = ".blob-"
_INDEX_LOCK = ".index.lock"
_WRITERS_LOCK = ".writers.lock"


class LayoutStore:
    """One tag of a layout; the folder becomes a layout at the first push."""

    def __init__(self, reference: LayoutReference) -> None:
        self._reference = reference
        self._root = reference.path

    def resolve(self) -> Manifest | None:
        """The manifest under the tag; InputError where the folder's index cannot be read as one."""
        with disk_errors(self._root):
            entry = next((e for e in self._entries() if _ref_name(e) == self._reference.tag), None)
            return None if entry is None else self._manifest(self._descriptor(entry))

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob file of that name and size is there (its content is checked when it is read)."""
        with disk_errors(self._root):
            path = self._blob_path(blob)
            return path.is_file() and path.stat().st_size == blob.size

    def put_blob(self, blob: Descriptor, content: Path | bytes) -> None:
        """Copy a blob in, checked on the way, unless it is there."""
        with disk_errors(self._root):
            self._prepare()
            if not self.has(blob):
                self._write(blob, [content] if isinstance(content, bytes) else read_chunks(content))

    def put_manifest(self, manifest: Manifest, tag: str) -> None:
        """Store the manifest, then point `tag` at it; other tags stay as they are."""
        self.put_blob(manifest.descriptor, manifest.body)
        entry = manifest.descriptor.to_json() | {"annotations": {REF_NAME: tag}}
        if manifest.artifact_type:
            entry["artifactType"] = manifest.artifact_type
        with disk_errors(self._root), locked(self._root / _INDEX_LOCK):
            kept = [e for e in self._entries() if _ref_name(e) != tag]
            entries = sorted([*kept, entry], key=lambda e: (_ref_name(e) or "", e["digest"]))
            index = self._index() | {"manifests": entries}
            replace_file(self._root / "index.json", canonical_json(index))

    def fetch(self, blob: Descriptor, destination: Path) -> None:
        """Copy a blob out, checked on the way."""
        source = self._blob_path(blob)
        with disk_errors(source):
            if not source.is_file():
                raise _missing(self._reference, blob)
            write_checked(read_chunks(source), destination, blob, str(source))

    def read(self, blob: Descriptor, *, most: int) -> bytes:
        """A small blob's content, checked."""
        check_small(blob, str(self._reference), most=most)
        source = self._blob_path(blob)
        with disk_errors(source):
            if not source.is_file():
                raise _missing(self._reference, blob)
            with source.open("rb") as file:
                return check_content(file.read(blob.size + 1), blob, str(source))

    def _write(self, blob: Descriptor, pieces: Iterable[bytes]) -> None:
        path = self._blob_path(blob)
        with self._writing() as partial:
            try:
                write_checked(pieces, partial, blob, f"the copy into {self._reference}")
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        sync_folder(path.parent)

    @contextmanager
    def _writing(self) -> Iterator[Path]:
        leftovers = (path for path in self._root.glob(f"{_PARTIAL}*"))
        with shared_after_cleaning(self._root / _WRITERS_LOCK, leftovers):
            with tempfile.NamedTemporaryFile(dir=self._root, prefix=_PARTIAL, delete=False) as handle:
                partial = Path(handle.name)
            partial.chmod(0o644)
            yield partial

    def _prepare(self) -> None:
        (self._root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        marker = self._root / "oci-layout"
        if not marker.exists():
            with locked(self._root / _INDEX_LOCK):
                replace_file(marker, canonical_json({"imageLayoutVersion": _VERSION}))
        self._check_version(marker)

    def _check_version(self, marker: Path) -> None:
        found = _read_json(marker).get("imageLayoutVersion")
        if found != _VERSION:
            raise InputError(
                f"{marker} says layout version {found!r}, Kairay writes {_VERSION}; give another folder"
            )

    def _index(self) -> dict[str, Any]:
        path = self._root / "index.json"
        if not path.exists():
            return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        return _read_json(path)

    def _entries(self) -> list[dict[str, Any]]:
        entries = self._index().get("manifests")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(
                f"{self._root / 'index.json'} is not the index of an OCI image layout; give another folder"
            )
        return entries

    def _descriptor(self, entry: dict[str, Any]) -> Descriptor:
        try:
            return parse_descriptor(entry)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self._root / 'index.json'} has a broken entry for the tag {self._reference.tag}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        path = self._blob_path(descriptor)
        if not path.is_file():
            raise _missing(self._reference, descriptor)
        body = path.read_bytes()
        if digest_of(body) != descriptor.digest:
            raise KairayError(
                f"{path} is corrupt: its digest is not the one it is named by; delete it and push again",
                reason="DigestMismatch",
            )
        read = parse_manifest(body, str(self._reference))
        return read if isinstance(read, Manifest) else self._manifest(read)

    def _blob_path(self, blob: Descriptor) -> Path:
        return self._root / "blobs" / Path(*blob.digest.split(":"))


def _ref_name(entry: dict[str, Any]) -> str | None:
    name = (entry.get("annotations") or {}).get(REF_NAME)
    return name if isinstance(name, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}; delete it or give another folder") from error
    if not isinstance(read, dict):
        raise InputError(f"{path} is not a JSON object; delete it or give another folder")
    return read


def _missing(reference: LayoutReference, blob: Descriptor) -> KairayError:
    named = f" ({blob.title})" if blob.title else ""
    return KairayError(
        f"{reference} lacks its blob {blob.digest}{named}; push the artifact again", reason="DigestMismatch"
    )
