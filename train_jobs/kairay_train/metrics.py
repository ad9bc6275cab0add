"""How far a run is: one value, worked out in one place, for the gauges, the driver's lines and the result.

Tokens are tokens of rows: padding is never counted, a prefix that rows share counts once for each row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment; times in seconds."""

    step: int
    total_steps: int
    epoch: float
    loss: float | None
    """Mean over the targets of the last steps; None before the first step."""
    tokens_per_second: float
    """Since training began in this process, over all workers."""
    elapsed: float
    """Training seconds in this process."""
    resumed_from: int | None = None
    """The step that a checkpoint gave back."""

    @property
    def ratio(self) -> float:
        """0 to 1."""
        return self.step / self.total_steps if self.total_steps else 1.0

    @property
    def eta_seconds(self) -> float:
        """What is left at the speed so far; NaN before the first step."""
        done = self.step - (self.resumed_from or 0)
        return self.elapsed / done * (self.total_steps - self.step) if done > 0 else math.nan

    def line(self) -> str:
        """One line for a person."""
        loss = "-" if self.loss is None else f"{self.loss:.3f}"
        eta = "-" if math.isnan(self.eta_seconds) else f"{self.eta_seconds:.0f} s"
        return (
            f"{self.ratio:4.0%}  step {self.step}/{self.total_steps}  loss {loss}  "
            f"{self.tokens_per_second:.0f} tok/s  eta {eta}"
        )


class Gauge(Protocol):
    """What is used of ray.util.metrics.Gauge."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Set the value."""


GAUGES = {
    "kairay_tuning_step": "Optimiser steps done",
    "kairay_tuning_total_steps": "Optimiser steps of the whole run",
    "kairay_tuning_loss": "Mean loss per target token of the last steps",
    "kairay_tuning_tokens_per_second": "Row tokens per training second, padding not counted",
    "kairay_tuning_progress_ratio": "Share of the steps done, 0 to 1",
    "kairay_tuning_eta_seconds": "Seconds left at the speed so far",
    "kairay_tuning_epoch": "Passes over the data",
}
"""Names and meaning of the gauges; tags: workspace, run."""


class ProgressGauges:
    """Sets the gauges of one run; `gauges` by name, as `ray_gauges` makes them."""

    def __init__(self, gauges: dict[str, Gauge], *, workspace: str, run: str) -> None:
        self._gauges = gauges
        self._tags = {"workspace": workspace, "run": run}

    def show(self, progress: Progress) -> None:
        """Put one moment into the gauges; what is not known yet is left out."""
        values = {
            "kairay_tuning_step": float(progress.step),
            "kairay_tuning_total_steps": float(progress.total_steps),
            "kairay_tuning_loss": math.nan if progress.loss is None else progress.loss,
            "kairay_tuning_tokens_per_second": progress.tokens_per_second,
            "kairay_tuning_progress_ratio": progress.ratio,
            "kairay_tuning_eta_seconds": progress.eta_seconds,
            "kairay_tuning_epoch": progress.epoch,
        }
        for name, value in values.items():
            if not math.isnan(value):
                self._gauges[name].set(value, tags=self._tags)


def ray_gauges() -> dict[str, Any]:
    """The gauges of this Ray worker process."""
    from ray.util.metrics import Gauge as RayGauge

    return {name: RayGauge(name, text, tag_keys=("workspace", "run")) for name, text in GAUGES.items()}
