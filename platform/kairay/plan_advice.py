"""What a plan says to a person: problems with their remedy, warnings, and sizes to take instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from kairay.memory import missing_facts, parameter_count
from kairay.mig import is_profile
from kairay.plan_candidates import Candidate, chosen_of, cost_words, holds, smallest, spreads, usd
from kairay.plan_demand import Demand
from kairay.plan_replica import MAX_NODES
from kairay.plan_sizes import retirement, vetoes
from kairay.presets import Preset
from kairay.quantities import format_bytes
from kairay.skus import Device, Sku, SkuKind, find_sku, nearest_skus

if TYPE_CHECKING:
    from kairay.workspace import Workspace

_MAX_REPLACEMENTS = 4
_SLOW_ON_A_PROCESSOR = 1_000_000_000


def preset_faults(workspace: Workspace, preset: Preset) -> Iterator[str]:
    """What the preset cannot do, whatever the machine."""
    if workspace.tuning is None:
        return
    method = str(workspace.tuning.method)
    if preset.tuning is None:
        yield f"preset {preset.name} cannot be tuned; `kairay presets` shows which can"
    elif method not in preset.tuning.methods:
        offered = " or ".join(preset.tuning.methods)
        yield f"tuning.method: preset {preset.name} is tuned by {offered}, not by {method}"


def general_warnings(workspace: Workspace, preset: Preset) -> Iterator[str]:
    """What to know of this Workspace wherever it runs."""
    if missing := missing_facts(preset.model):
        yield f"memory is estimated without {' and '.join(missing)}, which the preset does not know"
    if workspace.resource.count not in (None, 1):
        yield f"resource.count {workspace.resource.count} is not used: the plan works out how many it takes"
    spec = workspace.tuning or workspace.inference
    reference = None if spec is None else spec.preset
    if preset.model.gated and (reference is None or reference.options.model_access_secret is None):
        yield (
            f"{preset.model.id} is gated: accept its licence on the hub, and name a secret with HF_TOKEN"
            " under presetOptions.modelAccessSecret (or set HF_TOKEN for a run on this machine)"
        )


def near_sizes(name: str, skus: Mapping[str, Sku], now: date) -> list[Sku]:
    """What somebody may have meant by a name that is in no table, of any cloud's sizes that may be used."""
    usable = {sku.name: sku for sku in skus.values() if not vetoes(sku, today=now, asked_for=True)}
    return [usable[near] for near in nearest_skus(name, usable, now)]


def unknown_size(name: str, near: list[Sku], open_choice: tuple[Candidate, ...]) -> str:
    """The problem of a size that is in no table."""
    if near:
        meant = " or ".join(sku.name for sku in near)
        return f"resource.instanceType {name} is not a known size; did you mean {meant}?"
    return f"resource.instanceType {name} is not one of the GPU sizes known here{_advice(open_choice)}"


def nothing_fits(demand: Demand, open_choice: tuple[Candidate, ...], wider: tuple[Candidate, ...]) -> str:
    """The problem of work that is too big, or too dear, for every size; `wider`: sizes that could be had too."""
    name, limit = demand.preset.name, demand.max_usd_per_hour
    if best := smallest(wider):
        there = ", ".join(candidate.sku.name for candidate in open_choice[:3])
        return (
            f"no machine that is there ({there}) holds {name}: {open_choice[0].reason};"
            f" the smallest size that works is {best.sku.name}{_price(best)}"
        )
    prices = {
        candidate.sku.name: candidate.usd_per_hour
        for candidate in wider
        if holds(candidate) and candidate.usd_per_hour is not None
    }
    if limit is not None and prices and min(prices.values()) > limit:
        cheapest = min(prices, key=lambda sku: (prices[sku], sku))
        return (
            f"no size that fits {name} is within resource.maxHourlyCostUSD {limit:g};"
            f" raise it to {prices[cheapest]:g} for {cheapest}, or take a smaller preset"
        )
    if demand.quota is not None and prices:
        wanted = next(candidate for candidate in wider if candidate.sku.name in prices)
        return (
            f"no size that fits {name} is within the quota ({wanted.sku.name}: {wanted.reason});"
            " ask Azure for more, or take a smaller preset"
        )
    seen = any(candidate.nodes for candidate in wider)
    if demand.mig is not None and not seen:
        return (
            f"resource.partition.profile {demand.mig}: no known size has such slices; `kairay plan FILE -o wide` says"
            " which each has"
        )
    if demand.gpus_per_node is not None and not seen:
        return f"resource.partition.count: no known size has {demand.gpus_per_node} GPUs; take fewer"
    if demand.mig is not None:
        return f"no slice of {demand.mig} holds {name}; take a larger profile, or a smaller preset"
    if demand.because:
        return f"no known size fits {name}{demand.because}; lower that in {demand.source}, or take a smaller preset"
    return f"no known size fits {name}; take a smaller preset"


