"""YAML text to plain values, for text that nobody has vetted.

Differs from PyYAML's safe loading where a person or a server would be surprised: a key written twice is an
error, dates stay text, keys are text (as in JSON), and size, depth, aliases and tags are bounded *before*
values are built, because the C composer recurses without a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from kairay.errors import InputError

MOST_BYTES = 2**20
"""The API server takes no larger object (etcd's limit is 1.5 MiB)."""

_DEEPEST = 64
_MOST_VALUES = 20_000
_TAG_PREFIX = "tag:yaml.org,2002:"
_TAGS = frozenset(
    _TAG_PREFIX + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")
)


def read_yaml(text: str, source: str) -> list[Any]:
    """Every document, empty ones as None; InputError with `source:line:column` when one cannot be read."""
    if len(text) > MOST_BYTES or len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise InputError(f"{source}: larger than 1 MiB, which no Workspace is; keep data in files of its own")
    try:
        _Bounds(source).check(text)
        return list(yaml.load_all(text, _Loader))  # derives from a safe loader
    except _RefusedError as error:
        raise InputError(f"{_place(error.problem_mark, source)}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        raise InputError(_unreadable(error, text, source)) from error
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{source}: not YAML: a value cannot be read as its kind ({str(error)[:80]})"
        ) from error


_BaseLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _RefusedError(yaml.constructor.ConstructorError):
    """YAML, but not what we take."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(None, None, problem, mark)


class _Loader(_BaseLoader):  # type: ignore[misc, valid-type]  # libyaml's loader when PyYAML was built with it
    """Plain values only, no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        _refuse_twins(node)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
    for first, resolvers in _BaseLoader.yaml_implicit_resolvers.items()
}


def _refuse_twins(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _RefusedError("a key must be a word", key.start_mark)
        if key.value in seen:
            problem = f"the key {key.value!r} is here twice, first in line {seen[key.value]}; keep one"
            raise _RefusedError(problem, key.start_mark)
        seen[key.value] = key.start_mark.line + 1


@dataclass(slots=True)
class _Bounds:
    """Counts values over the stream of events, which cannot recurse; aliases count as what they stand for."""

    source: str
    sizes: dict[str, int] = field(default_factory=dict)
    open_anchors: list[str | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    values: int = 0

    def check(self, text: str) -> None:
        for event in _events(text):
            if isinstance(event, CollectionEndEvent):
                self._close()
            elif isinstance(event, AliasEvent):
                self._expand(event)
            elif isinstance(event, NodeEvent):
                self._enter(event)
            if self.values > _MOST_VALUES:
                self._refuse(event, f"more than {_MOST_VALUES} values; no Workspace has as many")

    def _enter(self, event: Any) -> None:
        self.values += 1
        if event.tag and event.tag != "!" and event.tag not in _TAGS:
            self._refuse(
                event, f"the tag {event.tag.removeprefix(_TAG_PREFIX)!r}; write plain values without tags"
            )
        if isinstance(event, CollectionStartEvent):
            self.open_anchors.append(event.anchor)
            self.starts.append(self.values - 1)
            if len(self.starts) > _DEEPEST:
                self._refuse(event, f"nested more than {_DEEPEST} levels deep")
        elif isinstance(event, ScalarEvent) and event.anchor:
            self.sizes[event.anchor] = 1

    def _close(self) -> None:
        anchor, start = self.open_anchors.pop(), self.starts.pop()
        if anchor:
            self.sizes[anchor] = self.values - start

    def _expand(self, event: Any) -> None:
        if event.anchor in self.open_anchors:
            self._refuse(event, f"the alias *{event.anchor} stands inside of what it names")
        self.values += self.sizes.get(event.anchor, 1)

    def _refuse(self, event: Any, problem: str) -> None:
        raise InputError(f"{_place(event.start_mark, self.source)}: {problem}")


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, _BaseLoader))


def _unreadable(error: yaml.MarkedYAMLError, text: str, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "it breaks off"
    if mark is None:
        return f"{source}: not YAML: {problem}"
    # libyaml gives no snippet of the line.
    lines = text.split("\n")[mark.line : mark.line + 1]
    hint = "; indent with spaces, not tabs" if any("\t" in line[: mark.column + 1] for line in lines) else ""
    return f"{_place(mark, source)}: not YAML: {problem}{hint}"


def _place(mark: yaml.Mark | None, source: str) -> str:
    return f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
