"""Measures a run inside its workers and shows it: gauges, and the driver through the watcher."""

from __future__ import annotations

import time
from collections.abc import Mapping

import ray.train
from transformers import TrainerCallback, TrainerState

from kairay_train.job import WorkerJob
from kairay_train.metrics import Progress, ProgressGauges, ray_gauges
from kairay_train.pack_table import PackTable


class Meter(TrainerCallback):  # type: ignore[misc]
    """The first worker shows every step; the others only count."""

    def __init__(self, job: WorkerJob, table: PackTable, world: int, total: int) -> None:
        per_step = job.settings.micro_batch * job.settings.accumulation * world
        self._tokens_per_step = table.tokens / max(1, len(table)) * min(per_step, len(table))
        self._total = total
        self._watcher = job.watcher
        self._gauges = ProgressGauges(ray_gauges(), workspace=job.workspace, run=job.run)
        self._began = time.monotonic()
        self._first_step = 0
        self._loss: float | None = None
        self._first = ray.train.get_context().get_world_rank() == 0

    def progress(self, state: TrainerState) -> Progress:
        """Where the run is."""
        elapsed = time.monotonic() - self._began
        done = state.global_step - self._first_step
        return Progress(
            step=state.global_step,
            total_steps=self._total,
            epoch=float(state.epoch or 0.0),
            loss=self._loss,
            tokens_per_second=done * self._tokens_per_step / elapsed if elapsed > 0 else 0.0,
            elapsed=elapsed,
            resumed_from=self._first_step or None,
        )

    def on_train_begin(self, args: object, state: TrainerState, control: object, **_: object) -> None:
        """The clock starts with the first batch, not with the imports."""
        self._began = time.monotonic()
        self._first_step = state.global_step
        self._show(state)

    def on_log(
        self, args: object, state: TrainerState, control: object, logs: Mapping[str, float], **_: object
    ) -> None:
        """Take the loss when the trainer has it."""
        if "loss" in logs:
            self._loss = float(logs["loss"])

    def on_step_end(self, args: object, state: TrainerState, control: object, **_: object) -> None:
        """Show every step."""
        self._show(state)

    def _show(self, state: TrainerState) -> None:
        if not self._first:
            return
        progress = self.progress(state)
        self._gauges.show(progress)
        if self._watcher is not None:
            self._watcher.show.remote(progress)
