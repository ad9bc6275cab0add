"""The fake API server keeps the contract that the controller is tested against."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from kairay.errors import TransientError
from kairay.kube.errors import AbsentError, ConflictError, GoneError
from kairay.kube.fake import FakeCluster
from kairay.kube.interface import Cluster, EventType, WatchEvent
from kairay.kube.objects import CONFIG_MAP, NODE, RAY_JOB, WORKSPACE, Key, Kind, Manifest, key_of, uid_of

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 10))


def thing(kind: Kind = CONFIG_MAP, name: str = "a", namespace: str = "ns", **rest: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, **rest.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}


def test_it_is_a_cluster() -> None:
    cluster: Cluster = FakeCluster()
    assert run(cluster.get(Key(NODE, "", "n"))) is None


def test_apply_makes_an_object_with_uid_version_and_generation() -> None:
    made = run(FakeCluster().apply(thing(data={"x": "1"})))
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"]


def test_applying_the_same_again_changes_no_version_and_another_spec_counts_a_generation() -> None:
    cluster = FakeCluster()
    first = run(cluster.apply(thing(RAY_JOB, spec={"a": 1})))
    assert run(cluster.apply(thing(RAY_JOB, spec={"a": 1}))) == first
    assert run(cluster.apply(thing(RAY_JOB, spec={"a": 2})))["metadata"]["generation"] == 2
    assert cluster.writes == 3


def test_apply_removes_what_it_applied_before_and_keeps_what_others_wrote() -> None:
    cluster = FakeCluster()
    run(cluster.apply(thing(data={"ours": "1", "both": "1"})))
    cluster.put(thing(data={"ours": "1", "both": "1", "theirs": "1"}))
    assert run(cluster.apply(thing(data={"both": "2"})))["data"] == {"both": "2", "theirs": "1"}


def test_apply_leaves_the_status_alone_and_apply_status_leaves_the_spec_alone() -> None:
    cluster = FakeCluster()
    run(cluster.apply(thing(WORKSPACE, spec={"a": 1}, status={"no": 1})))
    written = run(cluster.apply_status(thing(WORKSPACE, spec={"a": 2}, status={"yes": 1})))
    assert (written["spec"], written["status"]) == ({"a": 1}, {"yes": 1})
    assert written["metadata"]["generation"] == 1


def test_the_status_of_an_object_that_is_not_there_cannot_be_written() -> None:
    with pytest.raises(AbsentError, match="Workspace ns/a is not there"):
        run(FakeCluster().apply_status(thing(WORKSPACE, status={})))


def test_a_stale_version_or_another_uid_is_a_conflict() -> None:
    cluster = FakeCluster()
    first = run(cluster.create(thing(data={"x": "1"})))
    run(cluster.replace({**first, "data": {"x": "2"}}))
    with pytest.raises(ConflictError):
        run(cluster.replace({**first, "data": {"x": "3"}}))
    with pytest.raises(ConflictError):
        run(cluster.apply(thing(metadata={"uid": "other"})))
    with pytest.raises(ConflictError):
        run(cluster.create(thing()))


def test_delete_asks_for_the_uid_and_takes_what_is_owned_with_it() -> None:
    cluster = FakeCluster()
    owner = run(cluster.apply(thing(WORKSPACE)))
    owned = thing(RAY_JOB, name="job", metadata={"ownerReferences": [{"uid": uid_of(owner)}]})
    run(cluster.apply(owned))
    with pytest.raises(ConflictError):
        run(cluster.delete(key_of(owner), uid="other"))
    run(cluster.delete(key_of(owner), uid=uid_of(owner)))
    run(cluster.delete(key_of(owner)))
    assert cluster.all(RAY_JOB) == []


def test_a_finalizer_holds_a_deleted_object_until_it_is_let_go() -> None:
    cluster = FakeCluster()
    run(cluster.apply(thing(WORKSPACE, metadata={"finalizers": ["kairay.dev/x"]})))
    run(cluster.delete(Key(WORKSPACE, "ns", "a")))
    held = cluster.find(WORKSPACE, "ns", "a")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    run(cluster.apply(thing(WORKSPACE)))
    assert cluster.find(WORKSPACE, "ns", "a") is None


def test_list_selects_by_namespace_and_labels() -> None:
    cluster = FakeCluster()
    for name, namespace, labels in (("a", "n1", {"l": "1"}), ("b", "n1", {}), ("c", "n2", {"l": "2"})):
        cluster.put(thing(name=name, namespace=namespace, metadata={"labels": labels}))

    def names(**how: Any) -> str:
        return "".join(item["metadata"]["name"] for item in run(cluster.list(CONFIG_MAP, **how))[0])

    assert names() == "abc"
    assert names(namespace="n1") == "ab"
    assert names(labels={"l": None}) == "ac"
    assert names(labels={"l": "2"}) == "c"


async def collect(cluster: FakeCluster, since: str, count: int, **how: Any) -> list[WatchEvent]:
    events: list[WatchEvent] = []
    async for event in cluster.watch(CONFIG_MAP, resource_version=since, **how):
        events.append(event)
        if len(events) == count:
            break
    return events


def test_a_watch_tells_what_changed_since_and_what_changes_then() -> None:
    async def scenario() -> list[str]:
        cluster = FakeCluster()
        _, version = await cluster.list(CONFIG_MAP)
        cluster.put(thing(data={"x": "1"}))
        watching = asyncio.create_task(collect(cluster, version, 3))
        await asyncio.sleep(0)
        cluster.put(thing(data={"x": "2"}))
        cluster.remove(Key(CONFIG_MAP, "ns", "a"))
        return [event.type for event in await watching]

    assert run(scenario()) == ["ADDED", "MODIFIED", "DELETED"]


def test_an_object_that_loses_its_label_is_deleted_to_a_watch_of_the_label() -> None:
    async def scenario() -> list[EventType]:
        cluster = FakeCluster()
        cluster.put(thing(metadata={"labels": {"l": "1"}}))
        cluster.put(thing())
        return [event.type for event in await collect(cluster, "1", 2, labels={"l": None})]

    assert run(scenario()) == [EventType.ADDED, EventType.DELETED]


def test_a_watch_ends_when_the_connection_does_and_is_gone_when_history_is() -> None:
    async def scenario() -> None:
        cluster = FakeCluster()
        watching = asyncio.create_task(collect(cluster, "1", 1))
        for _ in range(3):
            await asyncio.sleep(0)
        cluster.disconnect()
        assert await watching == []
        cluster.forget_history()
        with pytest.raises(GoneError):
            await collect(cluster, "1", 1)

    run(scenario())


def test_failures_are_injected_by_verb_and_kind() -> None:
    cluster = FakeCluster()
    cluster.fail_next("apply", RAY_JOB, TransientError("down"))
    run(cluster.apply(thing()))
    with pytest.raises(TransientError, match="down"):
        run(cluster.apply(thing(RAY_JOB)))
    run(cluster.apply(thing(RAY_JOB)))
    assert cluster.calls["apply", "RayJob"] == 2
