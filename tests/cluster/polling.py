"""Wait for what the cluster brings about: a probe, a deadline, and a failure that says what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import requests

from onebox.api import ApiError

Seen = TypeVar("Seen")


def eventually(
    what: str, probe: Callable[[], Seen], holds: Callable[[Seen], bool] = bool, *, seconds: float = 60
) -> Seen:
    """The first value of `probe` for which `holds`. Refused connections and requests count as "not yet"."""
    deadline = time.monotonic() + seconds
    last: object = "nothing"
    while time.monotonic() < deadline:
        try:
            seen = probe()
        except (requests.ConnectionError, requests.Timeout, ApiError) as error:
            last = error
        else:
            if holds(seen):
                return seen
            last = seen
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {str(last)[:2000]}")
