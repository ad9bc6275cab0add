"""The last word of a tuning job: one JSON line, its result or its error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWord:
    """A job's last JSON line."""

    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


def last_word(log: str) -> JobWord:
    """The job's result or error: the last line of its log that is a JSON object with `outcome` or `error`."""
    for line in reversed(log.splitlines()):
        if not line.startswith("{"):
            continue
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            return JobWord(error=said["error"])
        if isinstance(said, dict) and "outcome" in said:
            return JobWord(result=said)
    return JobWord()
