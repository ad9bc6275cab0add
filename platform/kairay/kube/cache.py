"""A copy of all objects of one kind, kept in step by a watch."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

from kairay.errors import TransientError
from kairay.kube.errors import GoneError
from kairay.kube.interface import Cluster, EventType, Labels
from kairay.kube.objects import Kind, Manifest, Trim, drop_bookkeeping, labels_of, version_of
from kairay.objects.metadata import WORKSPACE_LABEL

Change = Callable[[Kind, Manifest | None, Manifest | None], None]
"""Called with (kind, old, new) for every object that came, changed or went."""
Sleep = Callable[[float], Awaitable[None]]

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
_Name = tuple[str, str]


class Cache:
    """Objects of one kind by namespace and name, and by the Workspace whose label they carry."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        *,
        on_change: Change,
        random: Callable[[], float],
        labels: Labels | None = None,
        namespace: str | None = None,
        trim: Trim = drop_bookkeeping,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self._cluster, self._labels, self._namespace = cluster, labels, namespace
        self._on_change, self._random, self._trim, self._sleep = on_change, random, trim, sleep
        self._objects: dict[_Name, Manifest] = {}
        self._of_workspace: dict[_Name, set[_Name]] = defaultdict(set)
        self._version = ""

    def get(self, namespace: str, name: str) -> Manifest | None:
        """The object as last seen; not to be changed."""
        return self._objects.get((namespace, name))

    def by_label(self, namespace: str, value: str) -> Iterable[Manifest]:
        """Objects with the label of this Workspace, by name."""
        return [self._objects[name] for name in sorted(self._of_workspace.get((namespace, value), ()))]

    def all(self) -> Iterable[Manifest]:
        """Every object."""
        return list(self._objects.values())

    async def run(self) -> None:
        """Until cancelled: list, then watch; after trouble again, with growing pauses."""
        wait = FIRST_WAIT
        while True:
            before = self._version
            try:
                if not self._version:
                    self._version = await self._list()
                await self._follow()
                wait = FIRST_WAIT
                if self._version != before:
                    continue
            except GoneError:
                self._version = ""
            except TransientError:
                if self._version != before:
                    wait = FIRST_WAIT
            await self._sleep(wait * (0.5 + self._random()))
            wait = min(LONGEST_WAIT, wait * 2)

    async def _list(self) -> str:
        found, version = await self._cluster.list(
            self.kind, namespace=self._namespace, labels=self._labels, trim=self._trim
        )
        fresh = {_name(each): each for each in found}
        for name in [name for name in self._objects if name not in fresh]:
            self._drop(name)
        for name, each in fresh.items():
            self._put(name, each)
        self.synced.set()
        return version

    async def _follow(self) -> None:
        """Take events until the watch ends; the next one goes on after the last of them."""
        events = self._cluster.watch(
            self.kind, namespace=self._namespace, labels=self._labels, resource_version=self._version
        )
        async for event in events:
            if event.type is EventType.DELETED:
                self._drop(_name(event.object))
            elif event.type is not EventType.BOOKMARK:
                self._put(_name(event.object), self._trim(event.object))
            # Also when the connection breaks: going over old events again would turn the copy back.
            self._version = version_of(event.object) or self._version

    def _put(self, name: _Name, new: Manifest) -> None:
        old = self._objects.get(name)
        if old is not None and version_of(old) == version_of(new):
            return
        self._objects[name] = new
        self._index(name, old, new)
        self._on_change(self.kind, old, new)

    def _drop(self, name: _Name) -> None:
        old = self._objects.pop(name, None)
        if old is not None:
            self._index(name, old, None)
            self._on_change(self.kind, old, None)

    def _index(self, name: _Name, old: Manifest | None, new: Manifest | None) -> None:
        before, after = _workspace(old), _workspace(new)
        if before != after and before is not None:
            self._of_workspace[before].discard(name)
            if not self._of_workspace[before]:
                del self._of_workspace[before]
        if after is not None:
            self._of_workspace[after].add(name)


def _name(manifest: Manifest) -> _Name:
    return manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]


def _workspace(manifest: Manifest | None) -> _Name | None:
    value = None if manifest is None else labels_of(manifest).get(WORKSPACE_LABEL)
    return None if manifest is None or value is None else (manifest["metadata"].get("namespace", ""), value)
