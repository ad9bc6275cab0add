"""The provider against an API server in memory: what is read, why nothing comes, what is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kairay.controller.providers import open_provider
from kairay.controller.settings import read_settings
from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.kube.errors import AbsentError, DeniedError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import NODE_CLAIM, NODE_POOL
from kairay.nodes.interface import (
    GROUP_LABEL,
    NodeProvider,
    Offer,
    PoolState,
    RefusalKind,
)
from karpenter_stage import A100, GROUP, H100, World, refused, run, spec, thing

K = RefusalKind


def test_it_is_a_node_provider() -> None:
    provider: NodeProvider = World().provider
    assert run(provider.quota([A100])) == {}


def test_a_pool_reads_back_with_its_limit_as_bounds() -> None:
    pool = World().made(count=3)
    assert (pool.group, pool.offer, pool.count, pool.bounds) == (GROUP.name, A100, 0, (0, 3))
    assert (pool.state, pool.phase, pool.refusal) == (PoolState.READY, "Ready", None)


def test_a_pools_count_is_its_claims_that_are_not_going() -> None:
    world = World()
    world.made()
    world.claim("kwpool-aaaaa", Registered="True/Registered/")
    world.claim("kwpool-bbbbb", Launched="Unknown/AwaitingReconciliation/object is awaiting reconciliation")
    world.claim("other-ccccc", pool="other")
    world.claim("kwpool-ddddd")
    going = world.cluster.find(NODE_CLAIM, "", "kwpool-ddddd")
    assert going is not None
    going["metadata"] |= {"finalizers": ["karpenter.sh/termination"], "deletionTimestamp": world.stamp()}
    world.cluster.put(going)
    pool = world.pools()["kwpool"]
    assert (pool.count, pool.phase, pool.state) == (2, "Launching", PoolState.READY)


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"nvidia.com/gpu": "7"}, 3),
        ({"nvidia.com/gpu": 8, "nodes": "2", "cpu": "10"}, 2),
        ({"nvidia.com/gpu": "1k"}, 500),
        ({}, 5000),
        ({"nvidia.com/gpu": "-1"}, 0),
    ],
)
def test_a_limit_that_a_person_wrote_is_read_as_karpenter_keeps_it(limits: dict[str, Any], most: int) -> None:
    world = World()
    world.made()
    body = world.body()
    body["spec"]["limits"] = limits
    world.cluster.put(body)
    assert world.pools()["kwpool"].bounds == (0, most)


def test_others_pools_are_listed_and_are_nobodys_group() -> None:
    world = World()
    world.made()
    copied = world.body()
    copied["metadata"]["labels"] = {GROUP_LABEL: GROUP.name}
    world.cluster.put(copied)
    world.cluster.put(
        thing(
            NODE_POOL,
            "general",
            labels={GROUP_LABEL: "x", "kairay.dev/managed-by": "kairay"},
            spec={"template": {"spec": {"requirements": [{"key": "a", "operator": "Exists"}]}}},
        )
    )
    found = run(world.provider.pools())
    assert [(pool.name, pool.group) for pool in found] == [("general", None), ("kwpool", None)]
    assert found[0].offer == Offer(instance_type="")
    refusal = refused(world.provider.scale(replace(found[1], group=GROUP.name), 9))
    assert (refusal.kind, refusal.code) == (RefusalKind.INVALID, "ForeignPool")
    assert refused(world.provider.delete(found[0])).code == "ForeignPool"
    assert refused(world.provider.remove(found[0], ["n"])).code == "ForeignPool"


def test_a_pool_on_its_way_out_is_busy() -> None:
    world = World()
    world.made()
    body = world.body()
    body["metadata"] |= {"finalizers": ["x"], "deletionTimestamp": world.stamp()}
    world.cluster.put(body)
    assert (world.pools()["kwpool"].state, world.pools()["kwpool"].phase) == (PoolState.BUSY, "Deleting")


def test_a_claim_that_was_refused_and_deleted_is_told_by_its_event() -> None:
    world = World()
    world.made()
    world.event("other-12345", "InsufficientCapacityError", "none")
    world.event("kwpool-12345", "SomethingElse", "none")
    assert world.refusal() is None
    message = "NodeClaim kwpool-12345 event: all requested instance types were unavailable during launch"
    world.event("kwpool-12345", "InsufficientCapacityError", message)
    pool = world.pools()["kwpool"]
    assert (pool.state, pool.phase) == (PoolState.FAILED, "InsufficientCapacityError")
    assert pool.refusal is not None
    assert (pool.refusal.kind, pool.refusal.avoid_seconds) == (RefusalKind.CAPACITY, 3600)
    assert A100.instance_type in pool.refusal.message


def test_a_failure_is_forgotten_after_ten_minutes_or_when_a_node_has_come() -> None:
    world = World()
    world.made()
    world.event("kwpool-12345", "InsufficientCapacityError", "none")
    world.now += timedelta(minutes=10)
    assert world.refusal() is not None
    world.now += timedelta(seconds=1)
    assert world.refusal() is None
    world.event("kwpool-12346", "InsufficientCapacityError", "none")
    world.now += timedelta(seconds=5)
    world.claim("kwpool-12347", Registered="True/Registered/")
    assert world.refusal() is None


def test_every_new_failure_is_another_version_and_a_status_alone_is_none() -> None:
    world = World()
    first = world.made()
    world.say("NodeClassReady", "True/NodeClassReady/")
    assert world.pools()["kwpool"].version == first.version
    world.event("kwpool-1", "InsufficientCapacityError", "none")
    second = world.pools()["kwpool"]
    world.now += timedelta(seconds=7)
    world.event("kwpool-2", "InsufficientCapacityError", "none")
    assert len({first.version, second.version, world.pools()["kwpool"].version}) == 3


def test_an_obstacle_stands_as_long_as_the_condition_says_so() -> None:
    world = World()
    world.made()
    world.say("NodeClassReady", "False/NodeClassNotFound/NodeClass not found on cluster")
    world.now += timedelta(hours=3)
    found = world.refusal()
    assert found is not None
    assert (found.kind, found.code) == (RefusalKind.UNAVAILABLE, "NodeClassNotFound")
    assert "KAIRAY_KARPENTER_NODE_CLASS_NAME" in found.message
    world.say("NodeClassReady", "False/UnhealthyDependents/SubnetsReady=False")
    found = world.refusal()
    assert found is not None
    assert (found.kind, found.code) == (RefusalKind.UNAVAILABLE, "NodeClassNotReady")
    world.say("ValidationSucceeded", "False/NodePoolValidationFailed/invalid key name")
    found = world.refusal()
    assert found is not None
    assert found.kind is RefusalKind.INVALID


@pytest.mark.parametrize(
    ("condition", "text", "kind"),
    [
        ("Launched", "Unknown/SubscriptionQuotaReached/subscription level vCPU quota", RefusalKind.QUOTA),
        ("Launched", "False/LaunchFailed/Instance launch failed", RefusalKind.INVALID),
        ("Registered", "False/MultipleNodesFound/matched multiple nodes", RefusalKind.NODE),
    ],
)
def test_a_claim_that_lives_tells_why_it_does_not_start(condition: str, text: str, kind: RefusalKind) -> None:
    world = World()
    world.made()
    world.claim("kwpool-aaaaa", **{condition: text})
    found = world.refusal()
    assert found is not None
    assert found.kind is kind


def test_events_are_not_asked_for_when_nothing_can_be_missing() -> None:
    world = World()
    world.made(count=1)
    world.claim("kwpool-aaaaa", Registered="True/Registered/")
    world.cluster.calls.clear()
    world.pools()
    assert world.cluster.calls["list", "Event"] == 0


def test_a_second_pool_of_the_name_is_a_conflict() -> None:
    world = World()
    world.made()
    refusal = refused(world.provider.ensure(spec(H100), 1))
    assert refusal.kind is RefusalKind.CONFLICT
    assert "kwpool is there already" in refusal.message


def test_raising_the_limit_leaves_everything_else_as_it_is() -> None:
    world = World()
    pool = world.made(count=1)
    body = world.body()
    body["metadata"]["annotations"]["somebody.else/note"] = "1"
    body["spec"]["limits"] |= {"cpu": "100"}
    world.cluster.put(body)
    run(world.provider.scale(world.pools()["kwpool"], 4))
    after = world.body()
    assert after["spec"] == body["spec"] | {"limits": {"nvidia.com/gpu": "8", "cpu": "100"}}
    assert after["metadata"]["annotations"]["somebody.else/note"] == "1"
    assert world.pools()["kwpool"].bounds == (0, 4)
    assert pool.version != world.pools()["kwpool"].version


def test_a_limit_of_nodes_does_not_stand_in_the_way_of_a_higher_one() -> None:
    world = World()
    world.made(count=1)
    body = world.body()
    body["spec"]["limits"] = {"nodes": "1"}
    world.cluster.put(body)
    run(world.provider.scale(world.pools()["kwpool"], 4))
    assert world.pools()["kwpool"].bounds == (0, 4)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_limit_is_never_lowered(count: int) -> None:
    world = World()
    pool = world.made(count=3)
    before = world.cluster.writes
    run(world.provider.scale(pool, count))
    assert world.cluster.writes == before


def test_a_pool_that_was_changed_since_is_not_written() -> None:
    world = World()
    old = world.made()
    run(world.provider.scale(old, 5))
    for work in (world.provider.scale(old, 9), world.provider.delete(old)):
        assert refused(work).kind is RefusalKind.CONFLICT


def test_a_status_written_meanwhile_does_not_make_a_decision_old() -> None:
    world = World()
    pool = world.made()
    world.say("NodeClassReady", "True/NodeClassReady/")
    run(world.provider.scale(pool, 5))
    assert world.pools()["kwpool"].bounds == (0, 5)


def test_a_pool_that_was_deleted_cannot_be_raised_and_is_fine_to_delete() -> None:
    world = World()
    pool = world.made()
    run(world.provider.delete(pool))
    assert world.pools() == {}
    assert refused(world.provider.scale(pool, 5)).kind is RefusalKind.GONE
    run(world.provider.delete(pool))


def test_a_pool_that_has_got_a_node_is_not_deleted() -> None:
    world = World()
    pool = world.made()
    world.claim("kwpool-aaaaa")
    refusal = refused(world.provider.delete(pool))
    assert (refusal.kind, refusal.code) == (RefusalKind.CONFLICT, "PoolNotEmpty")
    assert "kwpool" in world.pools()


def test_exactly_the_named_nodes_are_removed() -> None:
    world = World()
    pool = world.made()
    world.claim("kwpool-aaaaa", node="node-a")
    world.claim("kwpool-bbbbb", node="node-b")
    world.claim("kwpool-ccccc")
    world.claim("other-aaaaa", pool="other", node="node-a")
    run(world.provider.remove(pool, ["node-a", "node-gone"]))
    left = [each["metadata"]["name"] for each in world.cluster.all(NODE_CLAIM)]
    assert left == ["kwpool-bbbbb", "kwpool-ccccc", "other-aaaaa"]


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (AbsentError("nodepools: 404 page not found"), K.UNAVAILABLE, "Karpenter is not installed"),
        (TransientError("no answer", retry_after=7), K.UNAVAILABLE, "no answer"),
        (InputError("NodePool kwpool: spec is wrong"), K.INVALID, "spec is wrong"),
        (
            DeniedError("NodePool kwpool: no label team"),
            K.POLICY,
            "forbids it: NodePool kwpool: no label team",
        ),
        (KairayError("no right to list", reason="Forbidden"), K.DENIED, "no right to list"),
        (HostError("log in again"), K.DENIED, "log in again"),
        (KairayError("HTTP 418"), K.UNAVAILABLE, "HTTP 418"),
    ],
)
def test_no_other_error_leaves_the_provider(error: KairayError, kind: K, says: str) -> None:
    world = World()
    for verb, work in (("list", world.provider.pools), ("create", lambda: world.provider.ensure(spec(), 1))):
        world.cluster.fail_next(verb, NODE_POOL, error)
        refusal = refused(work())
        assert refusal.kind is kind
        assert says in refusal.message
    assert refused(_failing(world, error)).retry_after in (0, 7, 60)


async def _failing(world: World, error: KairayError) -> None:
    world.cluster.fail_next("list", NODE_POOL, error)
    await world.provider.pools()


def test_the_controller_opens_it_by_name_with_its_own_idle_time() -> None:
    cluster = FakeCluster()
    settings = read_settings({"KAIRAY_NODES_PROVIDER": "karpenter", "KAIRAY_NODES_IDLE_SECONDS": "300"})

    async def make() -> str:
        environment = {"KAIRAY_KARPENTER_NODE_CLASS_NAME": "gpu"}
        async with open_provider(settings, environment, cluster) as provided:
            assert provided is not None
            await provided.provider.ensure(spec(), 1)
            return provided.name

    assert run(make()) == "Karpenter"
    body = cluster.find(NODE_POOL, "", "kwpool")
    assert body is not None
    assert body["spec"]["disruption"]["consolidateAfter"] == "300s"
    assert body["spec"]["template"]["spec"]["nodeClassRef"]["name"] == "gpu"
