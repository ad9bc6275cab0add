"""Rows put together into packs of a fixed capacity, so that little of a batch is padding.

Best fit decreasing: longest rows first, each into the pack with the least room that still takes it. Rows stay
whole and apart: positions start at 0 in each, `lengths` tells the borders to attention, and no row's first
token is foretold by the row before it. The same rows give the same packs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from kairay_train.tokens import IGNORED, EncodedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRow:
    """One pack: tokens, labels and positions row after row; `rows` are the rows' indices, ascending."""

    input_ids: list[int]
    labels: list[int]
    position_ids: list[int]
    lengths: tuple[int, ...]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.input_ids)


def pack(rows: Sequence[EncodedRow], *, capacity: int) -> list[PackedRow]:
    """Every row in exactly one pack of at most `capacity` tokens.

    Raises ValueError for a row that is longer than that.
    """
    return [_joined(rows, chosen) for chosen in best_fit([len(r) for r in rows], capacity)]


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` by pack, ascending within a pack; packs in the order in which they were begun.

    Best fit decreasing needs at most 11/9 of the fewest packs possible, and four more (Johnson, 1974).
    """
    too_long = max(lengths, default=0)
    if too_long > capacity:
        raise ValueError(f"a row of {too_long} tokens does not go into a pack of {capacity}")
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        at = bisect_left(room, (length, -1))
        if at < len(room):
            left, number = room.pop(at)
        else:
            left, number = capacity, len(packs)
            packs.append([])
        packs[number].append(index)
        if left > length:
            insort(room, (left - length, number))
    return [sorted(chosen) for chosen in packs]


def utilisation(packs: Sequence[PackedRow], *, capacity: int) -> float:
    """Share of the packs' capacity that holds tokens, 0 to 1."""
    return sum(len(p) for p in packs) / (len(packs) * capacity) if packs else 0.0


def _joined(rows: Sequence[EncodedRow], chosen: Sequence[int]) -> PackedRow:
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    for index in chosen:
        row = rows[index]
        ids += row.input_ids
        labels += [IGNORED, *row.labels[1:]]
        positions += range(len(row))
    return PackedRow(
        input_ids=ids,
        labels=labels,
        position_ids=positions,
        lengths=tuple(len(rows[i]) for i in chosen),
        rows=tuple(chosen),
    )
