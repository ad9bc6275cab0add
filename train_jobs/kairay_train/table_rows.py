"""Rows of columnar files (parquet, Arrow IPC), a few at a time; `line` is the row's number from 1.

Only the columns that a layout reads are loaded. Parquet decodes a column page by page, so memory is bounded
by a batch plus the largest page; Arrow files are mapped, not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from kairay_train.rows import BrokenRow, FileProblem, RawRow, too_large

BATCH_ROWS = 256


def read_parquet(path: Path, limit: int, row_columns: Collection[str]) -> Iterator[RawRow | BrokenRow]:
    """Raises FileProblem if the file is cut off or damaged, or a group is over `limit` a row on average."""
    try:
        with pq.ParquetFile(path) as file:
            columns = _projected(file.schema_arrow.names, row_columns)
            batch_rows = _batch_rows(file.metadata, columns, limit)
            yield from _rows(file.iter_batches(batch_size=batch_rows, columns=columns), limit)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable("parquet", error) from None


def read_arrow(path: Path, limit: int, row_columns: Collection[str]) -> Iterator[RawRow | BrokenRow]:
    """Both the file and the stream form; raises FileProblem if it is cut off or damaged."""
    try:
        with pa.memory_map(str(path)) as source:
            yield from _rows(_arrow_batches(source, row_columns), limit)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable("arrow", error) from None


def _arrow_batches(source: Any, row_columns: Collection[str]) -> Iterator[Any]:
    if source.read(6) == b"ARROW1":
        file = pa.ipc.open_file(source)
        batches = (file.get_batch(i) for i in range(file.num_record_batches))
        names = file.schema.names
    else:
        source.seek(0)
        batches = pa.ipc.open_stream(source)
        names = batches.schema.names
    columns = _projected(names, row_columns)
    for batch in batches:
        chosen = batch.select(columns)
        for start in range(0, chosen.num_rows, BATCH_ROWS):
            yield chosen.slice(start, BATCH_ROWS)


def _rows(batches: Iterator[Any], limit: int) -> Iterator[RawRow | BrokenRow]:
    line = 0
    for batch in batches:
        for found in _converted(batch, limit):
            line += 1
            yield RawRow(line, found) if isinstance(found, dict) else BrokenRow(line, found)


def _converted(batch: Any, limit: int) -> Iterator[dict[str, Any] | str]:
    """Each row's fields, or what is wrong with it; row by row only if the batch as a whole is in doubt."""
    if batch.nbytes <= limit:
        with contextlib.suppress(UnicodeDecodeError):
            yield from batch.to_pylist()  # all or nothing: the list is whole before the first row is given
            return
    for i in range(batch.num_rows):
        row = batch.slice(i, 1)
        if row.nbytes > limit:
            yield too_large(limit)
            continue
        try:
            yield row.to_pylist()[0]
        except UnicodeDecodeError as error:
            yield f"holds text that is not UTF-8 (byte 0x{error.object[error.start]:02x})"


def _projected(names: list[str], row_columns: Collection[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileProblem(f"has two columns named {twice[0]!r}")
    return [name for name in names if name in row_columns] or names


def _batch_rows(metadata: Any, columns: list[str], limit: int) -> int:
    """Rows that are about `limit` bytes together, by the sizes in the footer."""
    fewest, first = BATCH_ROWS, 1
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        chunks = [group.column(c) for c in range(group.num_columns)]
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        if group.num_rows and size > limit * group.num_rows:
            raise FileProblem(too_large(limit) + " (by the sizes in the file's footer)", first)
        fewest = min(fewest, max(1, limit * group.num_rows // max(size, 1)))
        first += group.num_rows
    return fewest


def _unreadable(kind: str, error: Exception) -> FileProblem:
    why = str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__
    return FileProblem(f"cannot be read as {kind}, it may be cut off: {why}")
