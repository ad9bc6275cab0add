"""What every reader gives: rows with their line, broken rows, or one problem that ends the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROW_LIMIT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the file has it: column to value."""

    line: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that could not be read, and why; the rows after it can."""

    line: int
    problem: str


class FileProblem(Exception):  # noqa: N818 - carries a sentence about a file, is mapped to DataError
    """The file, or the rest of it, cannot be read; `line` is where, if that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def too_large(limit: int) -> str:
    """The sentence about a row over `limit` bytes."""
    return f"is larger than {limit / 2**20:g} MiB, the most one row may have"


def not_utf8(error: UnicodeDecodeError, *, before: int) -> str:
    """The sentence about a byte that is no UTF-8; `before` is the file offset of what was decoded."""
    byte = error.object[error.start]
    return (
        f"is not UTF-8: byte 0x{byte:02x} at byte {before + error.start} of the file; save the file as UTF-8"
    )
