"""The parts of a Workspace's status that say how it stands, and by which plan. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kairay.controller.blueprint import Blueprint
from kairay.controller.conditions import Condition, draw_conditions
from kairay.controller.observed import Observed


class State:
    """`status.state`, KAITO's words."""

    PENDING, RUNNING, READY, NOT_READY = "Pending", "Running", "Ready", "NotReady"
    SUCCEEDED, FAILED = "Succeeded", "Failed"


def draw_status(
    seen: Observed, now: datetime, conditions: list[Condition], *, state: str, message: str,
    generation: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What every status has; `generation` is another than the Workspace's own where that has not been taken up."""
    if generation is None:
        generation = int(seen.workspace["metadata"].get("generation", 0))
    return {
        "observedGeneration": generation,
        "state": state,
        "message": message[:1024],
        "conditions": draw_conditions(
            conditions, seen.status.get("conditions", ()), generation=generation,
            now=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ),
    }  # fmt: skip


def plan_status(blueprint: Blueprint) -> dict[str, Any]:
    """`status.plan` and the nodes."""
    plan, sku = blueprint.plan, blueprint.sku
    shape = plan.tuning or plan.serving
    assert shape is not None
    assert plan.chosen is not None
    told: dict[str, Any] = {
        "instanceType": sku.name,
        "nodes": plan.chosen.nodes,
        "gpusPerNode": blueprint.gpus_per_node,
        "memoryPerGpu": f"{sku.bytes_per_gpu // 2**30}Gi",
        "headroomPercent": round(100 * (1 - shape.memory.total / max(1, shape.memory.capacity))),
        "reasons": [plan.chosen.reason, *plan.warnings][:20],
    }
    if plan.usd_per_hour is not None:
        told["hourlyCostUSD"] = round(plan.usd_per_hour, 2)
        said = {"priceRegion": sku.price_region, "priceAsOf": sku.price_as_of}
        told |= {key: value for key, value in said.items() if value is not None}
    if plan.job is not None:
        told["tokensPerSecond"] = plan.job.tokens_per_second
        if plan.job.usd_per_million_tokens is not None:
            told["millionTokensUSD"] = plan.job.usd_per_million_tokens
    return {"plan": told, "workerNodes": [node.name for node in blueprint.nodes]}


def kept_status(seen: Observed) -> dict[str, Any]:
    """What was said before and holds whatever a Workspace asks for now."""
    return {
        key: value for key, value in seen.status.items() if key in ("tuning", "inference", "plan", "revision")
    }
