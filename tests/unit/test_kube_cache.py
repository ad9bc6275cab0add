"""The cache stays in step with the cluster through everything that happens to a watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from kairay.errors import TransientError
from kairay.kube.cache import Cache
from kairay.kube.fake import FakeCluster
from kairay.kube.interface import EventType, WatchEvent
from kairay.kube.objects import LAST_APPLIED, RAY_JOB, Key, Kind, Manifest

Run = Callable[[Coroutine[Any, Any, Any]], Any]
DOWN = TransientError("down")


def job(name: str, workspace: str | None = None, **metadata: Any) -> Manifest:
    labels = {"kairay.dev/workspace": workspace} if workspace else {}
    return {
        "apiVersion": RAY_JOB.api_version, "kind": RAY_JOB.kind,
        "metadata": {"name": name, "namespace": "ns", "labels": labels, **metadata},
    }  # fmt: skip


class Seen:
    """A cluster, a cache of its RayJobs, and what the cache told."""

    def __init__(self, cluster: FakeCluster | None = None) -> None:
        self.cluster = cluster or FakeCluster()
        self.told: list[str] = []
        self.cache = Cache(self.cluster, RAY_JOB, on_change=self._tell, random=lambda: 0.5)

    def _tell(self, kind: Kind, old: Manifest | None, new: Manifest | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        self.told.append(("+" if old is None else "-" if new is None else "~") + name)

    @property
    def names(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.cache.all()]

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.cache.run())
        await self.cache.synced.wait()
        yield task
        assert not task.done()
        task.cancel()


def test_it_lists_then_follows(skip_time: Run) -> None:
    async def scenario() -> list[str]:
        seen = Seen()
        seen.cluster.put(job("a"))
        async with seen.running():
            seen.cluster.put(job("b"))
            seen.cluster.set_status(Key(RAY_JOB, "ns", "a"), {"x": 1})
            seen.cluster.remove(Key(RAY_JOB, "ns", "a"))
            await asyncio.sleep(1)
        assert seen.names == ["b"]
        return seen.told

    assert skip_time(scenario()) == ["+a", "+b", "~a", "-a"]


def test_it_finds_by_workspace_and_follows_a_changed_label(skip_time: Run) -> None:
    async def scenario() -> None:
        seen = Seen()
        for each in (job("a", "w"), job("b", "w"), job("c", "other"), job("d")):
            seen.cluster.put(each)
        async with seen.running():
            seen.cluster.put(job("a", "other"))
            seen.cluster.remove(Key(RAY_JOB, "ns", "c"))
            await asyncio.sleep(1)
        assert [each["metadata"]["name"] for each in seen.cache.by_label("ns", "w")] == ["b"]
        assert [each["metadata"]["name"] for each in seen.cache.by_label("ns", "other")] == ["a"]
        assert list(seen.cache.by_label("elsewhere", "w")) == []

    skip_time(scenario())


def test_what_changed_while_the_connection_was_away_is_caught_up_with(skip_time: Run) -> None:
    async def scenario() -> list[str]:
        seen = Seen()
        async with seen.running():
            seen.cluster.fail_next("watch", RAY_JOB, DOWN, times=5)
            seen.cluster.disconnect()
            seen.cluster.put(job("a"))
            await asyncio.sleep(60)
        assert seen.cluster.calls["list", "RayJob"] == 1
        return seen.told

    assert skip_time(scenario()) == ["+a"]


def test_a_forgotten_version_makes_it_list_again_and_miss_nothing(skip_time: Run) -> None:
    async def scenario() -> list[str]:
        seen = Seen()
        seen.cluster.put(job("gone"))
        seen.cluster.put(job("same"))
        async with seen.running():
            seen.cluster.fail_next("watch", RAY_JOB, DOWN)
            seen.cluster.disconnect()
            seen.cluster.remove(Key(RAY_JOB, "ns", "gone"))
            seen.cluster.put(job("new"))
            seen.cluster.forget_history()
            await asyncio.sleep(60)
        assert sorted(seen.names) == ["new", "same"]
        return seen.told[2:]

    assert skip_time(scenario()) == ["-gone", "+new"]


def test_pauses_grow_while_the_server_is_down_and_are_short_again_afterwards(skip_time: Run) -> None:
    async def scenario() -> list[float]:
        seen, pauses = Seen(), []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.sleep(seconds)

        seen.cache._sleep = sleep
        seen.cluster.fail_next("list", RAY_JOB, DOWN, times=9)
        async with seen.running():
            seen.cluster.fail_next("watch", RAY_JOB, DOWN)
            await asyncio.sleep(1)
            seen.cluster.disconnect()
            await asyncio.sleep(60)
        return pauses

    assert skip_time(scenario()) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 0.5, 0.5]


class BreakingCluster(FakeCluster):
    """One whose watches break after every event instead of ending."""

    async def watch(self, kind: Kind, **how: Any) -> Any:
        async for event in super().watch(kind, **how):
            yield event
            raise TransientError("the connection broke")


def test_a_watch_that_breaks_goes_on_after_its_last_event_and_never_back(skip_time: Run) -> None:
    async def scenario() -> list[str]:
        seen = Seen(BreakingCluster())
        async with seen.running():
            for number in range(5):
                seen.cluster.put(job("a", None, annotations={"n": str(number)}))
            await asyncio.sleep(600)
        return seen.told

    assert skip_time(scenario()) == ["+a", "~a", "~a", "~a", "~a"]


class BookmarkingCluster(FakeCluster):
    """One that sends a bookmark first and remembers where watches began."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[str] = []

    async def watch(self, kind: Kind, *, resource_version: str, **how: Any) -> Any:
        self.began.append(resource_version)
        newest = str(self.history.version)
        yield WatchEvent(EventType.BOOKMARK, {"metadata": {"resourceVersion": newest}})
        async for event in super().watch(kind, resource_version=newest, **how):
            yield event


def test_a_bookmark_is_where_the_next_watch_begins(skip_time: Run) -> None:
    async def scenario() -> None:
        cluster = BookmarkingCluster()
        seen = Seen(cluster)
        async with seen.running():
            await asyncio.sleep(1)
            cluster.put({**job("other"), "kind": "RayCluster"})
            cluster.disconnect()
            await asyncio.sleep(1)
            cluster.disconnect()
            await asyncio.sleep(1)
        assert cluster.began[-1] == str(cluster.history.version)
        assert seen.told == []

    skip_time(scenario())


def test_bookkeeping_of_others_is_not_kept(skip_time: Run) -> None:
    async def scenario() -> Manifest | None:
        seen = Seen()
        seen.cluster.put(
            job("a", managedFields=[{"manager": "x"}], annotations={LAST_APPLIED: "{}", "b": "c"})
        )
        async with seen.running():
            return seen.cache.get("ns", "a")

    kept = skip_time(scenario())
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"b": "c"}
