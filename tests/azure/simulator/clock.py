"""Time that a test moves: it stands still, or runs at a given speed beside the real one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_START = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    """Seconds since the simulation began; `speed` virtual seconds pass in a real one."""

    def __init__(self, speed: float = 0.0) -> None:
        self.speed = speed
        self._began, self._added = time.monotonic(), 0.0

    def now(self) -> float:
        """Virtual seconds."""
        return self._added + (time.monotonic() - self._began) * self.speed

    def advance(self, seconds: float) -> None:
        """Jump ahead."""
        self._added += seconds

    def iso(self, moment: float) -> str:
        """A moment as Azure writes it."""
        return (_START + timedelta(seconds=moment)).isoformat().replace("+00:00", "Z")
