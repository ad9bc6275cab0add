"""How a run shows its progress: lines for a person, gauges for Prometheus."""

from __future__ import annotations

import math
from typing import Any

from kairay_train.driver import ProgressLines
from kairay_train.metrics import GAUGES, Progress, ProgressGauges
from kairay_train.private_token import ensure_token


def progress(step: int, **changes: Any) -> Progress:
    values: dict[str, Any] = {
        "total_steps": 100,
        "epoch": 1.0,
        "loss": 0.5,
        "tokens_per_second": 400.0,
        "elapsed": float(step),
    }
    return Progress(step=step, **{**values, **changes})


class RecordedGauge:
    def __init__(self) -> None:
        self.values: list[tuple[float, dict[str, str] | None]] = []

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values.append((value, tags))


def test_what_is_left_follows_from_the_speed_so_far() -> None:
    assert progress(25).eta_seconds == 75
    assert math.isnan(progress(0).eta_seconds)


def test_a_resumed_run_measures_its_own_steps_only() -> None:
    assert progress(60, resumed_from=50, elapsed=10.0).eta_seconds == 40


def test_a_line_says_step_loss_speed_and_time() -> None:
    assert progress(25).line() == " 25%  step 25/100  loss 0.500  400 tok/s  eta 75 s"
    assert "loss -" in progress(0, loss=None).line()


def test_a_line_is_written_for_every_twentieth_of_a_run() -> None:
    lines: list[str] = []
    show = ProgressLines(lines.append)
    for step in range(101):
        show(progress(step))
        show(progress(step))
    assert len(lines) == 21
    assert lines[-1].startswith("100%")


def test_gauges_carry_workspace_and_run_and_leave_out_what_is_unknown() -> None:
    gauges = {name: RecordedGauge() for name in GAUGES}
    ProgressGauges(dict(gauges), workspace="mine", run="mine-a1").show(progress(0, loss=None))
    assert gauges["kairay_tuning_total_steps"].values == [(100.0, {"workspace": "mine", "run": "mine-a1"})]
    assert gauges["kairay_tuning_loss"].values == []
    assert gauges["kairay_tuning_eta_seconds"].values == []


def test_a_ray_of_our_own_gets_a_token_and_another_is_left_alone() -> None:
    own: dict[str, str] = {}
    ensure_token(own)
    assert own["RAY_AUTH_MODE"] == "token"
    assert len(own["RAY_AUTH_TOKEN"]) == 64
    joined = {"RAY_ADDRESS": "127.0.0.1:6379"}
    ensure_token(joined)
    assert joined == {"RAY_ADDRESS": "127.0.0.1:6379"}
