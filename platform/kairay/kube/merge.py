"""Server-side apply on plain data, as the fake does it: maps merge, lists are one value, finalizers are a set."""

from __future__ import annotations

from typing import Any, TypeVar

from kairay.kube.objects import Manifest

T = TypeVar("T")


def copied(value: T) -> T:
    """A deep copy of JSON data."""
    result: Any = value
    if isinstance(value, dict):
        result = {name: copied(item) for name, item in value.items()}
    elif isinstance(value, list):
        result = [copied(item) for item in value]
    return result  # type: ignore[no-any-return]


def merged(live: Manifest, before: Manifest, after: Manifest) -> Manifest:
    """`live` with what a manager applied `before` replaced by what it applies now (`after`)."""
    result = dict(live)
    for name in before.keys() - after.keys():
        left = _without(result.get(name), before[name])
        if left is None:
            result.pop(name, None)
        else:
            result[name] = left
    for name, value in after.items():
        result[name] = _merged_value(name, result.get(name), before.get(name), value)
    return result


def _merged_value(name: str, live: Any, before: Any, after: Any) -> Any:
    if isinstance(after, dict):
        return merged(
            live if isinstance(live, dict) else {}, before if isinstance(before, dict) else {}, after
        )
    if name == "finalizers" and isinstance(after, list):
        others = [item for item in live or [] if item not in (before or []) and item not in after]
        return [*others, *after]
    return copied(after)


def _without(live: Any, before: Any) -> Any:
    """What others own of a value that its manager lets go of; None for nothing."""
    if isinstance(live, dict) and isinstance(before, dict):
        return merged(live, before, {}) or None
    if isinstance(live, list) and isinstance(before, list) and all(isinstance(item, str) for item in live):
        return [item for item in live if item not in before] or None
    return None
