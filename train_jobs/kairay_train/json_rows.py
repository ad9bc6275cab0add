"""Rows of JSON files: one object a line, or one array of objects.

Memory stays bounded by the row limit whatever the file's size: lines are read up to the limit, arrays are
decoded element by element from a buffer that grows only as far as one row needs.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kairay_train.rows import BrokenRow, FileProblem, RawRow, not_utf8, too_large

CHUNK = 1 << 16
BOM = codecs.BOM_UTF8


def read_json_lines(path: Path, limit: int) -> Iterator[RawRow | BrokenRow]:
    """One row per line that is not blank; a broken line does not end the reading."""
    line = offset = 0
    with path.open("rb") as file:
        while raw := file.readline(limit + 1):
            line += 1
            start, offset = offset, offset + len(raw)
            if len(raw) > limit and not raw.endswith(b"\n"):
                yield BrokenRow(line, too_large(limit))  # first, so that who stops here reads no further
                offset += _skip_line(file)
            elif raw.strip() and raw != BOM:
                yield _json_line(raw, line, start)


def read_json_array(path: Path, limit: int, row_columns: Collection[str]) -> Iterator[RawRow | BrokenRow]:
    """One row per element of the array, or of the only list in an object; an object that is a row is one row.

    `row_columns` tell a row (`{"messages": […]}`) from a wrapper (`{"data": […]}`). Lines are those where the
    elements start. Raises FileProblem at the first thing that is not JSON.
    """
    with path.open("rb") as file:
        text = _Buffer(file, limit)
        if text.peek() == "[":
            yield from _elements(text)
        elif _is_row(path, limit, row_columns):
            yield _element(text)
        else:
            yield from _wrapped(text)
        if text.peek():
            raise FileProblem(
                "goes on after the end of the JSON value; put one object on each line", text.line
            )


def parse_object(text: str) -> dict[str, Any]:
    """The object that `text` is; raises ValueError with the end of a sentence that says why not."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(_not_an_object(value))  # noqa: TRY004 - one kind of error for one kind of sentence
    return value


def _json_line(raw: bytes, line: int, start: int) -> RawRow | BrokenRow:
    if line == 1 and raw.startswith(BOM):
        raw, start = raw.removeprefix(BOM), len(BOM)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return BrokenRow(line, not_utf8(error, before=start))
    try:
        return RawRow(line, parse_object(text.strip()))
    except ValueError as error:
        return BrokenRow(line, str(error))


def _skip_line(file: BinaryIO) -> int:
    skipped = 0
    while raw := file.readline(CHUNK):
        skipped += len(raw)
        if raw.endswith(b"\n"):
            break
    return skipped


def _not_an_object(value: Any) -> str:
    kind = {list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )
    return f"is {kind}, not an object with columns"


class _Buffer:
    """A window on a JSON text: what is consumed is dropped, more is read when a value needs it."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self.limit = file, limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._pos, self._done, self._read = "", 0, False, 0
        self.line = 1

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            rest = len(self._text) - len(self._text[self._pos :].lstrip(" \t\r\n"))
            self._advance(rest)
            if self._pos < len(self._text):
                return self._text[self._pos]
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        """Consume one punctuation mark."""
        found = self.peek()
        if found != expected:
            what = f"found {found!r}" if found else "the file ends"
            raise FileProblem(f"is not valid JSON: expected {expected!r}, {what}", self.line)
        self._advance(self._pos + 1)

    def value(self) -> tuple[Any, int]:
        """The next JSON value and how many characters it has."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._pos)
            except json.JSONDecodeError as error:
                self._grow_or_raise(error)
                continue
            except RecursionError:
                raise FileProblem("is nested too deeply", self.line) from None
            if end == len(self._text) and self._more():
                continue  # a number could go on
            size = end - self._pos
            self._advance(end)
            return value, size

    def _grow_or_raise(self, error: json.JSONDecodeError) -> None:
        open_string = error.msg.startswith("Unterminated string")
        at_end = open_string or error.pos >= len(self._text) - 16
        cut = open_string or error.pos >= len(self._text.rstrip())
        line = self.line + self._text.count("\n", self._pos, error.pos)
        if at_end and len(self._text) - self._pos > self.limit:
            raise FileProblem(too_large(self.limit), self.line) from None
        if at_end and self._more():
            return
        raise FileProblem(f"is not valid JSON: {'the file is cut off' if cut else error.msg}", line) from None

    def _advance(self, pos: int) -> None:
        self.line += self._text.count("\n", self._pos, pos)
        self._pos = pos

    def _more(self) -> bool:
        if self._done:
            return False
        self._text, self._pos = self._text[self._pos :], 0
        raw = self._file.read(max(CHUNK, len(self._text)))  # doubling keeps a large row linear
        try:
            self._text += self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            before = self._read + len(raw) - len(error.object)
            raise FileProblem(not_utf8(error, before=before)) from None
        self._read += len(raw)
        self._done = not raw
        return not self._done


def _elements(text: _Buffer) -> Iterator[RawRow | BrokenRow]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield _element(text)
        if text.peek() == "]":
            text.take("]")
            return
        text.take(",")


def _element(text: _Buffer) -> RawRow | BrokenRow:
    text.peek()
    line = text.line
    value, size = text.value()
    if size > text.limit:
        return BrokenRow(line, too_large(text.limit))
    return RawRow(line, value) if isinstance(value, dict) else BrokenRow(line, _not_an_object(value))


def _is_row(path: Path, limit: int, row_columns: Collection[str]) -> bool:
    """A wrapper's rows may be many, so nothing after the first list is looked at."""
    with path.open("rb") as file:
        for key, is_list in _members(_Buffer(file, limit)):
            if key in row_columns or is_list:
                return key in row_columns
    return False


def _wrapped(text: _Buffer) -> Iterator[RawRow | BrokenRow]:
    lists: list[str] = []
    for key, is_list in _members(text):
        if is_list:
            lists.append(key)
            if len(lists) > 1:
                raise FileProblem(
                    f"holds several lists ({', '.join(lists)}); keep the one with the rows", text.line
                )
            yield from _elements(text)
    if not lists:
        raise FileProblem("holds an object without a list of rows")


def _members(text: _Buffer) -> Iterator[tuple[str, bool]]:
    """Key by key; a value that is a list is left for the caller to take, or skipped if it does not."""
    text.take("{")
    while text.peek() != "}":
        key, _ = text.value()
        text.take(":")
        is_list = text.peek() == "["
        if is_list:
            yield str(key), True
            if text.peek() == "[":
                text.value()
        else:
            text.value()
            yield str(key), False
        if text.peek() != "}":
            text.take(",")
    text.take("}")
