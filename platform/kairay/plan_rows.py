"""The sizes that a plan weighed, as rows of a table: the chosen one ticked, each other with its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from kairay.plan import Plan
from kairay.plan_candidates import Candidate
from kairay.skus import SkuKind

_ROWS = 8
_FITTING_ROWS = 5
_LEAST_TEXT = 22
"""Columns for the reasons; what matters less goes first where there are fewer."""


def candidate_rows(plan: Plan, *, width: int | None) -> Iterator[str]:
    """A table `width` columns wide with the sizes that matter, or with `None` every size and every column."""
    if not plan.candidates:
        return
    shown = list(plan.candidates) if width is None else _shown(plan)
    names = _columns_for(plan, shown, wide=width is None)
    while width is not None and _room(shown, names, width) < _LEAST_TEXT and (spare := _spare(names)):
        names.remove(spare)
    yield from aligned(_cells(shown, names), width=width, right=_numbers(names))
    if rest := [candidate for candidate in plan.candidates if candidate not in shown]:
        fitting = sum(candidate.fits for candidate in rest)
        yield f"   and {len(rest)} more: {fitting} fit, {len(rest) - fitting} do not (-o wide shows them)"
    days = sorted({c.sku.price_as_of for c in shown if c.sku.price_as_of})
    regions = sorted({c.sku.price_region for c in shown if c.sku.price_region})
    if days:
        dated = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        yield f"   prices: pay as you go in US dollars, {', '.join(regions)}, as of {dated}"


def aligned(
    rows: Sequence[Sequence[str]], *, width: int | None, indent: str = "", right: Sequence[int] = ()
) -> Iterator[str]:
    """Aligned columns; the last one is wrapped into what is left of the line."""
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last)]
    margin = len(indent) + sum(widths) + 2 * last
    for row in rows:
        cells = [row[c].rjust(widths[c]) if c in right else row[c].ljust(widths[c]) for c in range(last)]
        room = len(row[last]) + 1 if width is None else max(_LEAST_TEXT, width - margin)
        text = textwrap.wrap(row[last], room) or [""]
        yield (indent + "  ".join([*cells, text[0]])).rstrip()
        yield from (" " * margin + line for line in text[1:])


def _shown(plan: Plan) -> list[Candidate]:
    """The size that was asked for or chosen, the cheapest that fit, the cheapest that are too small or too dear,
    then others, and this machine."""
    asked = (plan.asked_for or "").casefold()
    first = [
        c
        for c in plan.candidates
        if c.chosen or c.sku.name.casefold() == asked or c.sku.kind is SkuKind.LOCAL
    ]
    others = [c for c in plan.candidates if c not in first]
    fitting = [c for c in others if c.fits][:_FITTING_ROWS]
    kept = [*first, *fitting, *_losing(others)[: max(0, _ROWS - len(first) - len(fitting))]]
    return [candidate for candidate in plan.candidates if candidate in kept]


def _losing(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The cheapest that lost of each GPU model, those first that were too small or too dear."""
    models: dict[str | None, Candidate] = {}
    for candidate in sorted(candidates, key=lambda each: not each.nodes):
        if not candidate.fits and candidate.sku.retired_on is None:
            models.setdefault(candidate.sku.gpu, candidate)
    return list(models.values())


def _columns_for(plan: Plan, shown: Sequence[Candidate], *, wide: bool) -> list[str]:
    names = ["", "size", "hardware", "nodes", "$/hour"]
    if any(c.sku.spot_usd_per_hour is not None for c in shown):
        names.append("$ spot")
    if plan.tuning is not None or any(c.job is not None for c in shown):
        names += ["$/Mtok"] if plan.data is None or wide else []
        names += ["hours", "$ job"] if plan.data is not None else []
        names += ["tokens/s"] if wide else []
    if wide:
        names += ["cores", "quota", "RDMA", "NVMe"]
    if not wide and all(c.nodes in (0, 1) for c in shown):
        names.remove("nodes")
    return [*names, "why"]


def _spare(names: Sequence[str]) -> str | None:
    """The column that can be missed first."""
    return next((name for name in ("$ spot", "hours", "nodes", "$/hour") if name in names[:-1]), None)


def _room(shown: Sequence[Candidate], names: Sequence[str], width: int) -> int:
    rows = _cells(shown, names)
    return width - sum(max(len(row[c]) for row in rows) + 2 for c in range(len(names) - 1))


def _numbers(names: Sequence[str]) -> list[int]:
    return [
        column
        for column, name in enumerate(names)
        if name not in ("", "size", "hardware", "quota", "RDMA", "NVMe")
    ]


def _cells(shown: Sequence[Candidate], names: Sequence[str]) -> list[list[str]]:
    rows = [[_cell(candidate, name) for name in names] for candidate in shown]
    if "nodes" not in names and "$/hour" in names:
        # The price of several machines says nothing beside the hardware of one.
        for candidate, row in zip(shown, rows, strict=True):
            if candidate.nodes > 1:
                row[list(names).index("$/hour")] = ""
    return [list(names), *rows]


def _cell(candidate: Candidate, name: str) -> str:
    sku, job = candidate.sku, candidate.job
    texts = {
        "": "✓" if candidate.chosen else "",
        "size": sku.name,
        "hardware": sku.hardware,
        "nodes": str(candidate.nodes or ""),
        "$/hour": _number(candidate.usd_per_hour, 2),
        "$ spot": _number(
            None if sku.spot_usd_per_hour is None else max(1, candidate.nodes) * sku.spot_usd_per_hour, 2
        ),
        "$/Mtok": "" if job is None else _number(job.usd_per_million_tokens, 3),
        "hours": "" if job is None else _number(job.hours, 1),
        "$ job": "" if job is None else _number(job.usd, 2),
        "tokens/s": "" if job is None else _number(job.tokens_per_second, 0),
        "cores": str(sku.cores),
        "quota": sku.quota_family or "",
        "RDMA": sku.rdma or "",
        "NVMe": sku.nvme or "",
        "why": candidate.reason,
    }
    return texts[name]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
