"""Files that are not filled in yet: KAITO's examples say ACR_REPO_HERE where a registry or a secret belongs.

Such a file can be planned, because no size depends on those names; it can never be run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PLACEHOLDER = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_HERE\b")
"""The form that KAITO's examples use throughout."""


def find_placeholders(value: object, path: str = "") -> Iterator[str]:
    """`path: WORD` for every placeholder in a document, in the document's order."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from find_placeholders(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from find_placeholders(inner, f"{path}[{number}]")
    elif isinstance(value, str):
        yield from (f"{path}: {word}" for word in PLACEHOLDER.findall(value))


def fill_placeholders(value: object) -> object:
    """The same document with each placeholder as a name that every rule of form takes."""
    if isinstance(value, dict):
        return {key: fill_placeholders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_placeholders(inner) for inner in value]
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: found.group().lower().replace("_", "-"), value)
    return value
