"""Packed rows as flat arrays, and the prefix that rows share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from kairay_train.pack_table import IGNORED, Row, build_table, shared_prefix


@dataclass
class Pack:
    input_ids: list[int]
    labels: list[int]
    lengths: tuple[int, ...]


def row(ids: list[int], prompt: int) -> Row:
    labels = [IGNORED] * prompt + ids[prompt:]
    return Row(index=0, input_ids=np.array(ids, dtype=np.int32), labels=np.array(labels, dtype=np.int32))


def test_a_table_gives_back_the_packs_it_was_built_from() -> None:
    table = build_table([Pack([1, 2, 3, 4, 5], [-100, 2, -100, 4, 5], (2, 3)), Pack([6, 7], [-100, 7], (2,))])
    assert (len(table), table.rows, table.tokens, table.targets) == (2, 3, 7, 4)
    first, second = table.pack(0)
    assert second.input_ids.tolist() == [3, 4, 5]
    assert (first.index, second.index, table.pack(1)[0].index) == (0, 1, 2)


def test_a_table_of_nothing_is_empty() -> None:
    table = build_table([])
    assert (len(table), table.rows, table.tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("rows", "prefix"),
    [
        ([row([9, 9, 1, 2], 3), row([9, 9, 3, 4], 3)], 2),
        ([row([9, 9, 1, 2], 3)], 0),
        ([row([9, 1, 2], 2), row([8, 1, 2], 2)], 0),
        # The token after the prefix would be predicted from it, so it must not be in the loss.
        ([row([9, 9, 1, 2], 2), row([9, 9, 3, 4], 2)], 1),
        # Text rows learn everything: nothing to share.
        ([row([9, 9, 1], 1), row([9, 9, 2], 1)], 0),
        # A row may not vanish into the prefix.
        ([row([9, 9, 9], 3), row([9, 9, 9, 1, 2], 4)], 2),
    ],
)
def test_the_shared_prefix_ends_before_anything_that_is_learnt(rows: list[Row], prefix: int) -> None:
    assert shared_prefix(rows) == prefix
