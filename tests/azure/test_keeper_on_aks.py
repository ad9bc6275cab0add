"""Nodes come for work and leave after it, on a simulated AKS, with everything between them real."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date

import pytest

from aks_faults import CASES, Case
from aks_scenario import A100, FAMILY, H100, run
from kairay.controller.blueprint import draw_blueprint
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.nodes.groups import pool_name
from kairay.nodes.interface import NodeGroup, Offer, PoolSpec
from kairay.presets import find_preset
from kairay.skus import load_skus
from kairay.workspace import Workspace
from keeper_stage import Stage
from simulator import Fault, Simulator

HOUR = 3600
SHORT = [case for case in CASES if case.avoid < 23 * HOUR]
"""Two sizes that the subscription cannot have would only make the test wait for a day."""
CALLS = ("PUT pool", "POST deleteMachines", "DELETE pool", "GET pools")


def test_work_gets_its_nodes_in_one_write_and_they_go_by_name_when_it_ends(azure: Simulator) -> None:
    stage = Stage(azure)
    stage.need(3)
    stage.until(lambda: stage.running() == 3, within=400)
    assert azure.arm.calls["PUT pool"] == 1
    stage.end()
    stage.until(lambda: stage.machines() == 0, within=400)
    assert (azure.arm.calls["PUT pool"], azure.arm.calls["POST deleteMachines"]) == (1, 1)
    assert all(pool.state == "Succeeded" for pool in azure.cloud.pools.values())


def test_an_empty_pool_goes_after_an_hour(azure: Simulator) -> None:
    stage = Stage(azure)
    stage.need()
    stage.until(lambda: stage.running() == 1, within=400)
    stage.end()
    stage.until(lambda: list(azure.cloud.pools) == ["system"], within=2 * HOUR)


def test_more_work_grows_the_pool_in_one_more_write(azure: Simulator) -> None:
    stage = Stage(azure)
    stage.need()
    stage.until(lambda: stage.running() == 1, within=400)
    stage.need(2)
    stage.until(lambda: stage.running() == 3, within=600)
    assert azure.arm.calls["PUT pool"] == 2
    assert stage.machines() == 3


def test_a_family_without_quota_is_not_asked_for_and_the_next_size_comes(azure: Simulator) -> None:
    azure.cloud.quota.limits[FAMILY] = 0
    stage = Stage(azure)
    stage.need()
    stage.until(lambda: stage.running() == 1, within=400)
    asked = [entry["body"]["properties"]["vmSize"] for entry in azure.arm.log if entry["call"] == "PUT pool"]
    assert asked == [H100]
    assert any(FAMILY in words for words in stage.words)


def test_a_region_without_machines_of_a_size_gives_the_next_and_the_failed_pool_goes(
    azure: Simulator,
) -> None:
    azure.cloud.capacity[A100] = 0
    stage = Stage(azure)
    stage.need()
    stage.until(lambda: stage.running() == 1, within=1200)
    assert {pool.properties["vmSize"] for name, pool in azure.cloud.pools.items() if name != "system"} >= {
        H100
    }
    stage.until(
        lambda: all(pool.properties["vmSize"] != A100 for pool in azure.cloud.pools.values()), within=HOUR
    )
    assert any(A100 in words for words in stage.words)


def test_a_controller_that_dies_every_few_seconds_asks_for_nothing_twice(azure: Simulator) -> None:
    stage = Stage(azure)
    stage.need(2)
    for _ in range(40):
        stage.go_on(9)
    assert stage.running() == 2
    assert (azure.arm.calls["PUT pool"], stage.machines()) == (1, 2)


def test_an_evicted_spot_node_is_asked_for_again_and_the_third_gives_way_to_on_demand(
    azure: Simulator,
) -> None:
    stage = Stage(azure, A100, spot=True)
    stage.need()
    for _ in range(3):
        stage.until(lambda: stage.running() == 1, within=HOUR)
        (pool,) = [name for name, pool in azure.cloud.pools.items() if pool.size == (A100, True)]
        azure.cloud.evict(pool)
        azure.advance(0)
        stage.go_on(5)
    stage.until(lambda: stage.running() == 1, within=HOUR)
    used = [pool.size for pool in azure.cloud.pools.values() if pool.machines and pool.name != "system"]
    assert (A100, False) in used


def test_an_autoscaler_that_is_turned_on_is_given_room_and_its_count_left_alone(azure: Simulator) -> None:
    stage = Stage(azure, A100)
    stage.need()
    stage.until(lambda: stage.running() == 1, within=400)
    stage.go_on(120)
    (pool,) = [pool for name, pool in azure.cloud.pools.items() if name != "system"]
    azure.cloud.change(pool.name, enableAutoScaling=True, minCount=0, maxCount=1)
    stage.need(2)
    stage.until(lambda: pool.properties["maxCount"] == 3, within=HOUR)
    assert pool.properties["count"] == 1
    azure.advance(300)
    azure.cloud.autoscale(pool.name, 3)
    stage.until(lambda: stage.running() == 3, within=HOUR)


def group_of(profile: str) -> NodeGroup:
    """The nodes of a Workspace that asks for slices."""
    written = Workspace.model_validate({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine", "namespace": "team"},
        "resource": {
            "labelSelector": {"matchLabels": {"app": "mine"}}, "instanceType": A100,
            "partition": {"mode": "mig", "profile": profile},
        },
        "inference": {"preset": {"name": "smollm2-135m-instruct"}},
    })  # fmt: skip
    blueprint = draw_blueprint(
        written, find_preset("smollm2-135m-instruct"), nodes=(), skus=load_skus(),
        settings=Settings(nodes=NodeSettings(provider=Provider.AKS)), today=date(2026, 11, 25),
    )  # fmt: skip
    assert blueprint.group is not None
    return blueprint.group


def sliced(name: str, mig: str, slices: int) -> NodeGroup:
    return NodeGroup(name=name, offers=(Offer(instance_type=A100),), gpus_per_node={A100: slices}, mig=mig)


def test_workspaces_with_slices_of_two_kinds_get_a_pool_each_with_as_few_nodes_as_hold_them(
    azure: Simulator,
) -> None:
    for profile, workers in (("1g.10gb", 9), ("3g.40gb", 3)):
        stage = Stage(azure, group=group_of(profile))
        stage.need(workers)
        stage.until(lambda stage=stage, workers=workers: stage.running() == workers, within=600)
    bodies = [entry["body"]["properties"] for entry in azure.arm.log if entry["call"] == "PUT pool"]
    assert [(each["gpuInstanceProfile"], each["count"]) for each in bodies] == [("MIG1g", 2), ("MIG3g", 2)]
    assert len(azure.cloud.pools) == 3, "the system's and these"


def test_a_plugin_that_shows_no_slices_is_told_and_no_more_nodes_are_paid_for(azure: Simulator) -> None:
    stage = Stage(azure, group=sliced("g7", "1g", 14))  # twice what the machine will have
    stage.need(9)
    stage.go_on(1200)
    assert (stage.machines(), stage.running()) == (1, 7)
    assert any("advertises 7 nvidia.com/gpu" in words and "migStrategy" in words for words in stage.words)


def test_a_pool_that_was_cut_otherwise_is_told_and_left_alone(azure: Simulator) -> None:
    group = sliced("g7", "1g", 7)
    offer = group.offers[0]
    spec = PoolSpec(name=pool_name("g7", offer), group=replace(group, mig="3g"), offer=offer)
    run(azure, lambda provider: provider.ensure(spec, 0))
    stage = Stage(azure, group=group)
    stage.need()
    stage.go_on(300)
    assert (stage.machines(), stage.running()) == (0, 0)
    assert any(
        "is there with MIG slices of 3g and MIG slices of 1g are wanted" in words for words in stage.words
    )


def test_pools_of_others_are_as_they_were_after_all(azure: Simulator) -> None:
    azure.cloud.add_foreign("gpus", {"vmSize": A100, "count": 2, "nodeLabels": {"kairay.dev/pool": "g1"}})
    before = dict(azure.cloud.pools["gpus"].properties)
    stage = Stage(azure)
    stage.need(2)
    stage.until(lambda: stage.running() == 2, within=400)
    stage.end()
    stage.until(lambda: stage.machines() == 2, within=600)
    assert azure.cloud.pools["gpus"].properties == before


@pytest.mark.parametrize("case", [case for case in CASES if not case.spot], ids=lambda case: case.name)
def test_after_any_failure_the_work_gets_its_node_and_nothing_is_left_behind(
    azure: Simulator, case: Case
) -> None:
    azure.arm.checks = False
    fault = case.make()
    fault.times = 1
    azure.cloud.faults.append(fault)
    stage = Stage(azure)
    stage.need()
    stage.until(lambda: stage.running() == 1, within=2 * HOUR)
    assert fault.times == 0
    stage.end()
    stage.until(lambda: stage.machines() == 0, within=2 * HOUR)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_at_random_no_machine_is_paid_for_without_work_in_the_end(
    azure: Simulator, seed: int
) -> None:
    azure.arm.checks = False
    chance = random.Random(seed)
    stage = Stage(azure, spot=chance.random() < 0.5)
    for _ in range(6):
        azure.cloud.faults.append(random_fault(chance))
    for _ in range(5):
        stage.need(chance.randint(1, 3))
        stage.go_on(chance.uniform(5, 400))
        for pool in [pool for pool in azure.cloud.pools.values() if pool.size[1] and chance.random() < 0.3]:
            azure.cloud.evict(pool.name)
        if chance.random() < 0.5:
            stage.end()
    azure.cloud.faults.clear()
    stage.need()
    stage.until(lambda: stage.running() == stage.pods(), within=4 * HOUR)
    stage.end()
    stage.until(lambda: stage.machines() == 0, within=4 * HOUR)


def random_fault(chance: random.Random) -> Fault:
    fault = chance.choice(SHORT).make()
    fault.times, fault.arrive = 1, chance.randint(0, 2)
    fault.call = "PUT pool" if fault.operation else chance.choice(CALLS)
    return fault
