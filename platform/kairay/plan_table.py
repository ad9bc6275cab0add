"""A plan as plain text for a terminal: at most 110 columns, no colour, the same text for the same plan."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from kairay.memory import GIB, MemoryUse
from kairay.plan import Plan, PlanTarget, Work
from kairay.plan_bars import explain_memory, memory_terms, term_word
from kairay.plan_candidates import Candidate, usd
from kairay.plan_job import JobCost, TrainingData, assumptions
from kairay.plan_rows import aligned, candidate_rows
from kairay.plan_serving import ServingShape
from kairay.plan_tuning import TuningShape
from kairay.skus import Device, SkuKind

WIDTH = 110


def render_plan(plan: Plan, *, wide: bool = False, explain: bool = False) -> str:
    """The whole plan: what was chosen and its memory, what else was weighed, prices, warnings and problems.

    `wide`: every size with every column, as wide as that takes; `explain`: a bar for each term of the memory.
    """
    blocks = [
        _header(plan),
        _choice(plan),
        _explained(plan) if explain else _memory(plan),
        _replacements(plan),
        candidate_rows(plan, width=None if wide else WIDTH),
        _remarks("warning", plan.warnings),
        _remarks("problem", plan.problems),
    ]
    return "\n\n".join("\n".join(lines) for block in blocks if (lines := list(block)))


def _header(plan: Plan) -> Iterator[str]:
    work = f"tune {plan.preset}" if plan.work is Work.TUNING else f"serve {plan.preset}"
    if plan.method is not None:
        work += f" by {plan.method}" + (", then serve it" if plan.serves else "")
    where = "on this machine" if plan.target is PlanTarget.LOCAL else "on a cluster"
    yield f"{plan.workspace}: {work}, {where}"


def _choice(plan: Plan) -> Iterator[str]:
    chosen = plan.chosen
    if chosen is None:
        yield _labelled("chosen", "nothing; see the problem below")
        return
    sku = chosen.sku
    nodes = "" if sku.kind is SkuKind.LOCAL else f", {_count(chosen.nodes, 'node')}, {_price(chosen)}"
    yield from _wrapped("chosen", f"{sku.name} ({sku.hardware}){nodes}")
    if plan.tuning is not None:
        yield from _wrapped("tuning", _tuning(plan.tuning))
    if plan.serving is not None:
        yield from _wrapped("serving", _serving(plan.serving))
    if plan.job is not None:
        yield from _wrapped("cost", _job(plan.job, plan.data))
        assert plan.tuning is not None
        starts = plan.job.hours is not None and sku.kind is not SkuKind.LOCAL
        basis = assumptions(plan.tuning.method, starts=starts)
        yield from _wrapped("", f"an estimate: {basis}")
    if sku.kind is SkuKind.AZURE and plan.target is PlanTarget.CLUSTER:
        yield from _wrapped("quota", _quota(chosen))


def _tuning(shape: TuningShape) -> str:
    each = "1 GPU each" if shape.gpus_per_worker else f"{_count(shape.cpus_per_worker, 'core')} each"
    batch = f"{shape.micro_batch} at once" + (
        f", {shape.accumulation} times" if shape.accumulation > 1 else ""
    )
    return (
        f"{_count(shape.workers, 'worker')}, {each}; {shape.dtype}; rows of {shape.sequence_length:,} tokens,"
        f" {batch}: {shape.tokens_per_step:,} tokens a step"
    )


def _serving(shape: ServingShape) -> str:
    low, high = shape.min_replicas, shape.max_replicas
    replicas = _count(high, "replica") if low == high else f"{low} to {_count(high, 'replica')}"
    split = f" on {_count(shape.gpus_per_replica, 'GPU')}" if shape.device is Device.CUDA else ""
    if shape.pipeline_parallel > 1:
        split += f" (tensor {shape.tensor_parallel} × pipeline {shape.pipeline_parallel})"
    idle = f"; to zero after {shape.idle_seconds:g} s idle" if low == 0 else ""
    return (
        f"{shape.engine}, {shape.dtype}, {replicas}{split}; context of {shape.context_length:,} tokens;"
        f" {shape.target_ongoing_requests:g} requests at once{idle}"
    )


def _job(job: JobCost, data: TrainingData | None) -> str:
    speed = f"{job.tokens_per_second:,.0f} tokens a second"
    if data is None or job.hours is None:
        money = (
            ""
            if job.usd_per_million_tokens is None
            else f"about {usd(job.usd_per_million_tokens)} per million tokens; "
        )
        return f"{money}{speed}; --data FILE says what the job {'costs' if money else 'takes'}"
    money = "" if job.usd is None else f"about {usd(job.usd)}, "
    lost = "" if job.preemption_usd is None else f"; a preemption costs {usd(job.preemption_usd)} at most"
    epochs = "one epoch" if data.epochs == 1 else f"{data.epochs:g} epochs"
    return f"{money}{_time(job.hours)} for {epochs} of {data.tokens:,} tokens ({data.basis}), {speed}{lost}"


def _time(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 1 else f"{hours:,.1f} hours"


def _quota(chosen: Candidate) -> str:
    sku = chosen.sku
    family = f" of {sku.quota_family}" if sku.quota_family else ""
    region = f" -l {sku.price_region}" if sku.price_region else ""
    return (
        f"{chosen.nodes * sku.cores} cores{family} must be free (az vm list-usage{region}; --quota checks it)"
    )


def _explained(plan: Plan) -> Iterator[str]:
    best = plan.chosen or next(iter(plan.replacements), None)
    if best is not None:
        yield from explain_memory(best)


def _memory(plan: Plan) -> Iterator[str]:
    best = plan.chosen or next(iter(plan.replacements), None)
    if best is None:
        return
    per = "the machine" if best.sku.device is Device.CPU else "one GPU"
    yield f"memory of {per} in GiB{'' if plan.chosen is not None else f', with {best.sku.name}'}"
    shapes = [("  tuning", best.tuning), ("  serving", best.serving)]
    uses = [(label, shape.memory) for label, shape in shapes if shape is not None]
    words = [term_word(name) for name in memory_terms(uses[0][1])]
    rows = [["", *words, "head-room", "of"], *([label, *_parts(use)] for label, use in uses)]
    used = [column for column in range(len(rows[0])) if any(row[column] != "" for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    for row in rows:
        cells = (row[c].ljust(widths[c]) if c == 0 else row[c].rjust(widths[c]) for c in used)
        yield "  ".join(cells).rstrip()


def _parts(use: MemoryUse) -> list[str]:
    cells = ["" if part == 0 else f"{part / GIB:.2f}" for part in memory_terms(use).values()]
    return [*cells, f"{use.headroom / GIB:.2f}", f"{use.capacity / GIB:.1f}"]


def _replacements(plan: Plan) -> Iterator[str]:
    if plan.replacements:
        yield f"instead of {plan.asked_for}:"
        rows = [(c.sku.name, c.sku.hardware, _price(c), c.reason) for c in plan.replacements]
        yield from aligned(rows, width=WIDTH, indent="  ")


def _remarks(word: str, sentences: Sequence[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from _wrapped(word, sentence)


def _wrapped(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - 10, break_long_words=False, break_on_hyphens=False)
    return [_labelled(label, lines[0]), *(" " * 10 + line for line in lines[1:])]


def _labelled(label: str, text: str) -> str:
    return f"{label:<10}{text}"


def _price(candidate: Candidate) -> str:
    return (
        "price not known"
        if candidate.usd_per_hour is None
        else f"{usd(candidate.usd_per_hour)} per hour{' (spot)' if candidate.spot else ''}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
