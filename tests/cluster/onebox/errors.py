"""What this program tells the person at the terminal: how far it is, and why it cannot go on."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
"""Takes a line that says what was done or is waited for."""


class OneboxError(Exception):
    """One sentence: what is wrong, where, and what to do about it."""


class MachineCannotError(OneboxError):
    """This machine cannot run a cluster, whatever is tried: not Linux, not root, a program that cannot be had."""
