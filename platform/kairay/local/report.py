"""What a run tells the person who waits for it."""

from __future__ import annotations

from typing import Any, Protocol

from kairay.ray.progress import TuningProgress


class Reporter(Protocol):
    """Somebody who watches a run."""

    def stage(self, text: str) -> None:
        """A step of the way has begun."""

    def progress(self, progress: TuningProgress) -> None:
        """Where tuning is now."""

    def note(self, text: str) -> None:
        """Something worth knowing that changes nothing."""

    def done(self, result: Any) -> None:
        """The run has ended well; `result` is its `RunResult`."""
