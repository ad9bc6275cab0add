"""Files written so that nobody ever sees half of one: locks, atomic replacement, checked copies."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kairay.errors import HostError, InputError, KairayError
from kairay.registry.manifest import Descriptor, digest_of

CHUNK = 2**20
"""Bytes held in memory at a time, whatever a blob's size."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals about `path` into a HostError (DiskFull or DiskError) with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # requests' and gzip's errors are OSErrors without a number
            raise
        if error.errno in _FULL:
            raise HostError(
                f"{path}: the disk is full; free some space and run it again", reason="DiskFull"
            ) from error
        raise HostError(
            f"{error.filename or path}: {os.strerror(error.errno)}; give a folder that this user may write",
            reason="DiskError",
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` alone, waiting for it; the system lets go of it when a process dies."""
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_after_cleaning(path: Path, leftovers: Iterable[Path]) -> Iterator[None]:
    """Hold the lock file at `path` with others; whoever finds nobody there first removes `leftovers` of the
    dead.

    `leftovers` is evaluated under the exclusive lock: give a generator.
    """
    with path.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            for leftover in leftovers:
                leftover.unlink(missing_ok=True)
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def replace_file(path: Path, content: bytes) -> None:
    """Give `path` this content, all or nothing, also across a power cut; the caller holds a lock."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes in pieces of at most CHUNK."""
    with path.open("rb") as handle:
        while piece := handle.read(CHUNK):
            yield piece


def digest_file(path: Path) -> tuple[str, int]:
    """`sha256:` digest and size of a file, read once."""
    running, size = hashlib.sha256(), 0
    for piece in read_chunks(path):
        running.update(piece)
        size += len(piece)
    return f"sha256:{running.hexdigest()}", size


def write_checked(pieces: Iterable[bytes], destination: Path, blob: Descriptor, where: str) -> None:
    """Write `pieces` durably to `destination` and check them against `blob`.

    Raises KairayError (reason DigestMismatch) that names the blob; the destination is then gone.
    """
    try:
        with destination.open("wb") as handle:
            written = _write_hashed(pieces, handle, blob.size)
            handle.flush()
            os.fsync(handle.fileno())
        _check_written(written, blob, where)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def check_small(blob: Descriptor, where: str, *, most: int) -> None:
    """InputError for a blob that says of itself that it has more than `most` bytes."""
    if blob.size > most:
        raise InputError(
            f"{where}: {blob.title or blob.digest} has {blob.size} bytes, more than the {most} that one may have"
        )


def check_content(content: bytes, blob: Descriptor, where: str) -> bytes:
    """`content`, when it is the blob's; KairayError (DigestMismatch) names a corrupt one."""
    _check_written((digest_of(content), len(content)), blob, where)
    return content


def _write_hashed(pieces: Iterable[bytes], handle: BinaryIO, limit: int) -> tuple[str, int]:
    """Digest and size of what was written; stops at the first piece beyond `limit`."""
    running, size = hashlib.sha256(), 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            break
        running.update(piece)
        handle.write(piece)
    return f"sha256:{running.hexdigest()}", size


def _check_written(written: tuple[str, int], blob: Descriptor, where: str) -> None:
    if written != (blob.digest, blob.size):
        named = f" ({blob.title})" if blob.title else ""
        raise KairayError(
            f"{where}: blob {blob.digest}{named} is corrupt: what it holds does not have that digest and "
            f"{blob.size} bytes; delete it there and push the artifact again",
            reason="DigestMismatch",
        )
