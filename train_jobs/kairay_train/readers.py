"""Which reader a file needs, told by its first bytes; the extension only decides where these say nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path

from kairay_train.csv_rows import header_columns, read_csv
from kairay_train.json_rows import BOM, read_json_array, read_json_lines
from kairay_train.rows import BrokenRow, FileProblem, RawRow


class FileFormat(StrEnum):
    """How rows are written down."""

    PARQUET = "parquet"
    ARROW = "arrow"
    JSON_LINES = "jsonl"
    JSON = "json"
    CSV = "csv"

    @property
    def is_table(self) -> bool:
        """Whether all rows have the same columns by construction."""
        return self in (FileFormat.PARQUET, FileFormat.ARROW, FileFormat.CSV)

    @property
    def counts_rows(self) -> bool:
        """Whether a row is found by its number, there being no lines."""
        return self in (FileFormat.PARQUET, FileFormat.ARROW)


HINTS = {
    ".parquet": FileFormat.PARQUET,
    ".arrow": FileFormat.ARROW,
    ".jsonl": FileFormat.JSON_LINES,
    ".ndjson": FileFormat.JSON_LINES,
    ".json": FileFormat.JSON,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
}

MAGIC = {
    b"PAR1": FileFormat.PARQUET,
    b"ARROW1": FileFormat.ARROW,
    b"\xff\xff\xff\xff": FileFormat.ARROW,
}

FOREIGN = {
    b"\x1f\x8b": "is compressed with gzip; decompress it first",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; decompress it first",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"version https://git-lfs": "is a Git LFS pointer, not the data; fetch the data with git lfs pull",
    b"<!doctype": "is an HTML page, not data; was it an error or login page?",
    b"<html": "is an HTML page, not data; was it an error or login page?",
}


def read_rows(
    path: Path, kind: FileFormat, *, limit: int, row_columns: Collection[str]
) -> Iterator[RawRow | BrokenRow]:
    """The file's rows in order; raises FileProblem where the file itself is the problem."""
    match kind:
        case FileFormat.JSON_LINES:
            return read_json_lines(path, limit)
        case FileFormat.JSON:
            return read_json_array(path, limit, row_columns)
        case FileFormat.CSV:
            return read_csv(path, limit, row_columns)
        case FileFormat.PARQUET | FileFormat.ARROW:
            from kairay_train import table_rows  # pyarrow is heavy and text files do not need it

            read = table_rows.read_parquet if kind is FileFormat.PARQUET else table_rows.read_arrow
            return read(path, limit, row_columns)


def sniff(path: Path, *, limit: int, row_columns: Collection[str]) -> FileFormat:
    """How the rows of this file are written down.

    Raises FileProblem for an empty file and for one that is none of the formats.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise FileProblem("is empty")
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    for start, problem in FOREIGN.items():
        if head.lstrip().lower().startswith(start.lower()):
            raise FileProblem(problem)
    hint = HINTS.get(path.suffix.lower())
    body = head.removeprefix(BOM).lstrip()
    if body.startswith(b"[") and hint is not FileFormat.JSON_LINES:
        return FileFormat.JSON
    if body[:1] in (b"{", b"["):
        return _json_kind(path, limit, hint, row_columns)
    if hint in (FileFormat.JSON_LINES, FileFormat.JSON, FileFormat.CSV):
        return hint
    if _is_csv_header(body, row_columns):
        return FileFormat.CSV
    raise FileProblem(
        "is none of parquet, arrow, jsonl, json and csv"
        + (f", although its name ends with {path.suffix}" if hint else "")
    )


def _json_kind(path: Path, limit: int, hint: FileFormat | None, row_columns: Collection[str]) -> FileFormat:
    """An array, or an object on each line; `{` starts both a row and a wrapper of rows."""
    first, more = _first_line(path, limit)
    by_hint = FileFormat.JSON_LINES if hint is FileFormat.JSON_LINES else FileFormat.JSON
    if first in (b"[", b"{"):
        return FileFormat.JSON
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        whole_line = first.startswith(b"{") and first.endswith(b"}") and more
        return FileFormat.CSV if hint is FileFormat.CSV else FileFormat.JSON_LINES if whole_line else by_hint
    if more:
        return FileFormat.JSON_LINES
    if isinstance(value, list):
        return FileFormat.JSON
    is_wrapper = any(isinstance(v, list) for v in value.values()) and not any(k in row_columns for k in value)
    return FileFormat.JSON if is_wrapper else FileFormat.JSON_LINES


def _first_line(path: Path, limit: int) -> tuple[bytes, bool]:
    """The first line that is not blank (up to `limit` bytes), and whether anything but blanks follows."""
    with path.open("rb") as file:
        first = b""
        while not first and (raw := file.readline(limit + 1)):
            first = raw.removeprefix(BOM).strip()
        return first, bool(file.read(4096).strip())


def _is_csv_header(body: bytes, row_columns: Collection[str]) -> bool:
    try:
        line = body.split(b"\n", 1)[0].decode()
    except UnicodeDecodeError:
        return False
    return any(name.strip() in row_columns for name in header_columns(line, row_columns))
