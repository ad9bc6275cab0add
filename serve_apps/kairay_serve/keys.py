"""API keys: read from a mounted Secret, read again when it changes, compared without telling how near a guess is.

Only hashes are kept. Fails closed: where a key is required and none can be read, nobody is let in.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kairay_serve.api_errors import ApiError, no_keys, unauthorized

CHECK_SECONDS = 1.0
"""How often, at most, the file system is asked whether the keys are still the same."""

_TRIES = 3

Stamp = tuple[tuple[str, int, int, int], ...]


class ApiKeys:
    """The keys of one replica; `required` may change while it runs."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.required = path is not None
        """Until Serve's `user_config` says otherwise: whoever mounts keys means them."""
        self._path = path
        self._clock = clock
        self._checked: float | None = None
        self._stamp: Stamp | None = None
        self._hashes: tuple[bytes, ...] = ()

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiError | None:
        """Why a request with these (lower-case) headers may not pass: 401, or 503 where there are no keys."""
        if not self.required:
            return None
        self._read_again()
        if not self._hashes:
            return no_keys()
        offered = tuple(_offered(headers))
        if any(self._knows(key) for key in offered):
            return None
        return unauthorized(missing=not offered)

    def _knows(self, key: bytes) -> bool:
        # A sum, because `any` would stop at the key that it found: each comparison is made.
        asked = _hash(key)
        return sum(hmac.compare_digest(asked, known) for known in self._hashes) > 0

    def _read_again(self) -> None:
        now = self._clock()
        if self._checked is not None and now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        for _ in range(_TRIES):
            try:
                self._read()
            except OSError:  # swapped while it was read, or not ours to read
                self._hashes, self._stamp = (), None
            else:
                return

    def _read(self) -> None:
        files = sorted(_files(self._path)) if self._path is not None else []
        # Before the reading: a Secret that is swapped in between has another stamp next time.
        stamp = tuple(_stamp(file) for file in files)
        if stamp != self._stamp:
            self._hashes = tuple(_hash(key) for file in files for key in _keys(file))
            self._stamp = stamp


def _files(path: Path) -> Iterator[Path]:
    """Kubernetes mounts a key as a link into a hidden folder, which it swaps as a whole."""
    if path.is_dir():
        yield from (file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    elif path.is_file():
        yield path


def _stamp(file: Path) -> tuple[str, int, int, int]:
    status = file.stat()
    return file.name, status.st_ino, status.st_mtime_ns, status.st_size


def _keys(file: Path) -> list[bytes]:
    return [line.strip() for line in file.read_bytes().splitlines() if line.strip()]


def _offered(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    for name, value in headers:
        scheme, _, token = value.strip().partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer" and token.strip():
            yield token.strip()
        elif name == b"x-api-key" and value.strip():
            yield value.strip()


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
