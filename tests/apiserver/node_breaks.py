"""How things are made to go wrong with GPU nodes, and set right again."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from aks_faults import CASES
from kairay.nodes.groups import pool_name
from kairay.nodes.interface import Offer
from node_stage import Stage
from simulator import Fault
from simulator.sizes import family_and_cores

T4 = "Standard_NC4as_T4_v3"
"""What the plan chooses for the stage's Workspace."""
Step = Callable[[Stage], object]


def azure_says(name: str, *, times: int | None = None, **changes: Any) -> Step:
    """A failure in Azure's words, by its name in the table of the provider's own tests."""
    (case,) = [each for each in CASES if each.name == name]
    return lambda stage: stage.azure.cloud.faults.append(Fault(**{**case.fault, "times": times, **changes}))


def nothing(stage: Stage) -> None:
    """It mends itself, or not at all."""


def more_work(*also: Step) -> Step:
    def step(stage: Stage) -> None:
        for each in also:
            each(stage)
        stage.need("another")

    return step


def no_quota(stage: Stage) -> None:
    stage.azure.cloud.quota.limits[family_and_cores(T4)[0]] = 0


def cloud_has(**changes: Any) -> Step:
    def step(stage: Stage) -> None:
        for name, value in changes.items():
            setattr(stage.azure.cloud, name, value)

    return step


def pool_of_others(stage: Stage) -> None:
    """Somebody's pool has the name that ours would have."""
    name = pool_name(stage.group, Offer(instance_type=T4))
    stage.azure.cloud.add_foreign(name, {"vmSize": T4, "count": 0})


def never_joins(stage: Stage) -> None:
    for machine in stage.pools[0].machines:
        machine.joins_at = machine.gpus_at = inf


def never_has_gpus(stage: Stage) -> None:
    for machine in stage.pools[0].machines:
        machine.gpus_at = inf


def pool_deleted(stage: Stage) -> None:
    """By somebody, in the portal."""
    stage.azure.cloud.drop(stage.pools[0].name)


def evicted(stage: Stage) -> None:
    stage.azure.cloud.evict(stage.pools[0].name)
    stage.azure.advance(0)


def autoscaler_turned_on(stage: Stage) -> None:
    stage.azure.cloud.change(stage.pools[0].name, enableAutoScaling=True, minCount=0, maxCount=1)


def autoscaler_acts(stage: Stage) -> None:
    stage.azure.cloud.autoscale(stage.pools[0].name, 2)


def autoscaler_ends(stage: Stage) -> None:
    stage.azure.cloud.autoscale(stage.pools[0].name, 0)


def gpu_lost(stage: Stage) -> None:
    (name,) = stage.machines
    stage.patch_node(
        name, {"type": "GPUMissing", "status": "True", "reason": "GPUMissing", "message": "1 of 1"}
    )


def azure_away(stage: Stage) -> None:
    stage.endpoint = "http://127.0.0.1:9"


def azure_back(stage: Stage) -> None:
    stage.endpoint = stage.azure.url
