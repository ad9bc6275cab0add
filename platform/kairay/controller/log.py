"""The controller's log: one JSON object a line, on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO


class Log:
    """Writes lines; values are shown as they are, so no secret may be among them."""

    def __init__(
        self, stream: TextIO | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._stream = stream or sys.stderr
        self._now = now

    def info(self, event: str, **values: object) -> None:
        """Something happened."""
        self._write("info", event, values)

    def fault(self, event: str, **values: object) -> None:
        """Something failed; somebody may want to look."""
        self._write("error", event, values)

    def _write(self, level: str, event: str, values: dict[str, object]) -> None:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        line = {"time": stamp, "level": level, "event": event, **values}
        self._stream.write(json.dumps(line, default=str) + "\n")
        self._stream.flush()
