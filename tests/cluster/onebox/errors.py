"""What this program tells the person at the terminal when it cannot go on."""

from __future__ import annotations


class OneboxError(Exception):
    """One sentence: what is wrong, where, and what to do about it."""
