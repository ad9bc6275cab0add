"""Readers of single configuration values: what a person wrote becomes a number, a flag or a word, or a
ValueError.

YAML 1.1 reads `2e-5` as text and people quote numbers, so numbers may come as text. A reader's message
completes the sentence "<key> is ...".
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable

Reader = Callable[[object], object]

_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def number(low: float, high: float = float("inf")) -> Reader:
    """A float from `low` to `high`, both allowed."""

    def read(value: object) -> float:
        read_value = _float(value)
        if read_value is None:
            raise ValueError(f"{value!r}; a number is needed")
        if not low <= read_value <= high:
            bounds = f"{low:g} or more" if math.isinf(high) else f"between {low:g} and {high:g}"
            raise ValueError(f"{value}; it must be {bounds}")
        return read_value

    return read


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def whole(low: int) -> Reader:
    """An integer of at least `low`."""

    def read(value: object) -> int:
        read_value = number(low)(value)
        assert isinstance(read_value, float)
        if not read_value.is_integer():
            raise ValueError(f"{value}; a whole number is needed")
        return int(read_value)

    return read


def flag(value: object) -> bool:
    """True or false, also as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise ValueError(f"{value!r}; true or false is needed")


def only(*allowed: object) -> Reader:
    """One of the values given, and nothing else."""

    def read(value: object) -> object:
        if value not in allowed:
            raise ValueError(not_among(value, allowed))
        return value

    return read


def not_among(value: object, allowed: Iterable[object]) -> str:
    """The message for a value that is none of those allowed: which one is near, then all."""
    # Empty text, where it is allowed, says as much as nothing.
    words = [str(each).lower() if isinstance(each, bool) else str(each) for each in allowed if each != ""]
    words = list(dict.fromkeys(words))
    near = nearest(value, words) if isinstance(value, str) else None
    listed = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    if near is None:
        return f"{value!r}; only {listed} works here"
    return f"{value!r}; did you mean {near}? Only {listed} works here"


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that was probably meant; None when none is near."""
    return next(iter(near_words(word, known, most=1, cutoff=cutoff)), None)


def near_words(
    word: str, known: Iterable[str], *, most: int, cutoff: float, plain: Callable[[str], str] = str
) -> list[str]:
    """Known words that may have been meant, the likeliest first; `plain` takes away what does not count in them."""
    spelled = {plain(each): each for each in sorted(known)}
    return [spelled[near] for near in difflib.get_close_matches(plain(word), spelled, n=most, cutoff=cutoff)]


def text(value: object) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r}; text is needed")
    return value


def names(value: object) -> str | tuple[str, ...]:
    """A list of names, or one text (a pattern)."""
    if isinstance(value, (list, tuple)):
        return tuple(text(item) for item in value)
    return text(value)


def indexes(value: object) -> tuple[int, ...]:
    """One layer's number or a list of them."""
    read = whole(0)
    found = [read(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    return tuple(item for item in found if isinstance(item, int))


def mapping(value: object) -> dict[str, object]:
    """A mapping with text keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{value!r}; a mapping is needed")
    return dict(value)


def anything(value: object) -> object:
    """Whatever was written."""
    return value
