"""Rows of CSV files: a header, then records, with commas, semicolons or tabs; fields may hold line breaks."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from kairay_train.rows import BrokenRow, FileProblem, RawRow, not_utf8, too_large

DELIMITERS = (",", ";", "\t")


def read_csv(path: Path, limit: int, row_columns: Collection[str]) -> Iterator[RawRow | BrokenRow]:
    """One row per record; `line` is where the record starts.

    Raises FileProblem for a header with a name twice, bytes that are not UTF-8, and a record that does not
    end within `limit` bytes (a quote that is not closed), since nothing after these can be trusted.
    """
    # The module's own limit is per process: raised, never lowered, so that ours decides.
    csv.field_size_limit(max(csv.field_size_limit(), limit))
    with path.open("rb") as file:
        lines = _Lines(file, limit)
        first = lines.first()
        delimiter = _delimiter(first, row_columns)
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _header(records)
        while True:
            lines.start_record()
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                yield BrokenRow(lines.record, f"is not valid CSV: {error}")
                continue
            if record:
                yield _row(lines.record, header, record)


def header_columns(line: str, row_columns: Collection[str]) -> list[str]:
    """The names in a header line, by the delimiter that fits best."""
    try:
        return next(csv.reader([line], delimiter=_delimiter(line, row_columns)), [])
    except csv.Error:
        return []


def _row(line: int, header: list[str], record: list[str]) -> RawRow | BrokenRow:
    if len(record) != len(header):
        return BrokenRow(line, f"has {len(record)} fields where the header has {len(header)}")
    return RawRow(line, dict(zip(header, record, strict=True)))


def _header(records: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(records, [])]
    except csv.Error as error:
        raise FileProblem(f"has a header that is not valid CSV: {error}", 1) from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FileProblem(f"names the column {twice[0]!r} twice in its header", 1)
    return header


def _delimiter(line: str, row_columns: Collection[str]) -> str:
    def known(delimiter: str) -> int:
        return sum(name.strip().strip('"') in row_columns for name in line.split(delimiter))

    return max(DELIMITERS, key=known)  # the first of equals: a comma


class _Lines:
    """Decoded lines for csv.reader, which counts what a record takes to refuse it before it is whole."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self._line = self._offset = self._taken = 0
        self._held: list[str] = []
        self.record = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._held:
            return self._held.pop()
        raw = self._file.readline(self._limit + 1)
        if not raw:
            raise StopIteration
        self._line += 1
        self._taken += len(raw)
        if self._taken > self._limit:
            raise FileProblem(too_large(self._limit) + "; a quote may be missing", self.record)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise FileProblem(not_utf8(error, before=self._offset), self._line) from None
        self._offset += len(raw)
        return text.removeprefix(codecs.BOM_UTF8.decode()) if self._line == 1 else text

    def first(self) -> str:
        """The first line that is not blank, given again when the reader asks."""
        line = next((text for text in self if text.strip()), "")
        self._held.append(line)
        return line

    def start_record(self) -> None:
        """What follows belongs to the next record."""
        self._taken = 0
        self.record = self._line + 1
