"""How many tokens there are in training data, without its model's tokeniser: characters ÷ 4, or bytes ÷ 4.

Of JSON and CSV the characters of all texts count, not the names of fields. Parquet and arrow files are read where
pyarrow is installed, and else counted by their bytes, which are compressed. Whether rows can be learnt from is not
looked at: that is `kairay data check`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kairay.data_files import files_of
from kairay.errors import DataError, InputError
from kairay.plan_job import BYTES_PER_TOKEN

_LONGEST_CELL = 2**31 - 1
"""Characters; a document in one cell is no mistake."""


def count_tokens(paths: Sequence[Path]) -> tuple[int, str]:
    """Tokens of these files (and of the data files in these folders), and in words how they were counted.

    InputError for a path that is not there, DataError for a folder without data and for a file that has no text, or is
    not what its name says.
    """
    size, bases = 0, set()
    for path in _files(paths):
        counted, basis = _count(path)
        if not counted:
            raise DataError(
                f"{path}: has no rows with text in them; `kairay data check` says what is read of it"
            )
        size += counted
        bases.add(basis)
    return size // BYTES_PER_TOKEN, f"{' and '.join(sorted(bases))} ÷ {BYTES_PER_TOKEN}"


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder; give the training data")
        yield from files_of(path)


def _count(path: Path) -> tuple[int, str]:
    read = _READERS.get(path.suffix.casefold())
    if read is None:
        return path.stat().st_size, "bytes"
    try:
        size = read(path)
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); `kairay data check` names the row") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return (path.stat().st_size, "bytes") if size is None else (size, "characters")


def _json_lines(path: Path) -> int:
    with path.open(encoding="utf-8-sig") as lines:
        return sum(_characters(json.loads(line)) for line in lines if line.strip())


def _json(path: Path) -> int:
    return _characters(json.loads(path.read_text("utf-8-sig")))


def _csv(path: Path) -> int:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines)
        next(rows, None)
        return sum(len(cell) for row in rows for cell in row)


def _columns(path: Path) -> int | None:
    try:
        import pyarrow
        from pyarrow import feather, parquet
    except ModuleNotFoundError:
        return None
    try:
        table = parquet.read_table(path) if path.suffix.casefold() == ".parquet" else feather.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(error) from error
    return sum(_characters(batch.to_pylist()) for batch in table.to_batches(max_chunksize=1024))


def _characters(value: Any) -> int:
    """Of all texts in a JSON value."""
    match value:
        case str():
            return len(value)
        case list():
            return sum(_characters(each) for each in value)
        case dict():
            return sum(_characters(each) for each in value.values())
        case _:
            return 0


_READERS: dict[str, Callable[[Path], int | None]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _columns,
    ".arrow": _columns,
}
