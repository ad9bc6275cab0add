"""Sets of workers that are of no use unless all are there."""

from __future__ import annotations

from dataclasses import replace

from kairay.nodes.actions import EnsurePool
from kairay.nodes.interface import Offer, Quota
from node_world import World, group_of

A100 = Offer(instance_type="Standard_NC24ads_A100_v4")
H100 = Offer(instance_type="Standard_NC40ads_H100_v5")


def test_an_incomplete_set_gives_its_nodes_back_and_is_asked_for_again_later() -> None:
    world = World(group_of(A100))
    world.view["gangs"] = frozenset({"team/train"})
    world.provider.capacity[A100] = 2
    world.need("train", 1, 1, 1)
    world.pass_time(900)
    assert len(world.nodes()) == 2
    world.pass_time(400)
    assert sum(world.provider.machines().values()) == 0
    assert "team/train pauses: not all of its nodes could be had at once" in world.word()
    world.provider.capacity[A100] = 3
    world.pass_time(3600)
    assert world.waiting() == []


def test_a_set_is_not_begun_where_the_quota_cannot_carry_all_of_it() -> None:
    world = World(group_of(A100, H100))
    world.view["gangs"] = frozenset({"team/train"})
    world.provider.quotas[A100] = Quota(name="A100", used=48, limit=96, per_node=24)
    world.need("train", 1, 1, 1)
    world.pass_time(5)
    assert [(each.spec.offer, each.count) for each in world.did(EnsurePool)] == [(H100, 3)]


def test_releasing_an_incomplete_set_leaves_the_nodes_of_others() -> None:
    world = World(group_of(A100))
    world.need("serve")
    world.pass_time(400)
    world.view["gangs"] = frozenset({"team/train"})
    world.provider.capacity[A100] = 2
    world.need("train", 1, 1)
    world.pass_time(1500)
    assert {pod.workspace for pod in world.pods.values() if pod.node} == {"serve"}
    assert sum(world.provider.machines().values()) == 1


def test_a_service_of_the_same_workspace_is_no_part_of_an_incomplete_set() -> None:
    world = World(group_of(A100))
    world.need("train")
    world.pods = {key: replace(pod, serves=True) for key, pod in world.pods.items()}
    world.pass_time(400)
    world.view["gangs"] = frozenset({"team/train"})
    world.provider.capacity[A100] = 2
    world.need("train", 1, 1)
    world.pass_time(1500)
    assert [pod.serves for pod in world.pods.values() if pod.node] == [True]
    assert sum(world.provider.machines().values()) == 1
