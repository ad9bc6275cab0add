"""Packs hold every row once and whole, and little air."""

from __future__ import annotations

import random

import pytest

from kairay_train.packing import best_fit, pack, utilisation
from kairay_train.tokens import IGNORED, EncodedRow


def row(length: int, first: int = 0) -> EncodedRow:
    ids = list(range(first, first + length))
    return EncodedRow(input_ids=ids, labels=list(ids))


def rows_of(seed: int) -> tuple[list[EncodedRow], int]:
    """Rows with tokens that occur nowhere else, and a capacity."""
    dice = random.Random(seed)
    capacity = dice.randint(8, 200)
    lengths = [dice.randint(1, capacity) for _ in range(dice.randint(1, 120))]
    return [row(n, 1000 * i) for i, n in enumerate(lengths)], capacity


@pytest.mark.parametrize("seed", range(50))
def test_every_row_is_in_exactly_one_pack_whole(seed: int) -> None:
    rows, capacity = rows_of(seed)
    packs = pack(rows, capacity=capacity)
    assert sorted(i for p in packs for i in p.rows) == list(range(len(rows)))
    for one in packs:
        assert one.input_ids == [t for i in one.rows for t in rows[i].input_ids]
        assert one.lengths == tuple(len(rows[i]) for i in one.rows)


@pytest.mark.parametrize("seed", range(50))
def test_no_pack_is_over_its_capacity_and_at_most_one_is_half_empty(seed: int) -> None:
    rows, capacity = rows_of(seed)
    packs = pack(rows, capacity=capacity)
    assert max(len(p) for p in packs) <= capacity
    assert sum(len(p) <= capacity // 2 for p in packs) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_positions_restart_and_no_row_foretells_the_next(seed: int) -> None:
    rows, capacity = rows_of(seed)
    for one in pack(rows, capacity=capacity):
        assert one.position_ids == [p for n in one.lengths for p in range(n)]
        starts = [i for i, position in enumerate(one.position_ids) if position == 0]
        assert len(starts) == len(one.rows)
        assert all(one.labels[i] == IGNORED for i in starts)
        rest = [i for i in range(len(one)) if i not in starts]
        assert all(one.labels[i] == one.input_ids[i] for i in rest)


def test_the_same_rows_give_the_same_packs() -> None:
    rows, capacity = rows_of(7)
    assert pack(rows, capacity=capacity) == pack(list(rows), capacity=capacity)


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_the_rows_does_not_change_how_well_they_fit(seed: int) -> None:
    rows, capacity = rows_of(seed)
    shuffled = random.Random(seed).sample(rows, len(rows))
    lengths = [sorted(p.lengths) for p in pack(rows, capacity=capacity)]
    assert sorted(lengths) == sorted(sorted(p.lengths) for p in pack(shuffled, capacity=capacity))


@pytest.mark.parametrize(
    ("lengths", "capacity", "packs"),
    [
        ([], 10, []),
        ([10], 10, [[0]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([3, 7, 4, 6], 10, [[0, 1], [2, 3]]),
        ([6, 5, 4, 3, 2], 10, [[0, 2], [1, 3, 4]]),
        ([1, 1, 8, 8], 9, [[0, 2], [1, 3]]),
    ],
)
def test_each_row_goes_where_it_leaves_least_room(
    lengths: list[int], capacity: int, packs: list[list[int]]
) -> None:
    assert best_fit(lengths, capacity) == packs


def test_a_row_longer_than_a_pack_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 11 tokens does not go into a pack of 10"):
        pack([row(3), row(11)], capacity=10)


def test_utilisation_is_the_share_of_tokens() -> None:
    packs = pack([row(10), row(5)], capacity=10)
    assert utilisation(packs, capacity=10) == 0.75
    assert utilisation([], capacity=10) == 0.0


def test_short_chats_pack_well() -> None:
    dice = random.Random(1)
    packs = pack([row(dice.randint(20, 90)) for _ in range(500)], capacity=512)
    assert utilisation(packs, capacity=512) > 0.98
