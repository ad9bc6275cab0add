"""Machine sizes weighed for one piece of work: does each fit, what would it cost, and in a few words why it
lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Final

from kairay.errors import InputError
from kairay.memory import MemoryUse
from kairay.plan_demand import Demand
from kairay.plan_job import JobCost, estimate_job
from kairay.plan_replica import split_fault
from kairay.plan_serving import ServingShape, shape_serving
from kairay.plan_sizes import in_parts, vetoes
from kairay.plan_tuning import TuningShape, shape_tuning
from kairay.quantities import format_bytes
from kairay.skus import Device, Sku, SkuKind

_KEPT: Final = 64
"""Answers of `weigh_all`, each of about 50 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One size, weighed."""

    sku: Sku
    fits: bool
    """It could be taken."""
    chosen: bool = False
    reason: str
    """Why it was chosen, or why it lost."""
    nodes: int = 0
    """Machines that the work takes at most; 0 when the size was ruled out unseen."""
    gpus: int = 0
    """GPUs used on them."""
    gpus_per_node: int = 0
    """GPUs of one machine that may be used: all, or `resource.partition.count`."""
    usd_per_hour: float | None = None
    """Of all its machines, at the spot price where spot was asked for and is known; None when the price is not
    known, or when it is one's own machine."""
    spot: bool = False
    """The price is that of spot machines."""
    job: JobCost | None = None
    """Of tuning; None where nothing is tuned, or where the GPU's rate is not known."""
    tuning: TuningShape | None = None
    serving: ServingShape | None = None

    @property
    def memory(self) -> MemoryUse | None:
        """The tighter of the two uses of one device."""
        uses = [shape.memory for shape in (self.tuning, self.serving) if shape is not None]
        return min(uses, key=lambda use: use.headroom, default=None)

    @property
    def cost(self) -> float | None:
        """What sizes are compared by: of tuning the job's cost, of serving the price per hour."""
        if self.tuning is None:
            return self.usd_per_hour
        return None if self.job is None else self.job.rank


def weigh_all(
    demand: Demand, skus: Iterable[Sku], *, today: date, asked_for: Sku | None = None
) -> tuple[Candidate, ...]:
    """Each size weighed. What was weighed lately is kept: a controller asks the same at every pass over a Workspace,
    and for every Workspace that is like it."""
    # Quota changes by the minute, and is no key.
    weigh_each = _weigh_each if demand.quota is not None else _weigh_once
    return weigh_each(demand, tuple(skus), today, asked_for)


def weigh(demand: Demand, sku: Sku, *, today: date, asked_for: bool = False) -> Candidate:
    """Shape the work for one size; the reason is set only where the size loses."""
    if out := vetoes(sku, today=today, asked_for=asked_for):
        return Candidate(sku=sku, fits=False, reason=out[0], usd_per_hour=sku.usd_per_hour)
    if sku.device is Device.CUDA and not (sku.gpus and sku.bytes_per_gpu):
        return Candidate(sku=sku, fits=False, reason="its GPU's memory is not known")
    if sku.vendor not in (None, "nvidia"):
        return Candidate(sku=sku, fits=False, reason=f"{sku.gpu}; the images are built for CUDA")
    try:
        sku, used = in_parts(sku, demand.mig, demand.cutter, demand.gpus_per_node)
    except InputError as error:
        return Candidate(sku=sku, fits=False, reason=error.message, usd_per_hour=sku.usd_per_hour)
    if demand.bounds is not None and (fault := split_fault(demand.preset.model, used, demand.serving_wishes)):
        return Candidate(sku=sku, fits=False, reason=fault, usd_per_hour=sku.usd_per_hour)
    tuning, serving = _shapes(demand, sku, used)
    nodes = max(shape.nodes for shape in (tuning, serving) if shape is not None)
    spot = demand.spot and sku.spot_usd_per_hour is not None
    price = sku.spot_usd_per_hour if spot else sku.usd_per_hour
    weighed = Candidate(
        sku=sku,
        fits=True,
        reason="",
        nodes=nodes,
        gpus=_gpus(tuning, serving),
        gpus_per_node=used.gpus,
        usd_per_hour=None if price is None else round(nodes * price, 4),
        spot=spot,
        job=None if tuning is None else _job(demand, sku, tuning, price),
        tuning=tuning,
        serving=serving,
    )
    fault = (
        _shortfall(weighed, demand)
        or _over_budget(weighed, demand.max_usd_per_hour)
        or _over_quota(weighed, demand)
    )
    return replace(weighed, fits=False, reason=fault, job=None) if fault else weighed


