"""A plan as plain text for a terminal: at most 110 columns, no colour, the same text for the same plan."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from kairay.memory import GIB, MemoryUse
from kairay.plan import Plan, PlanTarget, Work
from kairay.plan_candidates import Candidate, usd
from kairay.plan_serving import ServingShape
from kairay.plan_tuning import TuningShape
from kairay.skus import Device, SkuKind

WIDTH = 110
_ROWS = 8
_FITTING_ROWS = 5
_PARTS = (
    "weights",
    "KV cache",
    "activations",
    "logits",
    "adapter",
    "optimiser",
    "overhead",
    "head-room",
    "of",
)


def render_plan(plan: Plan) -> str:
    """The whole plan: what was chosen and its memory, what else was weighed, prices, warnings and
    problems."""
    blocks = [
        _header(plan),
        _choice(plan),
        _memory(plan),
        _replacements(plan),
        _candidates(plan),
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


def _memory(plan: Plan) -> Iterator[str]:
    best = plan.chosen or next(iter(plan.replacements), None)
    if best is None:
        return
    per = "the machine" if best.sku.device is Device.CPU else "one GPU"
    yield f"memory of {per} in GiB{'' if plan.chosen is not None else f', with {best.sku.name}'}"
    rows = [["", *_PARTS]]
    if best.tuning is not None:
        rows.append(["  tuning", *_parts(best.tuning.memory)])
    if best.serving is not None:
        rows.append(["  serving", *_parts(best.serving.memory)])
    used = [column for column in range(len(rows[0])) if any(row[column] != "" for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    for row in rows:
        cells = (row[c].ljust(widths[c]) if c == 0 else row[c].rjust(widths[c]) for c in used)
        yield "  ".join(cells).rstrip()


def _parts(use: MemoryUse) -> list[str]:
    parts = (
        use.weights,
        use.kv_cache,
        use.activations,
        use.logits,
        use.adapter,
        use.optimizer,
        use.overhead,
    )
    cells = ["" if part == 0 else f"{part / GIB:.2f}" for part in parts]
    return [*cells, f"{use.headroom / GIB:.2f}", f"{use.capacity / GIB:.1f}"]


def _replacements(plan: Plan) -> Iterator[str]:
    if plan.replacements:
        yield f"instead of {plan.asked_for}:"
        rows = [(c.sku.name, c.sku.hardware, _price(c), c.reason) for c in plan.replacements]
        yield from _columns(rows, indent="  ")


def _candidates(plan: Plan) -> Iterator[str]:
    if not plan.candidates:
        return
    shown = _shown(plan)
    rows = [("", "size", "hardware", "nodes", "$/hour", "why")]
    rows += [
        (
            "✓" if candidate.chosen else "",
            candidate.sku.name,
            candidate.sku.hardware,
            str(candidate.nodes or ""),
            "" if candidate.usd_per_hour is None else f"{candidate.usd_per_hour:.2f}",
            candidate.reason,
        )
        for candidate in shown
    ]
    yield from _columns(rows, right=(3, 4))
    if rest := [candidate for candidate in plan.candidates if candidate not in shown]:
        fitting = sum(candidate.fits for candidate in rest)
        yield f"   and {len(rest)} more: {fitting} fit, {len(rest) - fitting} do not"
    dated = sorted({c.sku.price_as_of for c in shown if c.sku.price_as_of})
    regions = sorted({c.sku.price_region for c in shown if c.sku.price_region})
    if dated:
        yield f"   prices: pay as you go in US dollars, {', '.join(regions)}, as of {dated[-1]}"


def _shown(plan: Plan) -> list[Candidate]:
    """The size that was asked for or chosen, the cheapest that fit, the cheapest that do not, and this
    machine."""
    asked = (plan.asked_for or "").casefold()
    first = [
        c
        for c in plan.candidates
        if c.chosen or c.sku.name.casefold() == asked or c.sku.kind is SkuKind.LOCAL
    ]
    others = [c for c in plan.candidates if c not in first]
    fitting = [c for c in others if c.fits][:_FITTING_ROWS]
    losing = [c for c in others if not c.fits and not c.sku.retired_on][
        : max(0, _ROWS - len(first) - len(fitting))
    ]
    kept = [*first, *fitting, *losing]
    return [candidate for candidate in plan.candidates if candidate in kept]


def _remarks(word: str, sentences: Sequence[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from _wrapped(word, sentence)


def _columns(rows: Sequence[Sequence[str]], *, indent: str = "", right: Sequence[int] = ()) -> Iterator[str]:
    """Aligned columns; the last one is wrapped into what is left of the line."""
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last)]
    margin = len(indent) + sum(widths) + 2 * last
    for row in rows:
        cells = [row[c].rjust(widths[c]) if c in right else row[c].ljust(widths[c]) for c in range(last)]
        text = textwrap.wrap(row[last], max(16, WIDTH - margin)) or [""]
        yield (indent + "  ".join([*cells, text[0]])).rstrip()
        yield from (" " * margin + line for line in text[1:])


def _wrapped(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - 10, break_long_words=False, break_on_hyphens=False)
    return [_labelled(label, lines[0]), *(" " * 10 + line for line in lines[1:])]


def _labelled(label: str, text: str) -> str:
    return f"{label:<10}{text}"


def _price(candidate: Candidate) -> str:
    return "price not known" if candidate.usd_per_hour is None else f"{usd(candidate.usd_per_hour)} per hour"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
