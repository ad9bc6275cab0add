"""A folder of model folders: each is made once, by one process, and appears whole or not at all.

A model is written to a hidden folder beside its place and renamed when complete; an fcntl lock keeps a second
process from making the same one. Assumes a file system on which a rename inside one folder is atomic.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kairay.errors import HostError

_MARKER = ".kairay-model"


def model_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/kairay/models`, by default under `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kairay" / "models"


def cached_model(
    cache: Path, key: str, origin: str, make: Callable[[Path], None], report: Callable[[str], None]
) -> Path:
    """The folder `cache/key`, made by `make(empty folder)` if need be; HostError when the disk refuses.

    `origin` is written beside the files, for whoever wonders where they came from.
    """
    folder = cache / key
    if (folder / _MARKER).is_file():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{key}.lock", report):
            if not (folder / _MARKER).is_file():
                _make(folder, origin, make)
    except OSError as error:
        raise _disk_error(error, cache) from error
    return folder


def _make(folder: Path, origin: str, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(
        partial, ignore_errors=True
    )  # of a process that was killed; the lock says that nobody writes there
    partial.mkdir()
    try:
        make(partial)
        (partial / _MARKER).write_text(f"{origin}\n", "utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # a folder without a marker is not ours to serve
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel drops it when the process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is preparing this model; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _disk_error(error: OSError, cache: Path) -> HostError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostError(
            f"{cache}: the disk is full; free some space or set XDG_CACHE_HOME to a larger disk",
            reason="DiskFull",
        )
    return HostError(
        f"{cache}: models cannot be kept there ({error.strerror}); set XDG_CACHE_HOME to a folder of yours"
    )
