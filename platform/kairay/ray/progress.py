"""Progress of a tuning job, from Ray's Prometheus endpoint: the gauges `kairay_tuning_*` that the job sets.

Ray prefixes custom metrics with `ray_` and adds labels of its own. A worker that was replaced leaves its series
behind for a while, so the series that is furthest on is the one that counts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

PREFIX = "ray_kairay_tuning_"

_SAMPLE = re.compile(
    r'^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s+(?P<value>\S+)'
)
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningProgress:
    """Where a tuning run is."""

    step: int
    total_steps: int
    progress: float
    """0 to 1."""
    loss: float | None = None
    tokens_per_second: float | None = None
    """Non-padding tokens, all workers together."""
    eta_seconds: float | None = None
    epoch: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the names that status uses."""
        names = {
            "total_steps": "totalSteps",
            "tokens_per_second": "tokensPerSecond",
            "eta_seconds": "etaSeconds",
        }
        return {names.get(key, key): value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of the Prometheus text format."""

    name: str
    labels: Mapping[str, str]
    value: float


def tuning_progress(text: str, run: str) -> TuningProgress | None:
    """The progress of `run` in a Prometheus text; None when there is none."""
    series: dict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
    for sample in parse_samples(text):
        if sample.name.startswith(PREFIX) and sample.labels.get("run") == run:
            series[tuple(sorted(sample.labels.items()))][sample.name.removeprefix(PREFIX)] = sample.value
    known = [figures for figures in series.values() if figures.get("total_steps", 0) >= 1]
    if not known:
        return None
    best = max(known, key=lambda figures: figures.get("step", 0.0))
    step, total = int(best.get("step", 0)), int(best["total_steps"])
    return TuningProgress(
        step=step,
        total_steps=total,
        progress=min(1.0, max(0.0, best.get("progress_ratio", step / total))),
        loss=best.get("loss") if step else None,
        tokens_per_second=best.get("tokens_per_second"),
        eta_seconds=best.get("eta_seconds"),
        epoch=best.get("epoch"),
    )


def parse_samples(text: str) -> Iterator[Sample]:
    """Samples of a Prometheus text that have a finite value; anything else is passed over."""
    for line in text.splitlines():
        if line.startswith("#") or (found := _SAMPLE.match(line)) is None:
            continue
        try:
            value = float(found["value"])
        except ValueError:
            continue
        if value - value == 0:
            yield Sample(name=found["name"], labels=_parse_labels(found["labels"] or ""), value=value)


def _parse_labels(text: str) -> dict[str, str]:
    unescape = re.compile(r"\\[\\\"n]")
    return {key: unescape.sub(lambda m: _ESCAPES[m[0]], value) for key, value in _LABEL.findall(text)}
