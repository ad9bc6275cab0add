"""Wait for a condition, watching the parts that must bring it about: one that dies is reported with its last words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from onebox.api import ApiError
from onebox.errors import OneboxError
from onebox.processes import alive

_LAST_LINES = 6


def wait_for(
    what: str, check: Callable[[], bool], *, seconds: float, parts: Mapping[str, int], logs: Path,
    missing: Callable[[], str] = lambda: "",
) -> None:  # fmt: skip
    """Return once `check` holds. `parts` (name → pid) must live meanwhile.

    A refused connection or request counts as "not yet". OneboxError after `seconds`, or at once when a part has ended.
    """
    deadline = time.monotonic() + seconds
    seen = ""
    while time.monotonic() < deadline:
        for name, pid in parts.items():
            if not alive(pid):
                raise OneboxError(
                    f"{name} ended while waiting for {what}; its last words:\n{last_lines(logs, name)}"
                )
        try:
            if check():
                return
            seen = missing()
        except (requests.ConnectionError, requests.Timeout, ApiError) as error:
            seen = str(error)
        time.sleep(0.1)
    detail = f" ({seen})" if seen else ""
    raise OneboxError(f"no {what} within {seconds:.0f} s{detail}; the logs are in {logs}")


def last_lines(logs: Path, name: str) -> str:
    """The end of a part's log, indented."""
    path = logs / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-_LAST_LINES:] if path.exists() else []
    return "\n".join(f"  {line[:400]}" for line in lines) or "  (it said nothing)"
