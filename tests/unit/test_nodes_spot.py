"""Spot nodes that are taken back: they come again, on demand where that goes on, and status says so."""

from __future__ import annotations

from dataclasses import replace

from kairay.nodes.actions import EnsurePool, RemoveNodes, ScalePool
from kairay.nodes.interface import Offer
from node_world import World, asked, group_of

A100 = Offer(instance_type="Standard_NC24ads_A100_v4")
SPOT = replace(A100, spot=True)


def test_spot_nodes_that_are_taken_back_come_again_though_the_pool_s_count_is_as_before() -> None:
    world = World(group_of(SPOT))
    world.need("chat", 1, 1)
    world.pass_time(600)
    world.provider.evict(f"{world.pool(SPOT)}-000000")
    world.pass_time(5)
    assert asked(world) == [("ensure", 2), ("scale", 2)]
    world.pass_time(600)
    assert world.waiting() == []
    assert len(world.nodes()) == 2


def test_after_three_evictions_in_half_an_hour_the_group_is_on_demand_for_an_hour() -> None:
    world = World(group_of(SPOT, A100))
    world.need("chat")
    world.pass_time(400)
    for _ in range(3):
        assert not world.waiting()
        world.provider.evict(*(node.name for node in world.nodes()))
        world.pass_time(400)
    assert [each.spec.offer for each in world.did(EnsurePool)] == [SPOT, A100]
    assert len(world.did(ScalePool)) == 2
    world.end("chat")
    world.pass_time(2000)
    world.need("later")
    world.pass_time(1400)
    assert world.did(ScalePool)[-1].target.offer == A100
    world.end("later")
    world.pass_time(1000)
    world.need("after")
    world.pass_time(30)
    last = world.history[-1][1]
    assert isinstance(last, (EnsurePool, ScalePool))
    assert (last.spec.offer if isinstance(last, EnsurePool) else last.target.offer) == SPOT


def test_evictions_far_apart_do_not_turn_spot_off() -> None:
    world = World(group_of(SPOT, A100))
    world.need("chat")
    for _ in range(5):
        world.pass_time(1200)
        world.provider.evict(*(node.name for node in world.nodes()))
    world.pass_time(600)
    assert {each.spec.offer for each in world.did(EnsurePool)} == {SPOT}


def test_a_count_that_the_provider_lowers_after_evictions_is_nobody_s_change() -> None:
    world = World(group_of(SPOT))
    world.need("chat", 1, 1, 1)
    world.pass_time(500)
    for number in range(2):
        first = next(node.name for node in world.nodes())
        world.end("chat")
        world.need("chat", *[1] * (2 - number))
        world.look()
        world.provider.evict(first)
        world.provider.change(world.pool(SPOT), count=2 - number)
        world.pass_time(100)
    assert world.memory.pools[world.pool(SPOT)].changed == ()
    assert world.memory.pools[world.pool(SPOT)].left_until is None


def test_after_evictions_the_count_is_never_set_below_what_it_is() -> None:
    world = World(group_of(SPOT))
    for name in ("a", "b", "c"):
        world.need(name)
    world.pass_time(500)
    nodes = {pod.workspace: str(pod.node) for pod in world.pods.values()}
    world.end("b")
    world.provider.evict(nodes["a"], nodes["b"])
    world.pass_time(600)
    assert asked(world)[:2] == [("ensure", 3), ("scale", 3)]
    assert world.provider.mistakes == {}
    assert world.waiting() == []
    assert len(world.nodes()) == 2


def test_spot_nodes_that_we_remove_are_no_evictions() -> None:
    world = World(group_of(SPOT, A100))
    for number in range(4):
        world.need(f"w{number}")
        world.pass_time(300)
        world.end(f"w{number}")
        world.pass_time(200)
    assert len(world.did(RemoveNodes)) == 4
    assert {each.spec.offer for each in world.did(EnsurePool)} == {SPOT}
    assert world.memory.groups == {}


def test_the_status_says_why_spot_is_not_used() -> None:
    world = World(group_of(SPOT, A100))
    world.need("chat", 1, 1, 1)
    world.pass_time(400)
    world.provider.evict(*(node.name for node in world.nodes()))
    world.pass_time(5)
    assert (
        "no Standard_NC24ads_A100_v4 (spot) until 13:06:40 UTC: 3 spot nodes were taken back in 30 min"
        in (world.word())
    )
