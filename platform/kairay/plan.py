"""Workspace + preset + machine sizes -> Plan: what will run, on what, at what price, and why the rest lost.

`make_plan` is pure: same input, same plan. A plan with problems cannot run; its problems are sentences with
the remedy. Prices are of the machines that do the work; the head's share of a CPU node is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kairay.errors import InputError
from kairay.mig import Cutter, cutter_faults, cutter_hints
from kairay.plan_advice import (
    cannot_be_had,
    choice_warnings,
    general_warnings,
    local_warnings,
    machine_too_small,
    near_sizes,
    nothing_fits,
    preset_faults,
    replacements,
    unknown_size,
)
from kairay.plan_candidates import Candidate, choose, chosen_of, not_taken, weigh, weigh_all
from kairay.plan_demand import Demand
from kairay.plan_job import JobCost, TrainingData
from kairay.plan_json import plan_to_dict
from kairay.plan_quota import Quota
from kairay.plan_serving import Engine, ReplicaBounds, ServingShape
from kairay.plan_tuning import TuningShape
from kairay.plan_wish_words import wish_faults, wish_warnings
from kairay.plan_wishes import ServingWishes, TuningWishes, Wishes
from kairay.presets import Preset, TuningMethod
from kairay.skus import CLOUDS, Sku, SkuKind, find_sku

if TYPE_CHECKING:
    from kairay.workspace import Workspace

__all__ = ["Candidate", "Engine", "Plan", "PlanTarget", "ServingShape", "TuningShape", "Work", "make_plan"]

IDLE_SECONDS = 600.0
"""How long a service waits for a request before it scales to zero, when the Workspace does not say."""


class Work(StrEnum):
    """What a Workspace asks for first; a tuning one may serve its result afterwards."""

    TUNING = "tuning"
    INFERENCE = "inference"


class PlanTarget(StrEnum):
    """Where it will run."""

    CLUSTER = "cluster"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will run and why; frozen, and JSON by `to_dict`."""

    workspace: str
    """Its name."""
    work: Work
    preset: str
    """Its name."""
    method: TuningMethod | None
    """How it is tuned; None: nothing is tuned."""
    serves: bool
    """A service runs in the end."""
    target: PlanTarget
    asked_for: str | None
    """`resource.instanceType`, as written."""
    candidates: tuple[Candidate, ...]
    """Every size that was weighed, by price."""
    chosen: Candidate | None
    replacements: tuple[Candidate, ...] = ()
    """Where the size that was asked for cannot be had: sizes to take instead, by price."""
    tuning: TuningShape | None = None
    serving: ServingShape | None = None
    usd_per_hour: float | None = None
    """All machines of the plan at their most; None when not known, or when the machine is one's own."""
    job: JobCost | None = None
    """What tuning costs, an estimate; None when nothing is tuned or the GPU's rate is not known."""
    data: TrainingData | None = None
    """What the estimate is of."""
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Why it cannot run, each with the remedy; empty when it can."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready values with camelCase keys; sizes in bytes, times in seconds."""
        return plan_to_dict(self)


def make_plan(
    workspace: Workspace,
    preset: Preset,
    *,
    skus: Mapping[str, Sku],
    machine: Sku | None,
    target: PlanTarget,
    now: date,
    data: TrainingData | None = None,
    quota: Quota | None = None,
    advise: Mapping[str, Sku] | None = None,
    cutter: Cutter = Cutter.ANYONE,
    wishes: Wishes | None = None,
) -> Plan:
    """Plan a Workspace of this preset.

    For a cluster, sizes of one cloud are compared: of the one whose size was asked for, else of Azure, else of
    whoever is in `skus`; the machine is only shown beside them. Locally it is the choice, and the size that the
    Workspace names is not used. With `data`, tuning is ranked by the cost of the job, without it by that of a
    million tokens; no plan exceeds a `quota` that is known. Where nothing of `skus` will do, the problem names the
    smallest of `advise` that will (None: of `skus`). `cutter` cuts the GPUs of new nodes into slices.
    `wishes` are what the user's own config fixes (`kairay.plan_config.read_config`; None: it was not seen).
    InputError for a Workspace that brings its own container: there is nothing to plan.
    """
    demand = _with_wishes(_demand(workspace, preset, target), wishes)
    demand = replace(demand, data=data, quota=quota, cutter=cutter)
    plan = _begun(workspace, demand, skus, target, wishes)
    if plan.problems:
        return plan
    if target is PlanTarget.LOCAL:
        return _plan_machine(plan, demand, machine, skus, now)
    return _shown_beside(_plan_cluster(plan, demand, skus, advise, now), demand, machine, now)


