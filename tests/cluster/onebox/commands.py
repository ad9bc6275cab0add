"""Run a program of the system to its end, and say so when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from onebox.errors import OneboxError


def run(*command: str) -> str:
    """Its standard output; OneboxError with what it said when it ends with another code than 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise OneboxError(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout


def succeeds(command: Sequence[str]) -> bool:
    """Whether it ends with 0; what it says is dropped."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