def _shapes(demand: Demand, sku: Sku, used: Sku) -> tuple[TuningShape | None, ServingShape | None]:
    """The work on this size; `used`: what of it may serve."""
    model, tuning, serving = demand.preset.model, None, None
    if demand.tuning is not None:
        tuning = shape_tuning(
            model, demand.tuning, sku,
            method=demand.method, workers=demand.workers, wishes=demand.tuning_wishes,
        )  # fmt: skip
    if demand.bounds is not None:
        serving = shape_serving(model, used, demand.bounds, tuned=demand.tuning, wishes=demand.serving_wishes)
    return tuning, serving


def _weigh_each(
    demand: Demand, skus: tuple[Sku, ...], today: date, asked_for: Sku | None
) -> tuple[Candidate, ...]:
    return tuple(weigh(demand, sku, today=today, asked_for=sku == asked_for) for sku in skus)


_weigh_once = lru_cache(maxsize=_KEPT)(_weigh_each)


def choose(candidates: Iterable[Candidate], *, asked_for: Sku | None) -> tuple[Candidate, ...]:
    """Mark the size that was asked for, or else the cheapest that fits, and say why the others lost; those that
    fit by cost, then the others by price.

    A replica spread over several machines is slow and falls with each of them, so one machine is preferred at
    any price; a size without a public price is taken only when nothing else fits. Equal cost: the lower price,
    fewer machines, then by name.
    """
    ordered = sorted(candidates, key=_order)
    fitting = [candidate for candidate in ordered if candidate.fits]
    if asked_for is not None:
        fitting = [candidate for candidate in fitting if candidate.sku.name == asked_for.name]
    best = fitting[0] if fitting else None
    return tuple(_judge(candidate, best, asked_for) for candidate in ordered)


def chosen_of(candidates: tuple[Candidate, ...]) -> Candidate | None:
    """The one with the tick."""
    return next((candidate for candidate in candidates if candidate.chosen), None)