def _begun(
    workspace: Workspace, demand: Demand, skus: Mapping[str, Sku], target: PlanTarget, wishes: Wishes | None
) -> Plan:
    """What can be said before any size is looked at."""
    preset, local, tunes = demand.preset, target is PlanTarget.LOCAL, workspace.tuning is not None
    return Plan(
        workspace=workspace.metadata.name,
        work=Work.TUNING if tunes else Work.INFERENCE,
        preset=preset.name,
        method=demand.method if tunes else None,
        serves=demand.bounds is not None,
        target=target,
        asked_for=workspace.resource.instance_type or None,
        candidates=(),
        chosen=None,
        data=demand.data if tunes else None,
        warnings=(
            *general_warnings(workspace, preset),
            *cutter_hints(demand.mig, demand.cutter, skus.values()),
            *wish_warnings(workspace, wishes, preset, local=local),
        ),
        problems=(
            *preset_faults(workspace, preset),
            *cutter_faults(demand.mig, demand.cutter, skus.values()),
            *wish_faults(wishes, preset, local=local),
        ),
    )


def _demand(workspace: Workspace, preset: Preset, target: PlanTarget) -> Demand:
    tuning, inference = workspace.tuning, workspace.inference
    # `kairay run` takes the machine as it is.
    partition = workspace.resource.partition if target is PlanTarget.CLUSTER else None
    bounds: ReplicaBounds | None = None
    if inference is not None:
        if inference.preset is None:
            raise InputError("inference.template brings its own container: there is nothing to plan")
        scaling = inference.scaling
        least = 1 if scaling is None or scaling.min_replicas is None else scaling.min_replicas
        most = 1 if scaling is None or scaling.max_replicas is None else scaling.max_replicas
        idle = None if scaling is None else scaling.idle_seconds
        bounds = ReplicaBounds(
            min_replicas=least,
            max_replicas=max(1, most, least),
            idle_seconds=IDLE_SECONDS if idle is None else idle,
            target_ongoing_requests=None if scaling is None else scaling.target_ongoing_requests,
        )
    elif tuning is not None and tuning.serve:
        least = 1 if target is PlanTarget.LOCAL else 0
        bounds = ReplicaBounds(min_replicas=least, max_replicas=1, idle_seconds=IDLE_SECONDS)
    return Demand(
        preset=preset,
        tuning=None if tuning is None else preset.tuning,
        method=TuningMethod.QLORA if tuning is None else TuningMethod(tuning.method),
        workers=None if tuning is None else tuning.workers,
        bounds=bounds,
        max_usd_per_hour=workspace.resource.max_hourly_cost_usd,
        mig=None if partition is None else partition.profile,
        gpus_per_node=None if partition is None else partition.count,
        spot=workspace.resource.spot,
    )


def _with_wishes(demand: Demand, wishes: Wishes | None) -> Demand:
    match wishes:
        case TuningWishes() if demand.tuning is not None:
            facts = wishes.applied(demand.tuning, demand.preset.model)
            return replace(demand, tuning=facts, tuning_wishes=wishes)
        case ServingWishes():
            return replace(demand, serving_wishes=wishes)
        case _:
            return demand


