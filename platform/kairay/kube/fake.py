"""An API server in memory, for tests: it keeps the contract of kairay.kube.interface and nothing more.

It knows no schemas and no defaults, and no rights beyond what `may` answers. Versions are one counter; `now` stamps
what carries a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kairay.errors import KairayError
from kairay.kube.errors import AbsentError, ConflictError
from kairay.kube.fake_history import History
from kairay.kube.interface import Labels, Right, WatchEvent
from kairay.kube.merge import copied, merged
from kairay.kube.objects import Key, Kind, Manifest, Trim, key_of, kind_of, labels_of, uid_of, version_of

WRITES = frozenset({"apply", "apply_status", "create", "replace", "delete"})
_GIVEN = ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp", "managedFields")
"""Metadata that the server writes."""


class FakeCluster:
    """An API server in memory, with the handles that tests need.

    `calls` counts every call by (verb, kind), `writes` is the sum of those that write. `put`, `set_status` and
    `remove` act as others do (a user, KubeRay's operator): they count nothing. `fail_next` makes calls fail,
    `says` is what `discover` finds by path, `denied` are rights as they are written. `disconnect` ends the running
    watches, `forget_history` makes older resourceVersions Gone.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.log_texts: dict[Key, str] = {}
        self.says: dict[str, Manifest] = {}
        self.denied: set[str] = set()
        self.history = History()
        self._now = now
        self._objects: dict[Key, Manifest] = {}
        self._applied: dict[tuple[Key, str], Manifest] = {}
        self._failures: list[tuple[str, Kind | None, KairayError]] = []
        self._made = 0

    # -- what tests do ------------------------------------------------------------------------------------------

    @property
    def writes(self) -> int:
        """Calls that wrote, or asked to."""
        return sum(count for (verb, _), count in self.calls.items() if verb in WRITES)

    def fail_next(self, verb: str, kind: Kind | None, error: KairayError, *, times: int = 1) -> None:
        """The next `times` calls of `verb` (`watch` too) on `kind`, or on any kind, raise `error`."""
        self._failures += [(verb, kind, error)] * times

    def find(self, kind: Kind, namespace: str = "", name: str = "") -> Manifest | None:
        """An object, without counting a call."""
        return copied(self._objects.get(Key(kind, namespace, name)))

    def all(self, kind: Kind) -> list[Manifest]:
        """Every object of a kind, by namespace and name, without counting a call."""
        return [copied(self._objects[key]) for key in sorted(self._objects) if key.kind == kind]

    def put(self, manifest: Manifest) -> Manifest:
        """Write a whole object, status too, as somebody else does; it is made where it is not there."""
        key, wanted = key_of(manifest), copied(manifest)
        old = self._objects.get(key)
        return self._store(key, wanted if old is None else self._kept(old, wanted))

    def set_status(self, key: Key, status: dict[str, Any]) -> Manifest:
        """Write a whole status, as the object's own controller does."""
        return self._store(key, {**self._objects[key], "status": copied(status)})

    def remove(self, key: Key) -> None:
        """Delete as somebody else does; finalizers hold it."""
        if key in self._objects:
            self._delete(key)

    def disconnect(self) -> None:
        """End every running watch."""
        self.history.disconnect()

    def forget_history(self) -> None:
        """Make every older resourceVersion Gone."""
        self.history.forget()

    # -- the contract -------------------------------------------------------------------------------------------

    async def get(self, key: Key) -> Manifest | None:
        """See Cluster."""
        await self._call("get", key.kind)
        return copied(self._objects.get(key))

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Labels | None = None,
        fields: Mapping[str, str] | None = None,
        trim: Trim | None = None,
    ) -> tuple[list[Manifest], str]:
        """See Cluster."""
        await self._call("list", kind)
        found = [
            item
            for item in self.all(kind)
            if selects(labels, item)
            and namespace in (None, item["metadata"].get("namespace", ""))
            and all(_at(item, path) == value for path, value in (fields or {}).items())
        ]
        return [trim(item) for item in found] if trim else found, str(self.history.version)

    async def apply(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        key, old = await self._look("apply", manifest)
        _check(key, manifest, old)
        wanted = copied({name: value for name, value in manifest.items() if name != "status"})
        for name in _GIVEN:
            wanted["metadata"].pop(name, None)
        return self._merge(key, "", old or {}, wanted)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        key, old = await self._look("apply_status", manifest)
        if old is None:
            raise AbsentError(f"{key} is not there, so its status cannot be written")
        _check(key, manifest, old)
        return self._merge(key, "status", old, {"status": copied(manifest.get("status", {}))})

    async def create(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        await self._call("create", kind_of(manifest))
        wanted = copied(manifest)
        metadata = wanted["metadata"]
        if "name" not in metadata:
            self._made += 1
            metadata["name"] = f"{metadata['generateName']}{self._made:05d}"
        key = key_of(wanted)
        if key in self._objects:
            raise ConflictError(f"{key} is there already")
        return self._store(key, wanted)

    async def replace(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        key, old = await self._look("replace", manifest)
        if old is None:
            raise AbsentError(f"{key} is not there, so it cannot be replaced")
        _check(key, manifest, old)
        return self._store(key, self._kept(old, copied(manifest)))

    async def delete(self, key: Key, *, uid: str | None = None) -> None:
        """See Cluster."""
        await self._call("delete", key.kind)
        found = self._objects.get(key)
        if found is None:
            return
        if uid is not None and uid_of(found) != uid:
            raise ConflictError(f"{key} is another object by now: its uid is {uid_of(found)}, not {uid}")
        self._delete(key)

    async def watch(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Labels | None = None,
        resource_version: str,
    ) -> AsyncIterator[WatchEvent]:
        """See Cluster."""
        await self._call("watch", kind)
        changes = self.history.follow(kind, namespace, lambda item: selects(labels, item), resource_version)
        async for event in changes:
            yield event

    async def logs(self, key: Key, *, container: str | None = None, tail: int | None = None) -> str:
        """See Cluster; tests put texts into `log_texts`."""
        await self._call("logs", key.kind)
        if key not in self._objects:
            raise AbsentError(f"{key} is not there, so it has no log")
        lines = self.log_texts.get(key, "").splitlines(keepends=True)
        return "".join(lines if tail is None else lines[-tail:])

    async def discover(self, path: str) -> Manifest | None:
        """See Cluster."""
        await self._call("discover", None)
        return copied(self.says.get(path))

    async def may(self, right: Right) -> bool:
        """See Cluster."""
        await self._call("may", None)
        return str(right) not in self.denied

    # -- inside -------------------------------------------------------------------------------------------------

    async def _call(self, verb: str, kind: Kind | None) -> None:
        await asyncio.sleep(0)
        self.calls[verb, "" if kind is None else kind.kind] += 1
        for position, (failing, of_kind, error) in enumerate(self._failures):
            if failing == verb and of_kind in (None, kind):
                del self._failures[position]
                raise error

    async def _look(self, verb: str, manifest: Manifest) -> tuple[Key, Manifest | None]:
        key = key_of(manifest)
        await self._call(verb, key.kind)
        return key, self._objects.get(key)

    def _merge(self, key: Key, part: str, old: Manifest, wanted: Manifest) -> Manifest:
        result = merged(old, self._applied.get((key, part), {}), wanted)
        stored = self._store(key, result)
        if key in self._objects:
            self._applied[key, part] = wanted
        return stored

    @staticmethod
    def _kept(old: Manifest, wanted: Manifest) -> Manifest:
        """`wanted` with the metadata that the server wrote."""
        given = {name: old["metadata"][name] for name in _GIVEN if name in old["metadata"]}
        return {**wanted, "metadata": {**wanted["metadata"], **given}}

    def _store(self, key: Key, wanted: Manifest) -> Manifest:
        old, metadata = self._objects.get(key), wanted["metadata"]
        if old is None:
            self._made += 1
            metadata |= {"uid": f"uid-{self._made:06d}", "generation": 1, "creationTimestamp": self._stamp()}
        elif wanted == old:
            return copied(old)
        elif _spec(wanted) != _spec(old):
            metadata["generation"] = old["metadata"]["generation"] + 1
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            self._drop(key)
            return copied(wanted)
        metadata["resourceVersion"] = self.history.next_version()
        self._objects[key] = wanted
        self.history.add(key.kind, copied(old), copied(wanted))
        return copied(wanted)

    def _delete(self, key: Key) -> None:
        found = self._objects[key]
        if not found["metadata"].get("finalizers"):
            self._drop(key)
        elif "deletionTimestamp" not in found["metadata"]:
            self._store(key, {**found, "metadata": found["metadata"] | {"deletionTimestamp": self._stamp()}})

    def _drop(self, key: Key) -> None:
        """Take it out, and what only it owned."""
        gone = self._objects.pop(key)
        for part in ("", "status"):
            self._applied.pop((key, part), None)
        gone = {**gone, "metadata": gone["metadata"] | {"resourceVersion": self.history.next_version()}}
        self.history.add(key.kind, gone, None)
        for owned in [k for k, item in self._objects.items() if self._is_orphan_of(item, uid_of(gone))]:
            if owned in self._objects:
                self._delete(owned)

    def _is_orphan_of(self, item: Manifest, uid: str) -> bool:
        owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
        return uid in owners and not owners & {uid_of(other) for other in self._objects.values()}

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def selects(labels: Labels | None, manifest: Manifest) -> bool:
    """Whether the object has these labels."""
    found = labels_of(manifest)
    return all(name in found and value in (None, found[name]) for name, value in (labels or {}).items())


def _spec(manifest: Manifest) -> Manifest:
    return {name: value for name, value in manifest.items() if name not in ("metadata", "status")}


def _check(key: Key, manifest: Manifest, old: Manifest | None) -> None:
    """ConflictError unless uid and resourceVersion, where given, are the object's."""
    uid, version = uid_of(manifest), version_of(manifest)
    if (uid and (old is None or uid_of(old) != uid)) or (
        version and (old is None or version_of(old) != version)
    ):
        raise ConflictError(f"{key} changed since it was read; read it again", retry_after=1.0)


def _at(manifest: Manifest, path: str) -> Any:
    """What a dotted path leads to; empty where it leads nowhere, as the API server sees it."""
    found: Any = manifest
    for part in path.split("."):
        found = (found or {}).get(part)
    return found or ""
