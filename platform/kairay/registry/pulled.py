"""A folder that a pull makes: built beside its place, put there by a rename, and recognised later by its
marker.

One pull at a time per folder (a lock file beside it); what a killed one left is removed by the next. The
marker lists the files with their sizes, so a folder from which something was deleted is pulled again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kairay.errors import HostError, InputError
from kairay.registry.disk import locked, replace_file, sync_folder
from kairay.registry.manifest import canonical_json
from kairay.registry.unpack import MARKER

_MARGIN = 16 * 2**20
"""Bytes that must stay free."""


class PulledFolder:
    """The place `path`, to be used inside `alone()`."""

    def __init__(self, path: Path) -> None:
        self._path = path if path.is_absolute() else Path.cwd() / path
        self._beside = self._path.parent
        self._staged = self._beside / f".{self._path.name}.pull"
        self._old = self._beside / f".{self._path.name}.old"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other pulls into the same place waiting, and clear away what a dead one left."""
        self._beside.mkdir(parents=True, exist_ok=True)
        with locked(self._beside / f".{self._path.name}.lock"):
            self._clear()
            yield

    def holds(self, digest: str) -> bool:
        """Whether the folder is a finished pull of this manifest, none of its files gone or cut short."""
        marker = self._marker()
        return marker.get("digest") == digest and marker.get("files") == _sizes(self._path)

    @contextmanager
    def replaced(self, size: int) -> Iterator[Path]:
        """A new folder to fill, which takes the place at the end; on an error the place stays as it was.

        HostError (DiskFull) when fewer than `size` bytes are free; InputError for a folder that no pull made.
        """
        self._check_replaceable()
        free = shutil.disk_usage(self._beside).free
        if free < size + _MARGIN:
            raise HostError(
                f"{self._path} needs {size} bytes and {self._beside} has {free} free; "
                "free some space and run it again",
                reason="DiskFull",
            )
        self._staged.mkdir()
        try:
            yield self._staged
            self._take_place()
        finally:
            self._clear()

    def mark(self, staged: Path, source: str, digest: str) -> None:
        """Write down in the new folder what it is, as its last file."""
        for path in (p for p in staged.rglob("*") if p.is_dir()):
            sync_folder(path)
        content = {"source": source, "digest": digest, "files": _sizes(staged)}
        replace_file(staged / MARKER, canonical_json(content))

    def _take_place(self) -> None:
        if self._path.exists():
            self._path.rename(self._old)
        self._staged.rename(self._path)
        sync_folder(self._beside)

    def _clear(self) -> None:
        if self._old.exists() and not self._path.exists():
            self._old.rename(self._path)  # killed between the two renames
        for leftover in (self._staged, self._old):
            if leftover.exists():
                shutil.rmtree(leftover)

    def _check_replaceable(self) -> None:
        if not self._path.exists():
            return
        if not self._path.is_dir():
            raise InputError(f"{self._path} is a file; give a folder to pull into")
        if any(self._path.iterdir()) and not self._marker():
            raise InputError(
                f"{self._path} holds files that no pull put there; give an empty or a new folder"
            )

    def _marker(self) -> dict[str, Any]:
        try:
            read = json.loads((self._path / MARKER).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return read if isinstance(read, dict) else {}


def _sizes(folder: Path) -> dict[str, int]:
    """Every file's size but the marker's, by relative path; other files that someone added count too."""
    found = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names if name != MARKER):
            found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found
