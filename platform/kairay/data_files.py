"""Which files of a folder are training data: one rule for the job that reads them and for who looks before."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kairay.errors import DataError

ENDINGS: Final = (".arrow", ".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
"""Of the files that are taken from a folder; a file that is named itself may end as it likes."""


def find_files(folder: Path) -> list[Path]:
    """The data files right in a folder (a mounted volume), by ending, sorted; hidden ones are left out.

    Raises DataError if there are none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and p.is_file())
    found = [p for p in found if not p.name.startswith(".")]
    if not found:
        raise DataError(f"{folder}: holds no data file; put one there that ends with {', '.join(ENDINGS)}")
    return found


def files_of(path: Path) -> list[Path]:
    """A folder's data files; a file, or what is not there, as it is."""
    return find_files(path) if path.is_dir() else [path]
