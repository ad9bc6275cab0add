"""Nodes that do not come: what each refusal leads to, nodes in trouble, many pools, and what the status says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kairay.nodes.actions import CordonNode, DeletePool, EnsurePool, RemoveNodes
from kairay.nodes.fake import Delays
from kairay.nodes.interface import Offer, PoolState, Quota, Refusal, RefusalKind
from kairay.nodes.refusals import covers
from kairay.nodes.remembered import Avoided
from node_world import START, World, asked, group_of

A100, A100x2, H100 = (
    Offer(instance_type=f"Standard_{name}")
    for name in ("NC24ads_A100_v4", "NC48ads_A100_v4", "NC40ads_H100_v5")
)
SPOT = replace(A100, spot=True)
SPOT_H100 = replace(H100, spot=True)
K = RefusalKind


def no(kind: RefusalKind, **more: Any) -> Refusal:
    return Refusal(kind=kind, code="Code", message=f"Azure says {kind}", **more)


# -- refusals of calls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [K.QUOTA, K.CAPACITY, K.RESTRICTED, K.CONSTRAINT, K.NODE, K.INVALID])
def test_a_refusal_of_one_size_falls_to_the_next_at_once_and_comes_back_later(kind: RefusalKind) -> None:
    world = World(group_of(A100, H100))
    world.provider.refuse_next("ensure", no(kind, avoid_seconds=900), offer=A100)
    world.need("chat")
    world.pass_time(4)
    assert [each.spec.offer for each in world.did(EnsurePool)] == [A100, H100]
    assert f"no Standard_NC24ads_A100_v4 until 12:15:01 UTC: Azure says {kind}" in world.word()
    world.pass_time(300)
    world.need("other")
    world.pass_time(300)
    assert {each.offer for each in (each.spec for each in world.did(EnsurePool))} == {A100, H100}
    world.pass_time(600)
    world.need("third")
    world.pass_time(60)
    assert world.did(EnsurePool)[-1].spec.offer == A100


def test_a_family_s_quota_passes_over_all_of_the_family_and_leaves_spot() -> None:
    group = group_of(A100, A100x2, SPOT, H100)
    world = World(group)
    world.provider.refuse_next("ensure", no(K.QUOTA, avoid_seconds=600), offer=A100)
    world.need("chat")
    world.pass_time(4)
    assert [each.spec.offer for each in world.did(EnsurePool)] == [A100, SPOT]


def test_the_spot_quota_turns_all_spot_off() -> None:
    world = World(group_of(SPOT, SPOT_H100, A100))
    world.provider.refuse_next("ensure", no(K.SPOT_QUOTA, avoid_seconds=3600), offer=SPOT)
    world.need("chat")
    world.pass_time(4)
    assert [each.spec.offer for each in world.did(EnsurePool)] == [SPOT, A100]


@pytest.mark.parametrize(
    ("kind", "avoided", "offer", "group", "covered"),
    [
        (K.CAPACITY, A100, A100, "g", True),
        (K.CAPACITY, A100, SPOT, "g", False),
        (K.CAPACITY, A100, A100x2, "g", False),
        (K.QUOTA, A100, A100x2, "g", True),
        (K.QUOTA, A100, H100, "g", False),
        (K.QUOTA, SPOT, A100, "g", False),
        (K.SPOT_QUOTA, SPOT, SPOT_H100, "g", True),
        (K.SPOT_QUOTA, SPOT, A100, "g", False),
        (K.CAPACITY, A100, A100, "other", False),
    ],
)
def test_how_much_a_refusal_covers(
    kind: RefusalKind, avoided: Offer, offer: Offer, group: str, covered: bool
) -> None:
    entry = Avoided(
        kind=kind, offer=avoided, group="g" if group == "other" else None, until=START, code="", message=""
    )
    assert covers(entry, offer, group, {}) is covered


def test_the_quota_s_name_decides_what_a_family_is_where_it_is_known() -> None:
    entry = Avoided(kind=K.QUOTA, offer=A100, group=None, until=START, code="", message="")
    one, two = (Quota(name=name, used=0, limit=1, per_node=1) for name in ("one", "two"))
    assert covers(entry, H100, "g", {A100: one, H100: one})
    assert not covers(entry, A100x2, "g", {A100: one, A100x2: two})
    assert covers(entry, A100x2, "g", {A100: one})


@pytest.mark.parametrize("kind", [K.REGION_QUOTA, K.DENIED, K.POLICY, K.NETWORK])
def test_where_no_size_helps_growth_is_held_said_and_tried_again(kind: RefusalKind) -> None:
    group = group_of(A100, H100)
    world = World(group)
    world.provider.refuse_next("ensure", no(kind, retry_after=600))
    world.need("chat")
    world.pass_time(500)
    assert world.provider.calls["ensure"] == 1
    assert world.word() == f"Azure says {kind}; tried again at 12:10:01 UTC"
    assert world.last is not None
    assert world.last.words[group.name].refusal is kind
    world.pass_time(600)
    assert world.waiting() == []
    assert world.provider.calls["ensure"] == 2


def test_a_policy_against_one_tenant_does_not_hold_another() -> None:
    one, other = group_of(A100, tenant="one"), group_of(A100, tenant="two")
    world = World(one, other)
    world.provider.refuse_next("ensure", no(K.POLICY))
    world.need("first", group=one)
    world.pass_time(5)
    world.need("second", group=other)
    world.pass_time(10)
    assert [count for _, count in asked(world)] == [1]
    world.provider.refuse_next("scale", no(K.NETWORK))
    world.pass_time(200)
    world.need("third", group=other)
    world.pass_time(20)
    world.need("fourth", group=one)
    world.pass_time(20)
    assert len(asked(world)) == 1


@pytest.mark.parametrize("kind", [K.BUSY, K.THROTTLED, K.CONFLICT, K.UNAVAILABLE, K.GONE, K.AUTOSCALED])
def test_what_may_pass_is_tried_again_after_the_time_that_the_provider_says(kind: RefusalKind) -> None:
    world = World(group_of(A100, H100))
    world.provider.refuse_next("ensure", no(kind, retry_after=45))
    world.need("chat")
    world.pass_time(40)
    assert world.provider.calls["ensure"] == 1
    assert f"waits until 12:00:46 UTC: Azure says {kind}" in world.word()
    world.pass_time(10)
    assert [each.spec.offer for each in world.did(EnsurePool)] == [A100, A100]
    assert world.memory.avoided == ()


def test_a_provider_that_is_away_for_long_is_not_asked_all_the_time() -> None:
    world = World(group_of(A100))
    world.provider.refuse_next("ensure", no(K.UNAVAILABLE), times=10_000)
    world.need("chat")
    world.pass_time(3600)
    assert 60 <= world.provider.calls["ensure"] <= 80


# -- operations that fail later ----------------------------------------------------------------------------------------


def test_a_pool_that_fails_empty_is_deleted_and_another_size_comes() -> None:
    world = World(group_of(A100, H100))
    world.provider.fail_next(A100, no(K.CAPACITY, avoid_seconds=3600))
    world.need("chat")
    world.pass_time(1200)
    assert asked(world) == [("ensure", 1), ("ensure", 1), ("delete", 0)]
    assert [pool.name for pool in world.last_pools()] == [world.pool(H100)]
    assert world.waiting() == []


def test_when_only_some_nodes_came_the_rest_comes_as_another_size() -> None:
    world = World(group_of(A100, H100))
    world.provider.capacity[A100] = 2
    world.need("chat", 1, 1, 1)
    world.pass_time(1200)
    assert asked(world) == [("ensure", 3), ("ensure", 1)]
    assert world.waiting() == []
    assert sum(world.provider.machines().values()) == 3


def test_a_restart_in_the_middle_of_a_fallback_repeats_nothing() -> None:
    world = World(group_of(A100, H100))
    world.provider.capacity[A100] = 0
    world.need("chat")
    for _ in range(120):
        world.pass_time(5)
        world.memory = type(world.memory).from_json(world.memory.to_json())
    assert asked(world) == [("ensure", 1), ("ensure", 1), ("delete", 0)]


def test_nodes_that_never_join_are_given_up_and_said() -> None:
    world = World(group_of(A100, H100), delays=Delays(pool=60, join=10**6))
    world.need("chat")
    world.pass_time(1200 + 60)
    assert len(asked(world)) == 1
    world.pass_time(60)
    assert [each.spec.offer for each in world.did(EnsurePool)] == [A100, H100]
    assert "1 of 1 nodes of pool" in world.word()
    assert "did not join within 20 min" in world.word()


def test_a_pool_that_somebody_deletes_is_made_again_only_when_it_is_wanted() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(600)
    world.provider.lose_pool(world.pool(A100))
    world.pass_time(600)
    assert asked(world) == [("ensure", 1), ("ensure", 1)]
    world.end("chat")
    world.provider.lose_pool(world.pool(A100))
    world.pass_time(600)
    assert len(asked(world)) == 2


# -- nodes in trouble ------------------------------------------------------------------------------------------------


def test_a_node_that_gets_no_gpus_is_named_with_the_likely_cause_and_replaced_once() -> None:
    group = group_of(A100)
    world = World(group)
    world.bare.add(world.pool(A100))
    world.need("chat")
    world.pass_time(1200 + 170)
    assert world.did(RemoveNodes) == []
    world.pass_time(60)
    (removal,) = world.did(RemoveNodes)
    assert removal.reason == f"{world.pool(A100)}-000000 got no GPUs in 20 min; another is tried once"
    world.pass_time(3600)
    assert len(world.did(RemoveNodes)) == 1
    assert world.word().endswith(
        f"node {world.pool(A100)}-000001 is ready and has no GPUs after 20 min; likely: no NVIDIA device plugin "
        "DaemonSet, one that does not tolerate the node's taints, or a pool without GPU driver "
        "(kairay doctor says which)"
    )
    assert world.last is not None
    assert world.last.words[group.name].refusal is K.NODE
    assert len(world.nodes()) == 1


def test_a_node_whose_gpu_is_broken_gets_no_new_pods_and_leaves_after_its_last() -> None:
    world = World(group_of(A100, gpus=2))
    world.need("first", 1)
    world.pass_time(600)
    (broken,) = (node.name for node in world.nodes())
    world.trouble[broken] = "a GPU is missing"
    world.look()
    world.need("second", 1)
    world.pass_time(600)
    assert world.did(CordonNode) == [CordonNode(node=broken, reason="a GPU is missing")]
    assert {pod.workspace: pod.node for pod in world.pods.values()} == {
        "first": broken,
        "second": f"{world.pool(A100)}-000001",
    }
    world.end("first")
    world.pass_time(60)
    assert [action.nodes for action in world.did(RemoveNodes)] == [(broken,)]


def test_a_node_that_is_not_ready_for_ten_minutes_no_longer_counts() -> None:
    world = World(group_of(A100))
    world.need("first")
    world.pass_time(600)
    (sick,) = (node.name for node in world.nodes())
    world.unready.add(sick)
    world.end("first")
    world.need("second")
    world.pass_time(500)
    assert len(asked(world)) == 1
    world.pass_time(700)
    assert world.waiting() == []
    assert [action.nodes for action in world.did(RemoveNodes)] == [(sick,)]


# -- many pools ------------------------------------------------------------------------------------------------------


def test_at_the_limit_of_pools_the_oldest_empty_one_goes_so_that_there_is_always_room_for_one() -> None:
    groups = [group_of(A100, tenant=f"team-{number}") for number in range(4)]
    world = World(*groups)
    world.settings = replace(world.settings, pool_limit=3)
    for number in range(3):
        world.need(f"w{number}", group=groups[number])
        world.pass_time(500)
        world.end(f"w{number}")
    world.need("w3", group=groups[3])
    world.pass_time(5)
    assert [each.pool for each in world.did(DeletePool)] == [world.pool(A100, each) for each in groups[:2]]
    world.pass_time(600)
    assert world.waiting() == []


def test_at_the_limit_with_no_empty_pool_the_status_says_so() -> None:
    groups = [group_of(A100, tenant=f"team-{number}") for number in range(3)]
    world = World(*groups)
    world.settings = replace(world.settings, pool_limit=2)
    for number in range(3):
        world.need(f"w{number}", group=groups[number])
    world.pass_time(900)
    assert world.did(DeletePool) == []
    (waiting,) = world.waiting()
    assert world.last is not None
    assert world.last.words[waiting.group].refusal is K.LIMIT
    assert "the cluster has 2 pools, the limit is 2" in world.last.words[waiting.group].message


def test_a_limit_of_pools_that_the_provider_tells_does_not_hold_pools_that_are_there() -> None:
    one, other = group_of(A100, tenant="one"), group_of(A100, tenant="two")
    world = World(one, other)
    world.need("first", group=one)
    world.pass_time(400)
    world.provider.refuse_next("ensure", no(K.LIMIT, retry_after=600))
    world.need("second", group=other)
    world.pass_time(10)
    world.need("third", group=one)
    world.pass_time(10)
    assert asked(world) == [("ensure", 1), ("scale", 2)]
    assert "until 12:16:41 UTC: Azure says PoolLimit" in world.word(other)
    world.pass_time(1000)
    assert world.waiting() == []


def test_nodes_that_were_gone_before_they_were_removed_are_not_taken_for_somebody_else_s_change() -> None:
    world = World(group_of(A100))
    for number in range(3):
        world.need(f"w{number}", 1, 1)
        world.pass_time(500)
        world.end(f"w{number}")
        world.pass_time(121)
        names = [node.name for node in world.nodes()]
        world.now += timedelta(seconds=1)
        decision = world.look(meanwhile=lambda gone=names[0]: world.provider.evict(gone))
        assert [type(action) for action in decision.actions] == [RemoveNodes]
        assert world.last_pools()[0].count == 1  # Of two that are gone it has counted one.
        world.pass_time(300)
        assert world.memory.pools[world.pool(A100)].changed == ()
        assert world.memory.pools[world.pool(A100)].left_until is None
    world.need("last")
    world.pass_time(500)
    assert world.waiting() == []


def test_a_failed_pool_of_ours_that_nobody_wants_goes() -> None:
    world = World(group_of(A100))
    world.provider.fail_next(A100, no(K.UNAVAILABLE))
    world.need("chat")
    world.pass_time(30)
    world.end("chat")
    world.pass_time(300)
    assert asked(world) == [("ensure", 1), ("delete", 0)]
    assert not [pool for pool in world.last_pools() if pool.state is PoolState.FAILED]


@pytest.mark.parametrize("kind", [K.BUSY, K.THROTTLED, K.UNAVAILABLE])
def test_while_a_pool_waits_the_reason_is_why(kind: RefusalKind) -> None:
    group = group_of(A100)
    world = World(group)
    world.provider.refuse_next("ensure", no(kind, retry_after=1800))
    world.need("chat")
    world.pass_time(600)
    assert world.last is not None
    assert world.last.words[group.name].refusal is kind
    world.pass_time(1300)
    assert world.last.words.get(group.name) is None or world.last.words[group.name].refusal is None


def test_one_family_is_one_quota_also_where_the_regions_is_the_tighter_one() -> None:
    region = {"name": "Total Regional vCPUs", "used": 90, "limit": 100, "per_node": 1}
    quotas = {
        A100: Quota(family="a", **region), A100x2: Quota(family="a", **region), H100: Quota(family="b", **region)
    }  # fmt: skip
    entry = Avoided(kind=K.QUOTA, offer=A100, group=None, until=START, code="Code", message="none left")
    assert [covers(entry, offer, "g1", quotas) for offer in quotas] == [True, True, False]


def test_machines_that_never_became_nodes_go_with_their_pool_while_others_work() -> None:
    slow = [Delays(pool=60, join=10**6)]
    world = World(group_of(A100, H100), delays=lambda: slow.pop() if slow else Delays())
    world.need("chat")
    world.pass_time(2400)
    assert [pool.offer for pool in world.last_pools()] == [H100]
    assert world.waiting() == []


def test_a_deletion_that_was_refused_is_tried_again_soon() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(600)
    world.end("chat")
    world.pass_time(600)
    world.provider.refuse_next("delete", no(K.DENIED))
    world.pass_time(3600)
    assert world.last_pools() == ()
    first, second = [when for when, action in world.history if isinstance(action, DeletePool)]
    assert second - first <= timedelta(minutes=2)
