"""One at a time: locks on files, which the kernel drops when their owner ends, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def exclusive(path: Path, waiting: Callable[[str], None]) -> Iterator[TextIO]:
    """Hold the lock on `path`, open for its owner's note; `waiting` is given the other owner's note before a wait."""
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            waiting(handle.read().strip())
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
