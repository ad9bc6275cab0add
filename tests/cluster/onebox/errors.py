"""What this program tells the person at the terminal: how far it is, and why it cannot go on."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
"""Takes a line that says what was done or is waited for."""


class OneboxError(Exception):
    """One sentence: what is wrong, where, and what to do about it."""
