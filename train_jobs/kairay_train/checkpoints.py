"""When checkpoints are taken, and how they reach the run's storage.

A checkpoint is the Trainer's own folder (adapter, optimiser, scheduler, random states), handed to
`ray.train.report`, which every worker calls at the same step: it is a barrier.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import ray.train
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kairay_train.metrics import Progress
from kairay_train.settings import Settings

LONGEST_INTERVAL = 60.0
"""Seconds of work that a lost worker may cost."""


def checkpoint_interval(settings: Settings, total_steps: int) -> int:
    """Steps between checkpoints: what was asked for, else a tenth of the run."""
    if settings.checkpoint_steps is not None:
        return settings.checkpoint_steps
    return max(1, math.ceil(total_steps * (settings.checkpoint_share or 0.1)))


class ReportCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers' classes are untyped to mypy here
    """Asks the Trainer to save, and reports what it saved; the last step is always saved."""

    def __init__(
        self,
        interval: int,
        *,
        clock: Callable[[], float],
        progress: Callable[[TrainerState], Progress],
        on_saved: Callable[[], None] = lambda: None,
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._progress = progress
        self._on_saved = on_saved
        self._last = clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Decide, alike on every worker, whether this step is saved."""
        due = state.global_step % self._interval == 0 or state.global_step >= state.max_steps
        control.should_save = due or self._agreed(self._clock() - self._last > LONGEST_INTERVAL)
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Report the folder that was just written; the first worker of each node carries it."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        progress = self._progress(state)
        first_of_node = ray.train.get_context().get_local_rank() == 0
        ray.train.report(
            {"step": progress.step, "loss": progress.loss},
            checkpoint=ray.train.Checkpoint.from_directory(folder) if first_of_node else None,
            checkpoint_dir_name=f"checkpoint-{state.global_step:08d}",
        )
        if first_of_node:
            shutil.rmtree(folder, ignore_errors=True)
        self._last = self._clock()
        self._on_saved()

    def _agreed(self, wanted: bool) -> bool:
        """The first worker's word, for all."""
        if not torch.distributed.is_initialized():
            return wanted
        word = torch.tensor([int(wanted)], device="cuda" if torch.cuda.is_available() else "cpu")
        torch.distributed.broadcast(word, src=0)
        return bool(word.item())
