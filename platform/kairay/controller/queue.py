"""Keys to be looked at: each at most once in line, never twice at a time, later and later after failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_WAIT, LONGEST_WAIT = 0.5, 300.0
_MOST_DOUBLINGS = 10
"""More of them only lead to numbers that no float holds."""


class WorkQueue(Generic[K]):
    """A queue for one event loop; `random` gives numbers from 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._at_work: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: K) -> None:
        """Look at it soon; while it is looked at, once more afterwards."""
        if key in self._at_work:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Look at it in a while; the earliest of several times counts."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known.when() <= due:
                return
            known.cancel()
        self._timers[key] = loop.call_at(due, self._ring, key)

    async def take(self) -> K:
        """The next key; `done` or `failed` has to follow."""
        key = await self._ready.get()
        self._queued.discard(key)
        self._at_work.add(key)
        return key

    def done(self, key: K) -> None:
        """Looked at well; its failures are forgotten."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: K, *, least: float = 0.0) -> float:
        """Looked at in vain; seconds until it comes again, `least` at least."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        growing = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(count, _MOST_DOUBLINGS))
        wait = max(least, growing * (0.75 + 0.5 * self._random()))
        self._finish(key)
        self.add_after(key, wait)
        return wait

    def _finish(self, key: K) -> None:
        self._at_work.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
