"""Waiting for what the API server does by itself a moment later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(what: str, ask: Callable[[], T], seconds: float = 60.0) -> T:
    """The first answer of `ask` that is true; AssertionError with `what` when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return answer
