"""Nodes come for the work: when, how many, in how many writes, and what status says meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kairay.nodes.actions import EnsurePool, RemoveNodes, ScalePool, ScalingSettings
from kairay.nodes.fake import Delays
from kairay.nodes.interface import Offer, Pool, PoolState, Quota, RefusalKind
from node_world import World, group_of, writes

A100, H100, T4 = (
    Offer(instance_type=f"Standard_{name}") for name in ("NC24ads_A100_v4", "NC40ads_H100_v5", "NC4as_T4_v3")
)
SPOT = replace(A100, spot=True)


# -- growth --------------------------------------------------------------------------------------------------------


def test_a_pod_that_waits_gets_a_node_within_five_seconds_of_asking() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(600)
    assert writes(world)[0] == (1.0, "ensure", world.pool(A100), 1)
    assert world.waiting() == []
    assert len(writes(world)) == 1


def test_ten_workspaces_that_are_applied_together_are_one_write() -> None:
    world = World(group_of(A100))
    for number in range(10):
        world.need(f"chat-{number}")
        world.pass_time(0.2)
    world.pass_time(600)
    assert [(call, count) for _, call, _, count in writes(world)] == [("ensure", 10)]
    assert world.waiting() == []


def test_pods_that_keep_coming_do_not_put_the_write_off_for_more_than_three_seconds() -> None:
    world = World(group_of(A100))
    for number in range(40):
        world.need(f"chat-{number}")
        world.pass_time(0.5)
    when, _, _, count = writes(world)[0]
    assert when <= 3.5
    assert count >= 6


def test_several_workspaces_share_a_pool_and_its_free_gpus() -> None:
    world = World(group_of(A100, gpus=4))
    world.need("first", 2)
    world.pass_time(600)
    world.need("second", 1)
    world.need("third", 1)
    world.pass_time(600)
    assert len(writes(world)) == 1
    assert {pod.node for pod in world.pods.values()} == {f"{world.pool(A100)}-000000"}


def test_pods_with_different_numbers_of_gpus_are_packed() -> None:
    world = World(group_of(A100, gpus=4))
    world.need("mixed", 3, 1, 2, 2)
    world.pass_time(900)
    assert writes(world)[0][3] == 2
    assert world.waiting() == []


def test_nodes_that_are_on_their_way_are_not_asked_for_again() -> None:
    world = World(group_of(A100), delays=Delays(pool=400, join=500))
    world.need("chat")
    world.pass_time(300)
    world.need("other")
    world.pass_time(60)
    assert len(writes(world)) == 1  # The pool is busy: the second is asked for when it is at rest.
    world.pass_time(900)
    assert [count for _, _, _, count in writes(world)] == [1, 2]
    assert world.waiting() == []


def test_a_pod_that_is_larger_than_any_node_is_named_and_brings_none() -> None:
    world = World(group_of(A100, H100, gpus=2))
    (key,) = world.need("large", 8)
    world.pass_time(600)
    assert writes(world) == []
    assert world.word() == f"pod {key.split('/')[1]} asks for 8 GPUs and no size here has more than 2"
    assert world.last is not None
    assert world.passes < 50


def test_a_large_pod_takes_the_size_that_can_carry_it() -> None:
    group = group_of(T4, A100, gpus=1, Standard_NC24ads_A100_v4=4)
    world = World(group)
    world.need("large", 4)
    world.need("small", 1)
    world.pass_time(900)
    assert {(pool, count) for _, _, pool, count in writes(world)} == {
        (world.pool(T4), 1),
        (world.pool(A100), 1),
    }
    assert world.waiting() == []


def test_pods_of_a_group_that_no_workspace_wants_bring_no_nodes() -> None:
    world = World()
    world.need("deleted", group=group_of(A100))
    world.pass_time(60)
    assert writes(world) == []


# -- sentences -----------------------------------------------------------------------------------------------------


def test_status_says_which_pool_scales_and_for_how_long() -> None:
    world = World(group_of(A100), delays=Delays(pool=400, join=500))
    world.need("chat")
    world.pass_time(0.5)
    assert world.word() == "waiting for nodes for 1 pod: asked for within 3 s"
    world.pass_time(0.5)
    pool = world.pool(A100)
    assert world.word() == (
        f"waiting for 1 × Standard_NC24ads_A100_v4: pool {pool} scaling 0→1 (asked Azure now)"
    )
    world.pass_time(180)
    assert world.word() == (
        f"waiting for 1 × Standard_NC24ads_A100_v4: pool {pool} scaling 0→1 (Azure: Creating, 3 min)"
    )
    world.pass_time(330)
    assert world.word() == f"waiting for the GPUs of node {pool}-000000 to get ready"
    world.pass_time(100)
    assert world.word() == ""


def test_a_quota_that_is_used_up_is_named_with_what_comes_instead_and_its_price() -> None:
    world = World(group_of(A100, H100))
    world.provider.quotas[A100] = Quota(name="StandardNCADSA100v4Family", used=96, limit=96, per_node=24)
    world.view["prices"] = {A100: 3.673, H100: 6.98}
    world.need("chat")
    world.pass_time(1)
    assert world.word() == (
        "waiting for 1 × Standard_NC40ads_H100_v5 ($6.98 per hour): "
        f"pool {world.pool(H100)} scaling 0→1 (asked Azure now); "
        "no Standard_NC24ads_A100_v4: quota StandardNCADSA100v4Family has 96 of 96 vCPU used, 1 × 24 more needed"
    )
    assert world.last is not None
    assert next(iter(world.last.words.values())).refusal is None


def test_when_nothing_can_be_had_a_size_that_would_do_is_named_with_its_price() -> None:
    group = group_of(A100)
    world = World(group)
    world.provider.quotas[A100] = Quota(name="StandardNCADSA100v4Family", used=90, limit=96, per_node=24)
    world.view |= {"prices": {H100: 6.98}, "suggestions": {group.name: (T4, H100)}}
    world.view["quotas"] = {
        A100: world.provider.quotas[A100],
        T4: Quota(name="NCASv3", used=0, limit=0, per_node=4),
    }
    world.need("chat")
    world.pass_time(2)
    assert world.word() == (
        "no Standard_NC24ads_A100_v4: quota StandardNCADSA100v4Family has 90 of 96 vCPU used, 1 × 24 more needed; "
        "none of its sizes can be had: Standard_NC40ads_H100_v5 would do ($6.98 per hour)"
    )
    assert world.last is not None
    assert world.last.words[group.name].refusal is RefusalKind.QUOTA


# -- quotas --------------------------------------------------------------------------------------------------------


def test_an_unknown_quota_never_stands_in_the_way() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(2)
    assert world.did(EnsurePool)


def test_what_a_quota_still_allows_is_taken_and_the_rest_comes_as_another_size() -> None:
    world = World(group_of(A100, H100))
    world.provider.quotas[A100] = Quota(name="A100", used=48, limit=96, per_node=24)
    world.need("chat", 1, 1, 1)
    world.pass_time(2)
    asked = {action.spec.offer: action.count for action in world.did(EnsurePool)}
    assert asked == {A100: 2, H100: 1}


def test_groups_that_share_a_quota_do_not_ask_for_more_than_it_has_in_one_pass() -> None:
    one, other = group_of(A100, H100, tenant="one"), group_of(A100, H100, tenant="two")
    world = World(one, other)
    world.provider.quotas[A100] = Quota(name="A100", used=72, limit=96, per_node=24)
    world.need("first", group=one)
    world.need("second", group=other)
    world.pass_time(2)
    assert sorted(action.spec.offer for action in world.did(EnsurePool)) == [A100, H100]


def test_a_size_that_the_subscription_cannot_have_is_passed_over() -> None:
    world = World(group_of(A100, H100))
    world.provider.quotas[A100] = Quota(
        name="A100", used=0, limit=96, per_node=24, restriction="not available for this subscription"
    )
    world.need("chat")
    world.pass_time(2)
    assert [action.spec.offer for action in world.did(EnsurePool)] == [H100]
    assert "no Standard_NC24ads_A100_v4: not available for this subscription" in world.word()


# -- pools that are not ours, or not ours alone ----------------------------------------------------------------------


def foreign(name: str, **more: Any) -> Pool:
    return Pool(name=name, offer=A100, count=more.pop("count", 3), state=PoolState.READY, phase="Succeeded",
                group=more.pop("group", None), **more)  # fmt: skip


def test_pools_of_others_are_never_touched() -> None:
    world = World(group_of(A100))
    world.provider.put_foreign(foreign("system"))
    world.provider.put_foreign(foreign("empty", count=0))
    world.provider.put_foreign(foreign("gpus", bounds=(1, 5)))
    world.need("chat")
    world.pass_time(8000)
    world.end("chat")
    world.pass_time(8000)
    assert {pool for _, _, pool, _ in writes(world)} == {world.pool(A100)}


@pytest.mark.parametrize("group", [None, "another000"])
def test_a_pool_that_has_our_name_and_is_not_ours_is_said_and_never_adopted(group: str | None) -> None:
    world = World(group_of(A100, H100))
    world.provider.put_foreign(foreign(world.pool(A100), group=group))
    world.need("chat")
    world.pass_time(200)
    assert {pool for _, _, pool, _ in writes(world)} == {world.pool(H100)}
    assert f"no pool for Standard_NC24ads_A100_v4: {world.pool(A100)} is there" in world.word()


def test_a_pool_that_is_being_upgraded_is_not_written_until_it_is_at_rest() -> None:
    world = World(group_of(A100))
    world.need("first")
    world.pass_time(600)
    world.provider.change(world.pool(A100), state=PoolState.BUSY, phase="UpgradingNodeImageVersion")
    world.need("second")
    world.pass_time(3600)
    assert len(writes(world)) == 1
    assert "is busy (Azure: UpgradingNodeImageVersion)" in world.word()
    world.provider.change(world.pool(A100), state=PoolState.READY, phase="Succeeded")
    world.pass_time(600)
    assert len(writes(world)) == 2
    assert world.waiting() == []


def test_where_an_autoscaler_decides_only_its_upper_bound_is_raised_and_no_node_is_removed() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(600)
    world.provider.change(world.pool(A100), bounds=(0, 1))
    world.need("more", 1, 1)
    world.pass_time(60)
    assert [(call, count) for _, call, _, count in writes(world)] == [("ensure", 1), ("scale", 3)]
    assert "the autoscaler of pool" in world.word()
    world.end("chat")
    world.end("more")
    world.pass_time(8000)
    assert world.did(RemoveNodes) == []
    assert len(world.nodes()) == 1


def test_a_pool_that_somebody_else_changes_again_and_again_is_left_alone_for_an_hour() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(600)
    world.provider.change(world.pool(A100), bounds=(0, 1))
    world.need("more")
    for _ in range(2):
        world.pass_time(120)
        world.provider.change(world.pool(A100), bounds=(0, 1))
    world.pass_time(120)
    before = len(writes(world))
    assert before == 3
    world.pass_time(3000)
    assert len(writes(world)) == before
    assert f"pool {world.pool(A100)} is left alone until" in world.word()
    world.pass_time(900)
    assert len(writes(world)) == before + 1


# -- limits of the cloud ---------------------------------------------------------------------------------------------


def test_two_hundred_workspaces_over_twenty_shapes_stay_within_azure_s_limits() -> None:
    groups = [group_of(Offer(instance_type=f"Standard_NC{4 * n}as_v4"), gpus=n % 4 + 1) for n in range(1, 21)]
    world = World(*groups, delays=Delays(pool=100, join=240, gpus=60))
    for number in range(200):
        world.need(f"w{number}", group=groups[number % 20])
        if number % 10 == 9:
            world.pass_time(30)
    world.pass_time(2400)
    assert world.waiting() == []
    for number in range(200):
        world.end(f"w{number}")
        if number % 5 == 4:
            world.pass_time(20)
    world.pass_time(3600 + 600)
    assert world.nodes() == ()
    puts = [(when, pool) for when, call, pool, _ in writes(world) if call in ("ensure", "scale")]
    for pool in {pool for _, pool in puts}:
        assert within_bucket([when for when, each in puts if each == pool], burst=20, per_second=1 / 60)
    assert within_bucket([when for when, *_ in writes(world)], burst=60, per_second=1)
    assert world.memory.avoided == ()


def within_bucket(times: list[float], *, burst: int, per_second: float) -> bool:
    tokens, last = float(burst), 0.0
    for when in sorted(times):
        tokens = min(burst, tokens + (when - last) * per_second) - 1
        last = when
        if tokens < -1e-6:
            return False
    return True


def test_a_pool_whose_writes_are_used_up_waits_for_the_next() -> None:
    world = World(group_of(A100), delays=Delays(pool=1, join=2, gpus=0))
    for number in range(60):
        world.need(f"w{number}")
        world.pass_time(5)
    puts = [when for when, call, *_ in writes(world) if call in ("ensure", "scale")]
    assert within_bucket(puts, burst=20, per_second=1 / 60)
    assert len(puts) <= 25
    assert "Azure takes no more writes until" in world.word()
    world.pass_time(300)
    assert world.waiting() == []


def test_settings_decide_how_long_growth_settles() -> None:
    world = World(group_of(A100), settings=ScalingSettings(settle_seconds=0))
    world.need("chat")
    world.look()
    assert len(world.did(EnsurePool)) == 1
    assert world.did(ScalePool) == []
