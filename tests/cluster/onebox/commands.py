"""Run a program of the system to its end, and say so when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from onebox.errors import OneboxError

SECONDS = 60.0
"""More than any of these programs takes; one that hangs must not hang us."""


def run(*command: str, seconds: float = SECONDS) -> str:
    """Its standard output; OneboxError with what it said when it ends with another code than 0, or does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise OneboxError(f"`{' '.join(command)}` did not end within {seconds:.0f} s") from error
    except FileNotFoundError as error:
        raise OneboxError(f"{command[0]} is not installed; install the package that has it") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise OneboxError(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout


def succeeds(command: Sequence[str]) -> bool:
    """Whether it ends with 0; what it says is dropped."""
    try:
        return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).returncode == 0
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return False
