"""What is remembered of nodes: over crashes, restarts and releases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kairay.errors import InputError
from kairay.nodes.actions import EnsurePool
from kairay.nodes.interface import Offer, Refusal, RefusalKind
from kairay.nodes.refusals import refused
from kairay.nodes.remembered import PoolMemory, Remembered
from node_world import World, group_of, writes

A100 = Offer(instance_type="Standard_NC24ads_A100_v4")
H100 = Offer(instance_type="Standard_NC40ads_H100_v5")


def test_an_unchanged_world_leaves_an_unchanged_memory_and_asks_for_nothing() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(3600)
    settled, actions = world.memory, len(world.history)
    world.pass_time(3600)
    assert world.memory == settled
    assert len(world.history) == actions


def test_memory_is_the_same_bytes_for_the_same_value() -> None:
    world = World(group_of(A100), group_of(H100))
    world.need("b", 1, 1)
    world.need("a", 1)
    world.pass_time(0.5)
    text = world.memory.to_json()
    assert Remembered.from_json(text).to_json() == text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pools": {"kw": {"group": 3}}}', '{"nodes": "none"}'])
def test_a_memory_that_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(InputError, match="memory of node scaling cannot be read"):
        Remembered.from_json(text)


def test_what_a_later_release_remembers_is_ignored() -> None:
    assert Remembered.from_json('{"later": 1, "pools": {"kw": {"group": "g", "new": true}}}') == Remembered(
        pools={"kw": PoolMemory(group="g")}
    )


def test_a_crash_between_remembering_and_asking_costs_a_minute_and_no_node_too_many() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(0.5)
    world.now += timedelta(seconds=1)
    assert world.look(crash_before_actions=True).actions
    world.pass_time(30)
    assert writes(world) == []
    world.pass_time(600)
    assert [(call, count) for _, call, _, count in writes(world)] == [("ensure", 1)]
    assert world.waiting() == []


def test_a_crash_between_asking_and_remembering_asks_for_no_node_twice() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(0.5)
    world.now += timedelta(seconds=1)
    assert world.look(crash_after_actions=True).actions
    world.pass_time(600)
    assert [(call, count) for _, call, _, count in writes(world)] == [("ensure", 1)]
    assert world.waiting() == []


def test_a_lost_memory_costs_no_node_and_no_write() -> None:
    world = World(group_of(A100))
    world.need("chat", 1, 1)
    for _ in range(60):
        world.pass_time(10)
        world.memory = Remembered()
    assert [(call, count) for _, call, _, count in writes(world)] == [("ensure", 2)]


def test_a_refused_write_is_not_remembered_as_done() -> None:
    world = World(group_of(A100, H100))
    world.need("chat")
    world.pass_time(0.5)
    world.now += timedelta(seconds=1)
    decision = world.look(crash_before_actions=True)
    (action,) = decision.actions
    assert isinstance(action, EnsurePool)
    refusal = Refusal(
        kind=RefusalKind.CAPACITY, code="AllocationFailed", message="no capacity", avoid_seconds=60
    )
    memory = refused(decision.memory, action, refusal, world.now)
    assert memory.pools[action.pool].written is None
    assert [(each.offer, each.until) for each in memory.avoided] == [
        (A100, world.now + timedelta(seconds=60))
    ]
