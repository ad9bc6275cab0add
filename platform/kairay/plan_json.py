"""A plan as JSON-ready values: camelCase keys, bytes and seconds as numbers, the order of the dataclasses
kept."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from kairay.memory import MemoryUse

if TYPE_CHECKING:
    from kairay.plan import Plan
    from kairay.plan_candidates import Candidate

# Of a candidate that lost only what says why; the shapes of the chosen one stand in the plan itself.
_SHAPES = frozenset({"sku", "tuning", "serving", "spot", "job", "gpus_per_node"})


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Every field of the plan; candidates in short."""
    short = {"candidates", "chosen", "replacements"}
    answer = {
        _camel(field.name): _plain(getattr(plan, field.name))
        for field in fields(plan)
        if field.name not in short
    }
    answer["chosen"] = None if plan.chosen is None else _candidate(plan.chosen)
    answer["replacements"] = [_candidate(candidate) for candidate in plan.replacements]
    answer["candidates"] = [_candidate(candidate) for candidate in plan.candidates]
    return answer


def _candidate(candidate: Candidate) -> dict[str, Any]:
    sku = candidate.sku
    answer: dict[str, Any] = {
        "instanceType": sku.name,
        "hardware": sku.hardware,
        "gpusPerNode": sku.gpus,
        "cores": sku.cores,
        "quotaFamily": sku.quota_family,
        "spotUsdPerHour": sku.spot_usd_per_hour,
        "priceRegion": sku.price_region,
        "priceAsOf": sku.price_as_of,
    }
    answer |= {
        _camel(field.name): getattr(candidate, field.name)
        for field in fields(candidate)
        if field.name not in _SHAPES
    }
    answer["job"] = _plain(candidate.job)
    answer["memory"] = _plain(candidate.memory)
    return answer


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        answer = {_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, MemoryUse):
            answer |= {
                "total": value.total,
                "headroom": value.headroom,
                "headroomPercent": value.headroom_percent,
            }
        return answer
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
