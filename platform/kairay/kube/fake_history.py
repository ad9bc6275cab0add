"""The fake API server's memory of changes, and the watches that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from kairay.kube.errors import GoneError
from kairay.kube.interface import EventType, WatchEvent
from kairay.kube.merge import copied
from kairay.kube.objects import Kind, Manifest


@dataclass(frozen=True, slots=True)
class Change:
    """An object before and after; None for not there."""

    version: int
    kind: Kind
    old: Manifest | None
    new: Manifest | None


class History:
    """Every change since the last `forget`, in order."""

    def __init__(self) -> None:
        self.version = 1
        self._changes: list[Change] = []
        self._forgotten = 0
        self._cut = 0
        self._news = asyncio.Event()

    def next_version(self) -> str:
        """Count on."""
        self.version += 1
        return str(self.version)

    def add(self, kind: Kind, old: Manifest | None, new: Manifest | None) -> None:
        """Remember a change, and wake who follows."""
        self._changes.append(Change(self.version, kind, old, new))
        self._wake()

    def disconnect(self) -> None:
        """End every watch that runs."""
        self._cut += 1
        self._wake()

    def forget(self) -> None:
        """Older versions are Gone; watches end, since they may hold one."""
        self.next_version()
        self._changes.clear()
        self._forgotten = self.version
        self.disconnect()

    async def follow(
        self, kind: Kind, namespace: str | None, selects: Callable[[Manifest], bool], since: str
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `since`, then news as they come, until `disconnect`."""
        seen, cut = int(since), self._cut
        if seen < self._forgotten:
            raise GoneError(f"resource version {since} is too old")
        while cut == self._cut:
            news = self._news
            changes, seen = [change for change in self._changes if change.version > seen], self.version
            for change in changes:
                event = _event(change, selects)
                if event and change.kind == kind and _is_in(namespace, event.object):
                    yield event
            if news is self._news:
                await news.wait()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _is_in(namespace: str | None, manifest: Manifest) -> bool:
    return namespace in (None, manifest["metadata"].get("namespace", ""))


def _event(change: Change, selects: Callable[[Manifest], bool]) -> WatchEvent | None:
    """What a watch of the selection sees of a change."""
    before = change.old is not None and selects(change.old)
    match change.new:
        case dict() as new if selects(new):
            return WatchEvent(EventType.MODIFIED if before else EventType.ADDED, copied(new))
        case dict() as new if before:
            return WatchEvent(EventType.DELETED, copied(new))
        case None if before and change.old is not None:
            return WatchEvent(EventType.DELETED, copied(change.old))
    return None
