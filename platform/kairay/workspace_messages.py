"""Sentences for what is wrong with a written field: where, what was found, what to write instead.

pydantic finds the faults; the words are ours. Nothing here knows a particular field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from kairay.values import near_words

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PROBLEM = "problem"
"""pydantic's error type for a message that is already ours."""

_LONGEST_VALUE = 60

_WANTED = {
    "model_type": "a mapping of fields",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing_size": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
}
_BOUNDS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "{} or less"),
    "too_long": ("max_length", "at most {} of them"),
    "too_short": ("min_length", "at least {} of them"),
    "string_too_long": ("max_length", "at most {} characters"),
}


def problem(message: str) -> PydanticCustomError:
    """An error for a pydantic validator to raise, with exactly this message."""
    return PydanticCustomError(PROBLEM, "{message}", {"message": message})


def describe_error(error: ErrorDetails) -> str:
    """One of pydantic's errors as our sentence, without its path."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == PROBLEM:
        return error["msg"]
    if kind in ("enum", "literal_error"):
        return f"give {context['expected'].replace(chr(39), '')}, found {describe_value(value)}"
    if kind in _BOUNDS:
        name, wanted = _BOUNDS[kind]
        found = context.get("actual_length") or describe_value(value)
        bound = format(context[name], "g")
        return f"give {wanted.format(bound)}, found {found}"
    hint = "; put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
    return f"give {_WANTED.get(kind, 'another value')}, found {describe_value(value)}{hint}"


def describe_value(value: object) -> str:
    """A written value, as a person would recognise it, at most a line long."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return (
            f"a mapping of {', '.join(sorted(map(str, value)))[:_LONGEST_VALUE]}"
            if value
            else "an empty mapping"
        )
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str) and re.fullmatch(r"[\w./:@+-]{1,60}", value):
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def describe_choice(words: Collection[str]) -> str:
    """`a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def describe_path(location: Iterable[int | str], root: str) -> str:
    """`tuning.input.urls[0]`; keys that are no field names stand in brackets; `root` names the top."""
    path = ""
    for part in location:
        if part == "[key]":
            continue
        plain = isinstance(part, str) and re.fullmatch(r"[A-Za-z_]\w*", part)
        path += f".{part}" if plain else f"[{part}]"
    return path.removeprefix(".") or root


def unknown_field(name: str, known: Collection[str]) -> str:
    """What to say of a field that does not exist."""
    near = nearest(name, known)
    return (
        f"unknown field; did you mean {near}?"
        if near
        else f"unknown field; known here: {', '.join(sorted(known))}"
    )


def nearest(name: str, known: Collection[str]) -> str | None:
    """The one of `known` that was probably meant, whatever its case and separators."""
    return next(iter(near_words(name, known, most=1, cutoff=0.6, plain=_plain)), None)


def exactly_one(names: Collection[str], present: Collection[str]) -> str:
    """The sentence for a choice of which not exactly one was made; `names` in the order to propose them."""
    neither, all_of_them = ("neither", "both") if len(names) == 2 else ("none of them", " and ".join(present))
    found = all_of_them if len(present) > 1 else neither
    return f"give exactly one of {describe_choice(names)}, found {found}"


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