def not_taken(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The same without the tick, for a plan that cannot run."""
    return tuple(replace(candidate, chosen=False) for candidate in candidates)


def smallest(candidates: Iterable[Candidate]) -> Candidate | None:
    """Of those that fit the one with the least GPU memory paid for, one machine before several; then by price."""

    def size(candidate: Candidate) -> tuple[bool, int, float, str]:
        memory = candidate.nodes * candidate.sku.gpus * candidate.sku.bytes_per_gpu
        return spreads(candidate), memory, candidate.usd_per_hour or float("inf"), candidate.sku.name

    return min((candidate for candidate in candidates if candidate.fits), key=size, default=None)


def holds(candidate: Candidate) -> bool:
    """The machine is big enough, whatever it costs."""
    return candidate.nodes > 0 and not _shortfall(candidate)


def spreads(candidate: Candidate) -> bool:
    """One replica needs several machines."""
    return candidate.serving is not None and candidate.serving.gpus_per_replica > candidate.gpus_per_node


def usd(amount: float) -> str:
    """A price as people write it: `$0.53`."""
    return f"${amount:,.2f}"


def cost_words(candidate: Candidate) -> str:
    """What `cost` is of: `per hour`, `for the job` or `per million tokens`."""
    if candidate.tuning is None or candidate.job is None:
        return "per hour"
    return "per million tokens" if candidate.job.hours is None else "for the job"


def _order(candidate: Candidate) -> tuple[bool, bool, bool, float, bool, float, int, str]:
    cost = candidate.cost if candidate.fits else None
    price = candidate.usd_per_hour
    return (
        not candidate.fits,
        spreads(candidate),
        cost is None,
        cost or 0.0,
        price is None,
        price or 0.0,
        candidate.nodes,
        candidate.sku.name,
    )


def _judge(candidate: Candidate, best: Candidate | None, asked_for: Sku | None) -> Candidate:
    if not candidate.fits:
        return candidate
    if candidate is best:
        why = "asked for, and fits" if asked_for is not None else "the cheapest that fits"
        return replace(candidate, chosen=True, reason="fits" if candidate.sku.kind is SkuKind.LOCAL else why)
    if best is None or asked_for is not None:
        return replace(candidate, reason="fits; not asked for")
    if spreads(candidate) and not spreads(best):
        return replace(candidate, reason=f"fits over {candidate.nodes} machines; one is preferred")
    if candidate.usd_per_hour is None or best.usd_per_hour is None:
        return replace(candidate, reason="fits; no public price")
    return replace(candidate, reason=_dearer(candidate, best))


def _dearer(candidate: Candidate, best: Candidate) -> str:
    """How much more it costs than the chosen one, at prices that are known."""
    mine, least, word = candidate.cost, best.cost, "price" if candidate.tuning is None else "cost"
    if not mine or not least:
        mine, least, word = candidate.usd_per_hour, best.usd_per_hour, "price"
    if not mine or not least or f"{mine / least:.2f}" == "1.00":
        return f"fits at the same {word}"
    more = mine / least
    return f"fits; {more:.1f} × the {word}" if more >= 1.05 else f"fits; {more:.2f} × the {word}"


def _job(demand: Demand, sku: Sku, shape: TuningShape, price: float | None) -> JobCost | None:
    hourly = None if price is None else price * shape.nodes
    return estimate_job(demand.preset.model, shape, sku, usd_per_hour=hourly, data=demand.data_of(shape))


def _gpus(tuning: TuningShape | None, serving: ServingShape | None) -> int:
    counts = [0]
    if tuning is not None:
        counts.append(tuning.workers * tuning.gpus_per_worker)
    if serving is not None:
        counts.append(serving.max_replicas * serving.gpus_per_replica)
    return max(counts)


def _shortfall(candidate: Candidate, demand: Demand | None = None) -> str:
    """Why the machine does not hold the work; empty when it does."""
    sku, tuning, serving = candidate.sku, candidate.tuning, candidate.serving
    if tuning is not None:
        if not tuning.memory.fits:
            because = "" if demand is None else demand.tuning_wishes.because
            return _too_small("tuning", tuning.memory, sku, because)
        if sku.kind is SkuKind.LOCAL and (tuning.nodes > 1 or tuning.workers > sku.cores):
            have = f"{sku.gpus} GPUs" if sku.device is Device.CUDA else f"{sku.cores} cores"
            return f"tuning.workers asks for {tuning.workers}, there are {have}"
    if serving is not None and not serving.memory.fits:
        several = f" even over {serving.nodes} machines" if spreads(candidate) else ""
        heard = demand is not None and sku.kind is not SkuKind.LOCAL
        because = demand.serving_wishes.because if demand is not None and heard else ""
        return _too_small(f"serving{several}", serving.memory, sku, because)
    return ""


def _too_small(what: str, use: MemoryUse, sku: Sku, because: str) -> str:
    if sku.kind is SkuKind.LOCAL:
        whose = "this machine has" if sku.device is Device.CPU else "its GPU has"
        room = f"{whose} {format_bytes(use.capacity)}, of which {format_bytes(use.limit)} may be used"
        return f"{what} needs {format_bytes(use.total)}{because}; {room}"
    needs = f"{what} needs {format_bytes(use.total)} per GPU{because}"
    return f"{needs}{';' if because else ','} {format_bytes(use.limit)} may be used"


def _over_budget(candidate: Candidate, most: float | None) -> str:
    if most is None or candidate.sku.kind is SkuKind.LOCAL:
        return ""
    if candidate.usd_per_hour is None:
        return "no public price, and resource.maxHourlyCostUSD is set"
    if candidate.usd_per_hour > most:
        return f"{usd(candidate.usd_per_hour)} per hour is over resource.maxHourlyCostUSD {most:g}"
    return ""


def _over_quota(candidate: Candidate, demand: Demand) -> str:
    sku = candidate.sku
    if demand.quota is None or sku.kind is not SkuKind.AZURE:
        return ""
    return demand.quota.shortfall(sku, candidate.nodes, spot=demand.spot)
