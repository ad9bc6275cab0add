"""Nodes leave after the work: only without work, closed first, by name, and never one that a pod could use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kairay.nodes.actions import (
    CordonNode,
    DeletePool,
    EnsurePool,
    RemoveNodes,
    ScalingSettings,
    UncordonNode,
)
from kairay.nodes.interface import Offer, Refusal, RefusalKind
from kairay.nodes.remembered import Remembered
from node_world import START, World, group_of

A100 = Offer(instance_type="Standard_NC24ads_A100_v4")


def running(*gpus: int, per_node: int = 1) -> World:
    """A world in which the worker pods of `chat` have their nodes."""
    world = World(group_of(A100, gpus=per_node))
    world.need("chat", *gpus)
    world.pass_time(600)
    assert not world.waiting()
    return world


def at(world: World, kind: type) -> list[float]:
    """Seconds since the start at which actions of a kind were taken."""
    return [(when - START).total_seconds() for when, action in world.history if isinstance(action, kind)]


def test_an_idle_node_is_closed_after_two_minutes_and_removed_in_a_later_pass() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(300)
    assert at(world, CordonNode) == [720.0]
    assert at(world, RemoveNodes) == [722.0]
    assert world.did(RemoveNodes)[0].nodes == (f"{world.pool(A100)}-000000",)
    assert world.nodes() == ()


def test_idle_seconds_can_be_set() -> None:
    world = running(1)
    world.settings = ScalingSettings(idle_seconds=10)
    world.end("chat")
    world.pass_time(60)
    assert at(world, CordonNode) == [610.0]


def test_a_node_with_a_pod_is_never_removed() -> None:
    world = running(1, 1)
    world.end("chat")
    world.need("other")
    world.pass_time(3600)
    (pod,) = world.pods.values()
    assert [node.name for node in world.nodes()] == [pod.node]


def test_a_node_with_anybody_s_pod_but_a_daemonset_s_stays() -> None:
    world = running(1)
    world.end("chat")
    world.view["in_use"] = frozenset({f"{world.pool(A100)}-000000"})
    world.pass_time(3600)
    assert world.did(CordonNode) == []
    world.view["in_use"] = frozenset()
    world.pass_time(200)
    assert world.nodes() == ()


def test_idle_time_begins_anew_after_work() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(100)
    world.need("other")
    world.pass_time(100)
    world.end("other")
    world.pass_time(100)
    assert world.did(CordonNode) == []


def test_a_pod_that_comes_after_a_node_was_closed_opens_it_again() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(121)
    assert len(world.did(CordonNode)) == 1
    world.need("late")
    world.pass_time(60)
    assert [action.reason for action in world.did(UncordonNode)] == [
        f"there is work for {world.pool(A100)}-000000 again"
    ]
    assert world.did(RemoveNodes) == []
    assert not world.waiting()
    assert len(world.did(EnsurePool)) == 1


def test_a_pod_that_was_placed_while_the_node_was_closed_opens_it_again() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(119.5)
    (key,) = world.need("late")
    world.pods[key] = replace(world.pods[key], node=f"{world.pool(A100)}-000000")
    world.pass_time(300)
    assert world.did(RemoveNodes) == []
    assert world.cordoned == set()


def test_one_node_is_kept_for_a_pod_that_waits_and_the_others_go() -> None:
    world = running(1, 1, 1)
    world.end("chat")
    world.need("late")
    world.pass_time(300)
    assert len(world.nodes()) == 1
    assert not world.waiting()


def test_a_node_that_a_person_has_closed_is_not_opened_and_goes_when_idle() -> None:
    world = running(1)
    world.cordoned.add(f"{world.pool(A100)}-000000")
    world.pass_time(600)
    assert world.did(RemoveNodes) == []
    world.end("chat")
    world.need("late")
    world.pass_time(600)
    assert world.did(UncordonNode) == []
    assert [action.nodes for action in world.did(RemoveNodes)] == [(f"{world.pool(A100)}-000000",)]
    assert not world.waiting()


def test_nodes_of_one_pool_go_in_one_write() -> None:
    world = running(1, 1, 1, 1)
    world.end("chat")
    world.pass_time(300)
    assert [len(action.nodes) for action in world.did(RemoveNodes)] == [4]


def test_the_nodes_of_a_workspace_that_is_gone_with_its_group_leave_too() -> None:
    world = running(1)
    world.end("chat")
    world.groups = {}
    world.pass_time(300)
    assert world.nodes() == ()


def test_nodes_that_come_after_nobody_wants_them_any_more_leave() -> None:
    world = World(group_of(A100))
    world.need("chat")
    world.pass_time(30)
    world.end("chat")
    world.pass_time(600)
    assert sum(world.provider.machines().values()) == 0


def test_an_empty_pool_goes_after_an_hour() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(3600)
    assert world.did(DeletePool) == []
    world.pass_time(600)
    assert len(world.did(DeletePool)) == 1
    assert world.last_pools() == ()
    assert world.memory == Remembered()


def test_an_empty_pool_that_is_used_within_the_hour_stays() -> None:
    world = running(1)
    for _ in range(4):
        world.end("chat")
        world.pass_time(2400)
        world.need("chat")
        world.pass_time(600)
    assert world.did(DeletePool) == []
    assert len(world.did(EnsurePool)) == 1


@pytest.mark.parametrize("when", [1.5, 100, 610, 721, 723])
def test_a_restart_at_any_moment_changes_nothing(when: float) -> None:
    def told(world: World) -> list[tuple[float, object]]:
        return [((at - START).total_seconds(), action) for at, action in world.history]

    steady, restarted = World(group_of(A100)), World(group_of(A100))
    steady.need("chat", 1, 1)
    restarted.need("chat", 1, 1)
    for world in (steady, restarted):
        for span, ends in (
            (min(when, 600), False),
            (600 - min(when, 600), True),
            (when, False),
            (600, False),
        ):
            world.pass_time(span)
            if ends:
                world.end("chat")
            if world is restarted:
                world.memory = Remembered.from_json(world.memory.to_json())
    assert told(steady) == told(restarted)


def test_a_crash_after_closing_a_node_does_not_leave_it_closed_for_ever() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(119)
    world.now = world.now.replace(second=0, minute=12)
    world.look(crash_after_actions=True)
    assert len(world.cordoned) == 1
    world.pass_time(300)
    assert world.nodes() == ()


def test_a_node_that_could_not_be_closed_is_closed_again_and_not_removed_open() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(119.5)
    for _ in range(30):
        world.pass_time(1)
        world.cordoned.clear()
    assert world.did(RemoveNodes) == []
    world.pass_time(120)
    assert len(world.did(CordonNode)) == 2
    assert world.nodes() == ()


def test_a_refused_removal_is_tried_again() -> None:
    world = running(1)
    world.end("chat")
    refusal = Refusal(
        kind=RefusalKind.DENIED, code="AuthorizationFailed", message="the role lacks deleteMachines"
    )
    world.provider.refuse_next("remove", refusal, times=2)
    world.pass_time(150)
    assert len(world.nodes()) == 1
    world.pass_time(300)
    assert world.nodes() == ()
    assert len(world.did(RemoveNodes)) == 3
    assert world.memory.held == ()


def test_nodes_are_not_removed_while_their_pool_is_busy() -> None:
    world = running(1)
    world.end("chat")
    world.pass_time(60)
    world.need("large", 1, 1)
    world.pass_time(90)
    assert world.provider.calls["remove"] == 0
    world.pass_time(600)
    assert not world.waiting()
