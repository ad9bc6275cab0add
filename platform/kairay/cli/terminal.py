"""What `kairay run` shows while it works: stages, a progress bar with loss, speed and time left.

On a terminal the bar moves in place; elsewhere (a log, a pipe) a line is printed for every tenth of the way, so that a
log stays readable.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from kairay.local.run import RunResult
from kairay.ray.progress import TuningProgress

LOG_STEPS = 10
"""Lines that a whole tuning run writes where there is no terminal."""


class TerminalReporter:
    """Reporter for a person; everything goes to stderr, the result is the command's to print."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._started = clock()
        self._clock = clock
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._logged = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def stage(self, text: str) -> None:
        """A step of the way has begun."""
        self._end_bar()
        self._console.print(f"[dim]{self._elapsed()}[/dim] {text}")

    def note(self, text: str) -> None:
        """Something worth knowing that changes nothing."""
        self._console.print(f"[dim]{self._elapsed()}[/dim] [yellow]note:[/yellow] {text}")

    def progress(self, progress: TuningProgress) -> None:
        """Where tuning is now."""
        if self._console.is_terminal:
            self._move_bar(progress)
        else:
            self._log(progress)

    def done(self, result: RunResult) -> None:
        """The run has ended well."""
        self._end_bar()

    def _move_bar(self, progress: TuningProgress) -> None:
        if self._bar is None:
            figures = TextColumn("{task.fields[line]}")
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("tuning"),
                BarColumn(),
                figures,
                TimeElapsedColumn(),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task("tuning", total=max(progress.total_steps, 1), line="")
        assert self._task is not None
        self._bar.update(
            self._task, completed=progress.step, total=max(progress.total_steps, 1), line=describe(progress)
        )

    def _log(self, progress: TuningProgress) -> None:
        tenth = int(progress.progress * LOG_STEPS)
        if tenth > self._logged:
            self._logged = tenth
            self._console.print(f"{self._elapsed()} tuning {describe(progress)}")

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _elapsed(self) -> str:
        return f"[{self._clock() - self._started:5.0f} s]".replace("[", "\\[")


class JsonReporter:
    """Reporter for a program: one JSON object a line on stderr."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to close."""

    def stage(self, text: str) -> None:
        """A step of the way has begun."""
        self._write({"stage": text})

    def note(self, text: str) -> None:
        """Something worth knowing that changes nothing."""
        self._write({"note": text})

    def progress(self, progress: TuningProgress) -> None:
        """Where tuning is now."""
        self._write({"progress": progress.to_dict()})

    def done(self, result: RunResult) -> None:
        """The run has ended well; the command prints the result itself."""

    def _write(self, data: dict[str, Any]) -> None:
        click.echo(json.dumps(data), err=True)


def describe(progress: TuningProgress) -> str:
    """One line of figures, those that are known."""
    parts = [f"step {progress.step}/{progress.total_steps}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.eta_seconds is not None and progress.step:
        minutes, seconds = divmod(round(progress.eta_seconds), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return " · ".join(parts)
