"""Training data as examples: read row by row, or checked as a whole with problems named by file and line.

Files may be parquet, Arrow, JSON lines, JSON or CSV, each recognised by content (`readers`), with rows of any
shape in `formats`; all rows of one file have one shape. Memory stays bounded by the row limit, not by a
file's size.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kairay.errors import DataError
from kairay_train.formats import (
    ColumnMapping,
    Example,
    Layout,
    RowError,
    known_columns,
    place,
    recognise,
)
from kairay_train.readers import HINTS, FileFormat, read_rows, sniff
from kairay_train.rows import ROW_LIMIT, BrokenRow, FileProblem, RawRow
from kairay_train.turns import read_row

PROBLEM_LIMIT = 20
BY_NAME = ColumnMapping()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """One file: how its rows are written down, their shape (None if never seen), how many are good."""

    name: str
    kind: FileFormat | None
    format: str | None
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What is in the data, and what is wrong with it.

    `formats` counts good rows by shape. `digest` is the SHA-256 over the good rows as parsed: independent of
    the files' names, order and encoding, so parquet and jsonl of the same rows agree. `longest` is the place
    of the longest row; `characters` and `longest_characters` count what is said. `problems` holds the first
    20 of `problem_count`.
    """

    files: tuple[FileReport, ...]
    rows: int
    formats: Mapping[str, int]
    digest: str
    characters: int
    longest: str | None
    longest_characters: int
    problems: tuple[str, ...]
    problem_count: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, keys in camelCase."""
        return {
            "files": [
                {"name": f.name, "kind": f.kind, "format": f.format, "rows": f.rows} for f in self.files
            ],
            "rows": self.rows,
            "formats": dict(sorted(self.formats.items())),
            "digest": self.digest,
            "characters": self.characters,
            "longest": {"row": self.longest, "characters": self.longest_characters} if self.longest else None,
            "problems": list(self.problems),
            "problemCount": self.problem_count,
        }

    def summary(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{f.name}: {f.rows:,} rows, {f.kind}, {f.format or 'unknown'}"
            for f in self.files
            if f.kind is not None  # else nothing was read: a problem says why
        ]
        if self.longest:
            lines.append(
                f"{self.rows:,} rows, {self.characters:,} characters; "
                f"the longest row is {self.longest} with {self.longest_characters:,}"
            )
            lines.append(f"digest {self.digest}")
        lines += [f"problem: {p}" for p in self.problems]
        if self.problem_count > len(self.problems):
            lines.append(f"and {self.problem_count - len(self.problems):,} more problems")
        return "\n".join(lines)


def read_examples(
    paths: Sequence[Path],
    *,
    names: Mapping[Path, str] | None = None,
    mapping: ColumnMapping = BY_NAME,
    row_limit: int = ROW_LIMIT,
) -> Iterator[Example]:
    """Every row of every file, in order; `names` says how to call a file in messages (a URL, not its copy).

    Raises DataError, whose message begins with file and line, at the first row or file that is broken.
    """
    for file in _open(paths, names, mapping, row_limit):
        for found in file:
            if isinstance(found, str):
                raise DataError(found)
            yield found


def check(
    paths: Sequence[Path],
    *,
    names: Mapping[Path, str] | None = None,
    mapping: ColumnMapping = BY_NAME,
    row_limit: int = ROW_LIMIT,
) -> DataReport:
    """Read everything and report it; never raises for what the data says."""
    tally = _Tally()
    files = _open(paths, names, mapping, row_limit)
    digests = []
    for file in files:
        hasher = hashlib.sha256()
        for found in file:
            tally.add(found)
            if isinstance(found, Example):
                hasher.update(_canonical(found))
        digests.append(hasher.hexdigest())
    if not files:
        tally.add("no data file was given; name at least one")
    return DataReport(
        files=tuple(f.report() for f in files),
        rows=sum(f.rows for f in files),
        formats=_by_format(files),
        digest="sha256:" + hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest(),
        characters=tally.characters,
        longest=tally.longest,
        longest_characters=tally.longest_characters,
        problems=tuple(tally.problems),
        problem_count=tally.problem_count,
    )


@dataclass(slots=True, kw_only=True)
class _File:
    """One file being read: yields examples, and sentences for what is broken."""

    path: Path
    name: str
    mapping: ColumnMapping
    limit: int
    kind: FileFormat | None = None
    layout: Layout | None = None
    first_line: int = 0
    rows: int = 0
    broken: bool = False

    def __iter__(self) -> Iterator[Example | str]:
        try:
            yield from self._read()
        except FileProblem as problem:
            yield f"{self._place(problem.line)}: {problem.problem}"
        except OSError as error:
            yield f"{self.name}: {_os_problem(self.path, error)}"
        else:
            if not self.rows and not self.broken:
                yield f"{self.name}: has no rows"

    def report(self) -> FileReport:
        shape = self.layout.format.value if self.layout else None
        return FileReport(name=self.name, kind=self.kind, format=shape, rows=self.rows)

    def _read(self) -> Iterator[Example | str]:
        _check_is_file(self.path)
        columns = known_columns(self.mapping)
        self.kind = sniff(self.path, limit=self.limit, row_columns=columns)
        for row in read_rows(self.path, self.kind, limit=self.limit, row_columns=columns):
            try:
                found: Example | str = self._example(row)
            except RowError as error:
                found = f"{self._place(row.line)}: {error}"
            self.broken |= isinstance(found, str)
            self.rows += isinstance(found, Example)
            yield found

    def _example(self, row: RawRow | BrokenRow) -> Example:
        if isinstance(row, BrokenRow):
            raise RowError(row.problem)
        assert self.kind
        if self.layout is None or not self.kind.is_table:
            self._recognise(row)
        assert self.layout
        return read_row(
            row.fields, self.layout, source=self.name, line=row.line, by_row=self.kind.counts_rows
        )

    def _recognise(self, row: RawRow) -> None:
        try:
            layout = recognise(row.fields, self.mapping)
        except RowError as error:
            if self.kind and self.kind.is_table:  # all rows would say the same
                raise FileProblem(str(error)) from None
            raise
        if self.layout is None:
            self.layout, self.first_line = layout, row.line
        elif layout != self.layout:
            raise RowError(
                f"is a {layout.format} row, but the file began with {self.layout.format} rows "
                f"(line {self.first_line}); keep one format in a file"
            )

    def _place(self, line: int | None) -> str:
        return place(self.name, line, by_row=bool(self.kind and self.kind.counts_rows))


@dataclass(slots=True)
class _Tally:
    """What `check` counts on the way."""

    characters: int = 0
    longest: str | None = None
    longest_characters: int = -1
    problem_count: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, found: Example | str) -> None:
        if isinstance(found, str):
            self.problem_count += 1
            if len(self.problems) < PROBLEM_LIMIT:
                self.problems.append(found)
            return
        size = found.characters
        self.characters += size
        if size > self.longest_characters:
            self.longest, self.longest_characters = found.where, size


def _open(
    paths: Sequence[Path], names: Mapping[Path, str] | None, mapping: ColumnMapping, limit: int
) -> list[_File]:
    return [_File(path=p, name=(names or {}).get(p, str(p)), mapping=mapping, limit=limit) for p in paths]


def _by_format(files: Sequence[_File]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in files:
        if file.layout and file.rows:
            counts[file.layout.format.value] = counts.get(file.layout.format.value, 0) + file.rows
    return dict(sorted(counts.items()))


def _canonical(example: Example) -> bytes:
    said = [[m.role.value, m.content] for m in example.messages] or example.text
    return json.dumps([said, example.loss_from], ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        held = sorted(p.name for p in path.iterdir() if p.suffix.lower() in HINTS)
        raise FileProblem(
            "is a directory, not a file; "
            + (f"name a file in it, such as {held[0]}" if held else "it holds no data")
        )
    if path.exists() and not path.is_file():
        raise FileProblem("is not a regular file")


def _os_problem(path: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return f"cannot be read: {error.strerror or error}"
    if not path.parent.is_dir():
        return f"does not exist, nor does the folder {path.parent}"
    beside = sorted(p.name for p in path.parent.iterdir() if p.is_file())
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    return "does not exist" + (f"; did you mean {near[0]}?" if near else f" in {path.parent.absolute()}")
