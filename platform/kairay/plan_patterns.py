"""Whether a pattern that a user wrote matches any of a few short names, without the risk of never coming back.

Python's `re` tries every way to match, which can double with each letter, and nothing stops it. So only those patterns
are run whose ways can be counted beforehand: a repeat of one character has as many as a name has letters, a choice two.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_LONGEST: Final = 200
"""Characters of a pattern that is run."""
_MOST_WAYS: Final = 30_000
"""Ways to match one name: the 562 of a model of 80 layers take 0.6 s at the worst of what was tried, most patterns a
millisecond."""
_LETTERS: Final = 50
"""More than a module's path has, so at least the ways of one repeat."""
_CLASS: Final = re.compile(r"\[\^?\]?[^\]]*\]")
_ESCAPED: Final = re.compile(r"\\.", re.DOTALL)
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_STRANGE: Final = re.compile(r"\(\?(?!:|=|!|<|P<)")
"""Flags, of which x would hide a repeat behind blanks, comments, conditions."""


@lru_cache(maxsize=128)  # a Workspace that was refused is looked at again and again
def matches_any(pattern: str, names: tuple[str, ...]) -> bool | None:
    """Whether it matches the whole of one of the names; None where that cannot be found out in bounded time.

    ValueError, with the reason, for text that is no pattern.
    """
    if len(pattern) > _LONGEST:
        return None
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise ValueError(str(error)) from error
    ways = _most_ways(pattern)
    if ways is None or ways > _MOST_WAYS:
        return None
    return any(compiled.fullmatch(name) for name in names)


def _most_ways(pattern: str) -> int | None:
    """At least the ways in which it can be tried on a name; None where a group is repeated, or a flag is set."""
    plain = _CLASS.sub("a", _ESCAPED.sub("a", pattern))
    if _REPEATED_GROUP.search(plain) or _STRANGE.search(plain):
        return None
    choices = plain.count("|") + plain.count("?") - plain.count("(?")
    repeats = sum(plain.count(sign) for sign in "*+{")
    return int(_LETTERS**repeats * 2**choices)
