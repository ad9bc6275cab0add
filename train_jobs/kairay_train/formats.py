"""The shapes a training row may have, and the one shape it becomes: a conversation, or a text.

A row is a mapping from column to value, whatever file it came from. Which shape it has is told by its
columns, never by a file's name. Where a row has the columns of several shapes (alpaca sets often carry a
rendered `text` too), the first of `LAYOUTS` wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RowFormat(StrEnum):
    """What a row looks like."""

    MESSAGES = "messages"
    SHAREGPT = "sharegpt"
    PROMPT_COMPLETION = "prompt-completion"
    ALPACA = "alpaca"
    DOLLY = "dolly"
    MAPPED = "mapped"
    TEXT = "text"


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class RowError(ValueError):
    """What is wrong with one row, as the end of a sentence that begins with its file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn; `content` is exactly what the data says, white space included."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training row: `messages`, or `text` when there are none.

    Assistant turns before index `loss_from` are context, not something to learn. `line` counts from 1: lines
    of a text file, rows (`by_row`) of a columnar one.
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None
    loss_from: int = 0
    source: str
    line: int
    by_row: bool = False

    @property
    def where(self) -> str:
        """`train.jsonl:17`, or `train.parquet:row 17`."""
        return place(self.source, self.line, by_row=self.by_row)

    @property
    def characters(self) -> int:
        """Characters of everything that is said."""
        return len(self.text or "") + sum(len(m.content) for m in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """Columns that a person names (KAITO's DatasetConfig); all None: recognised by their usual names.

    `instruction` and `context` make the question (either may be missing), `response` the answer. A response
    alone is plain text.
    """

    messages: str | None = None
    instruction: str | None = None
    context: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which column plays which part; `context` may be missing in a row, the others may not."""

    format: RowFormat
    messages: str | None = None
    prompt: str | None = None
    context: str | None = None
    answer: str | None = None
    text: str | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a row of this layout has."""
        return tuple(c for c in (self.messages, self.prompt, self.answer, self.text) if c)


LAYOUTS = (
    Layout(format=RowFormat.MESSAGES, messages="messages"),
    Layout(format=RowFormat.SHAREGPT, messages="conversations"),
    Layout(format=RowFormat.PROMPT_COMPLETION, prompt="prompt", answer="completion"),
    Layout(format=RowFormat.ALPACA, prompt="instruction", context="input", answer="output"),
    Layout(format=RowFormat.DOLLY, prompt="instruction", context="context", answer="response"),
    Layout(format=RowFormat.TEXT, text="text"),
)

ACCEPTED = (
    "messages; conversations; prompt and completion; instruction (input) and output; "
    "instruction (context) and response; text"
)


def place(source: str, line: int | None, *, by_row: bool) -> str:
    """A row's address as a person reads it: `file`, `file:17` or `file:row 17`."""
    if line is None:
        return source
    return f"{source}:row {line}" if by_row else f"{source}:{line}"


def known_columns(mapping: ColumnMapping) -> frozenset[str]:
    """Every column that some layout reads; a columnar file's other columns need not be loaded."""
    layouts = (_mapped(mapping),) if _mapped(mapping) else LAYOUTS
    return frozenset(c for found in layouts if found for c in (*found.required, found.context) if c)


def recognise(columns: Iterable[str], mapping: ColumnMapping) -> Layout:
    """The layout of a row with these columns.

    Raises RowError, which lists what was found and what is accepted.
    """
    found = [str(c) for c in columns]
    wanted = _mapped(mapping)
    if wanted:
        missing = [c for c in wanted.required if c not in found]
        if missing:
            raise RowError(
                f"lacks the column {listed(missing)} that the column mapping names; found: {listed(found)}"
            )
        return wanted
    for layout in LAYOUTS:
        if all(c in found for c in layout.required):
            return layout
    raise RowError(
        f"has no columns to train on: found {listed(found) or 'none'}; accepted are {ACCEPTED}, "
        "or name yours with a column mapping"
    )


def listed(names: Iterable[Any]) -> str:
    """Names for a message: the first dozen, each cut to 40 characters."""
    found = [str(n)[:40] for n in names]
    return ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")


def _mapped(mapping: ColumnMapping) -> Layout | None:
    if mapping.messages:
        return Layout(format=RowFormat.MESSAGES, messages=mapping.messages)
    if not mapping.response:
        return None
    if mapping.instruction:
        return Layout(
            format=RowFormat.MAPPED,
            prompt=mapping.instruction,
            context=mapping.context,
            answer=mapping.response,
        )
    if mapping.context:
        return Layout(format=RowFormat.MAPPED, prompt=mapping.context, answer=mapping.response)
    return Layout(format=RowFormat.TEXT, text=mapping.response)