def machine_too_small(demand: Demand, machine: Candidate) -> str:
    """The problem of work that this machine does not hold."""
    if machine.reason.startswith("tuning.workers"):
        return f"{machine.reason}; lower it, or run it on a cluster"
    ways = ["take a smaller preset", "or run it on a cluster"]
    if (demand.workers or 1) > 1 and machine.sku.device is Device.CPU:
        ways.insert(0, "lower tuning.workers")
    if demand.because and demand.because in machine.reason:
        ways.insert(0, f"lower that in {demand.source}")
    return f"{machine.reason}; {', '.join(ways)}"


def cannot_be_had(
    asked: Sku, open_choice: tuple[Candidate, ...], wider: tuple[Candidate, ...], now: date
) -> str:
    """The problem of a size that was asked for and is retired, ruled out, too small or too dear."""
    if asked.retired(now):
        others = [reason for reason in vetoes(asked, today=now, asked_for=True) if "retired" not in reason]
        also = f" ({asked.gpu}: {'; '.join(others)})" if others else ""
        fault = f"was retired by Azure {retirement(asked)} and cannot be had any more{also}"
    else:
        own = next(candidate for candidate in open_choice if candidate.sku.name == asked.name)
        fault = f"cannot be used: {own.reason}"
    return f"{asked.name} ({asked.hardware}) {fault}{_advice(wider)}"


def _advice(candidates: tuple[Candidate, ...]) -> str:
    """The size that is taken where none is asked for."""
    best = chosen_of(candidates)
    if best is None:
        return "; no other known size fits either"
    return f"; set resource.instanceType to {best.sku.name}{_price(best)} or leave it out"


def _price(candidate: Candidate) -> str:
    return "" if candidate.usd_per_hour is None else f" ({usd(candidate.usd_per_hour)} per hour)"


