"""Tokenised, packed rows as a handful of flat arrays: small, immutable, and copied to a worker without
pickling lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Offsets = NDArray[np.int64]

IGNORED = -100
"""Label of a token that takes no part in the loss."""


class Packed(Protocol):
    """What `packing.pack` returns: rows laid end to end."""

    @property
    def input_ids(self) -> Sequence[int]:
        """Token ids."""

    @property
    def labels(self) -> Sequence[int]:
        """For each token itself or `IGNORED`; not shifted."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One example: `labels[i]` is `input_ids[i]`, or IGNORED when token i takes no part in the loss."""

    index: int
    input_ids: Ints
    labels: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class PackTable:
    """Packs of whole rows. `row_starts` and `pack_starts` have one more entry than there are rows and
    packs."""

    input_ids: Ints
    labels: Ints
    row_starts: Offsets
    """Offsets of rows in the tokens."""
    pack_starts: Offsets
    """Offsets of packs in the rows."""

    def __len__(self) -> int:
        return len(self.pack_starts) - 1

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.row_starts) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens; there is no padding."""
        return int(self.row_starts[-1])

    @property
    def targets(self) -> int:
        """Number of tokens in the loss."""
        return int((self.labels != IGNORED).sum())

    def pack(self, index: int) -> tuple[Row, ...]:
        """The rows of one pack."""
        return tuple(self.row(i) for i in range(self.pack_starts[index], self.pack_starts[index + 1]))

    def row(self, index: int) -> Row:
        """One row, by its number in the table."""
        part = slice(self.row_starts[index], self.row_starts[index + 1])
        return Row(index=index, input_ids=self.input_ids[part], labels=self.labels[part])


def build_table(packs: Iterable[Packed]) -> PackTable:
    """The table of these packs, in their order."""
    ids: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    rows: list[int] = []
    for pack in packs:
        ids.append(np.asarray(pack.input_ids, dtype=np.int32))
        labels.append(np.asarray(pack.labels, dtype=np.int32))
        lengths.extend(pack.lengths)
        rows.append(len(pack.lengths))
    empty = np.zeros(0, dtype=np.int32)
    return PackTable(
        input_ids=np.concatenate(ids) if ids else empty,
        labels=np.concatenate(labels) if labels else empty,
        row_starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        pack_starts=np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64),
    )


def shared_prefix(rows: Sequence[Row]) -> int:
    """Tokens that every row starts with and whose hidden states can be computed once.

    The token after the prefix differs between rows, so none of them may be in the loss up to and including
    it.
    """
    if len(rows) < 2:
        return 0
    limit = min(_first_target(row) for row in rows) - 1
    first = rows[0].input_ids
    for row in rows[1:]:
        limit = min(limit, len(row.input_ids) - 1)
        if limit <= 0:
            return 0
        equal = first[:limit] == row.input_ids[:limit]
        if not equal.all():
            limit = int(equal.argmin())
    return max(limit, 0)


def _first_target(row: Row) -> int:
    found = np.flatnonzero(row.labels != IGNORED)
    return int(found[0]) if len(found) else len(row.labels)