def _plan_cluster(
    plan: Plan, demand: Demand, skus: Mapping[str, Sku], advise: Mapping[str, Sku] | None, now: date
) -> Plan:
    asked = None if plan.asked_for is None else find_sku(plan.asked_for, skus)
    unknown = plan.asked_for if asked is None else None
    near = [] if unknown is None else near_sizes(unknown, skus if advise is None else advise, now)
    like = asked or next(iter(near), None)
    weighed = weigh_all(demand, _of_one_cloud(skus, like), today=now, asked_for=asked)
    open_choice = choose(weighed, asked_for=None)
    candidates = choose(weighed, asked_for=asked)
    chosen = chosen_of(candidates)
    if chosen is not None and unknown is None:
        warnings = choice_warnings(demand, chosen, chosen_of(open_choice), now)
        taken = _taken(plan, demand, candidates, chosen)
        return replace(taken, warnings=(*plan.warnings, *warnings))
    wider = open_choice
    if advise is not None:
        like = like or next((candidate.sku for candidate in open_choice), None)
        wider = choose(weigh_all(demand, _of_one_cloud(advise, like), today=now), asked_for=None)
    if unknown is not None:
        return _with_problem(plan, not_taken(open_choice), unknown_size(unknown, near, wider))
    if asked is None:
        return _with_problem(plan, not_taken(open_choice), nothing_fits(demand, open_choice, wider))
    plan = _with_problem(plan, not_taken(open_choice), cannot_be_had(asked, open_choice, wider, now))
    return replace(plan, replacements=replacements(asked, wider))


def _of_one_cloud(skus: Mapping[str, Sku], like: Sku | None) -> list[Sku]:
    """The sizes of the cloud that `like` is of, and those of nodes that are there."""
    cloud = like.kind if like is not None and like.kind in CLOUDS else SkuKind.AZURE
    return [sku for sku in skus.values() if sku.kind in (cloud, SkuKind.NODE)] or list(skus.values())


def _plan_machine(
    plan: Plan, demand: Demand, machine: Sku | None, skus: Mapping[str, Sku], now: date
) -> Plan:
    assert machine is not None, "a local plan is of a machine"
    # The processor can do what the GPU is too small for.
    sides = [machine] if machine.without_gpu is None else [machine, machine.without_gpu]
    weighed = [weigh(demand, sku, today=now) for sku in sides]
    best = next((candidate for candidate in weighed if candidate.fits), None)
    warnings = plan.warnings + tuple(local_warnings(demand, plan.asked_for, best, skus, now))
    if best is None:
        fault = machine_too_small(demand, weighed[0])
        return replace(_with_problem(plan, tuple(weighed), fault), warnings=warnings)
    taken = choose([best], asked_for=best.sku)
    rest = tuple(
        replace(lost, reason=lost.reason or "the GPU is faster") for lost in weighed if lost is not best
    )
    return replace(_taken(plan, demand, (*taken, *rest), taken[0]), warnings=warnings)


def _taken(plan: Plan, demand: Demand, candidates: tuple[Candidate, ...], chosen: Candidate) -> Plan:
    return replace(
        plan,
        candidates=candidates,
        chosen=chosen,
        tuning=chosen.tuning,
        serving=chosen.serving,
        usd_per_hour=chosen.usd_per_hour,
        job=chosen.job,
        data=None if chosen.tuning is None else demand.data_of(chosen.tuning),
    )


def _with_problem(plan: Plan, candidates: tuple[Candidate, ...], problem: str) -> Plan:
    return replace(plan, candidates=candidates, problems=(*plan.problems, problem))


def _shown_beside(plan: Plan, demand: Demand, machine: Sku | None, now: date) -> Plan:
    """The plan with this machine as one more size, which a cluster cannot take."""
    if machine is None:
        return plan
    local = weigh(replace(demand, max_usd_per_hour=None), machine, today=now)
    reason = "fits; `kairay run` uses it" if local.fits else local.reason
    return replace(plan, candidates=(*plan.candidates, replace(local, reason=reason)))