def replacements(asked: Sku, open_choice: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Priced sizes to take instead: Microsoft's choice, and the cheapest GPU models of the memory class.

    The class of a size: as many GPUs, each of its memory or less than twice that.
    """
    kept: dict[str, Candidate] = {}
    for candidate in sorted(open_choice, key=lambda each: (each.usd_per_hour or 0.0, each.sku.name)):
        if not candidate.fits or spreads(candidate) or candidate.usd_per_hour is None:
            continue
        sku = candidate.sku
        alike = sku.gpus == asked.gpus and asked.bytes_per_gpu <= sku.bytes_per_gpu < 2 * asked.bytes_per_gpu
        named = sku.name in asked.replacements[:1]
        if candidate.chosen or named or (alike and all(sku.gpu != other.sku.gpu for other in kept.values())):
            kept[sku.name] = replace(
                candidate, chosen=False, reason=_merits(candidate, asked, alike=alike, named=named)
            )
    return tuple(kept.values())[:_MAX_REPLACEMENTS]


def _merits(candidate: Candidate, asked: Sku, *, alike: bool, named: bool) -> str:
    same = candidate.sku.bytes_per_gpu == asked.bytes_per_gpu
    merits = (
        ("the cheapest that fits", candidate.chosen),
        ("as much memory", same),
        ("the next memory size up", alike and not same),
    )
    return "; ".join(words for words, true in (*merits, ("Microsoft's recommendation", named)) if true)


def choice_warnings(
    demand: Demand, chosen: Candidate, cheapest: Candidate | None, now: date
) -> Iterator[str]:
    """What to know of the size that was chosen."""
    sku = chosen.sku
    if sku.retired_on is not None and not sku.retired(now):
        yield f"{sku.name} will be retired by Azure {retirement(sku)}"
    if is_profile(sku.share):
        if demand.mig is None:
            yield f"the GPUs of {sku.name} are cut into slices of {sku.share}: each counts as one"
    elif sku.share is not None:
        yield f"{sku.name} is {sku.share} of a GPU: its speed depends on its neighbours"
    if sku.note is not None:
        yield f"{sku.name}: {sku.note}"
    if chosen.usd_per_hour is None:
        yield f"the price of {sku.name} is not known"
    elif demand.spot and not chosen.spot:
        yield (
            f"resource.spot: the price of {sku.name} as a spot machine is not known; shown is that of an ordinary"
            " one, which is more (`kairay prices refresh`)"
        )
    if cheapest is not None:
        yield from _cheaper(chosen, cheapest)
    if chosen.gpus < (owned := chosen.nodes * sku.gpus):
        verb = "is" if chosen.gpus == 1 else "are"
        yield f"{chosen.gpus} of the {owned} {'slices' if is_profile(sku.share) else 'GPUs'} {verb} used"
    yield from _many_machines(demand, chosen)
    if (
        demand.quota is not None
        and sku.kind is SkuKind.AZURE
        and not demand.quota.known(sku, spot=demand.spot)
    ):
        yield f"the quota for {chosen.nodes * sku.cores} cores of {sku.name} is not known"


def _cheaper(chosen: Candidate, cheapest: Candidate) -> Iterator[str]:
    price, least = chosen.cost, cheapest.cost
    if price is not None and least is not None and least < price:
        yield f"{cheapest.sku.name} fits too, at {usd(least)} instead of {usd(price)} {cost_words(chosen)}"


def _many_machines(demand: Demand, chosen: Candidate) -> Iterator[str]:
    workers, tuning = demand.workers, chosen.tuning
    if workers is not None and tuning is not None and tuning.nodes > MAX_NODES:
        yield (
            f"tuning.workers {workers:,} takes {tuning.nodes:,} machines of {chosen.sku.name}; without it all GPUs of"
            " one tune. Speed and cost are taken in proportion to the GPUs, which holds within a machine only"
        )


def local_warnings(
    demand: Demand, asked_for: str | None, best: Candidate | None, skus: Mapping[str, Sku], now: date
) -> Iterator[str]:
    """What to know of the run on this machine."""
    if asked_for is not None:
        sku = find_sku(asked_for, skus)
        gone = f" (which Azure retired {retirement(sku)})" if sku is not None and sku.retired(now) else ""
        yield f"resource.instanceType {asked_for}{gone} is for a cluster; this machine is used instead"
    if best is None:
        return
    on_processor = best.sku.device is Device.CPU
    count = parameter_count(demand.preset.model)
    if demand.tuning is not None and on_processor and count > _SLOW_ON_A_PROCESSOR:
        yield f"tuning {count / 1e9:.1f} billion parameters without a GPU takes days for an ordinary data set"
    free, use = best.sku.free_bytes, best.memory
    if free is not None and use is not None and use.total > free:
        yield (
            f"up to {format_bytes(use.total)} will be used and {format_bytes(free)} is free now: end other"
            " programs first (an earlier run that still serves counts as one)"
        )
