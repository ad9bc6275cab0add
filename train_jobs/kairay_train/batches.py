"""Batches of whole rows without padding, exact to the last bit of a row trained alone (up to rounding).

Rows are laid end to end as one sequence. A prefix that all rows share (a chat template's system message)
stands there once, and every row attends to it and to itself only, at the positions it would have alone: a
causal model gives the prefix the same hidden states in each row, and gradients add up the same. Attention
runs per row, so a pack costs no more attention than its rows.

Assumes a decoder whose attention goes through transformers' attention interface and that has no other mixing
of positions; `supports` lists the architectures for which tests show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, PretrainedConfig

from kairay_train.pack_table import IGNORED, PackTable, Row, shared_prefix

ROWS_ATTENTION = "kairay_rows"
"""Name of the attention implementation, for `attn_implementation`."""

_ARCHITECTURES = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLayout:
    """Where the rows of a flat sequence of `prefix + rest` tokens are.

    gather: (rows, longest) positions of each row's own tokens in the sequence, padded with any valid
    position.
    scatter: (rest,) for each token after the prefix its place in the flattened gather.
    """

    prefix: int
    gather: Tensor
    scatter: Tensor


def supports(config: PretrainedConfig) -> bool:
    """Whether rows of this model may be laid out so (see the module's assumption)."""
    return bool(set(config.architectures or ()) & _ARCHITECTURES)


def lay_out(rows: Sequence[Row], *, share_prefix: bool = True) -> dict[str, Any]:
    """The batch of these rows: input_ids and position_ids (1, tokens), layout, and for the loss predict_at
    (targets,)

    with labels = shift_labels (1, targets): position predict_at[i] of the sequence predicts token labels[i].
    """
    prefix = shared_prefix(rows) if share_prefix else 0
    ids = [rows[0].input_ids[:prefix]]
    positions = [np.arange(prefix)]
    predict, targets, lengths = [], [], []
    start = prefix
    for row in rows:
        own = row.input_ids[prefix:]
        found = np.flatnonzero(row.labels[1:] != IGNORED)
        assert prefix == 0 or not len(found) or found[0] >= prefix
        predict.append(found + (start - prefix))
        targets.append(row.labels[1:][found])
        ids.append(own)
        positions.append(np.arange(prefix, prefix + len(own)))
        lengths.append(len(own))
        start += len(own)
    labels = torch.from_numpy(np.concatenate(targets).astype(np.int64))[None]
    return {
        "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
        "position_ids": torch.from_numpy(np.concatenate(positions).astype(np.int64))[None],
        "layout": _layout(prefix, lengths),
        "predict_at": torch.from_numpy(np.concatenate(predict).astype(np.int64)),
        "labels": labels,
        "shift_labels": labels,
        "row_indexes": [row.index for row in rows],
    }


def _layout(prefix: int, lengths: Sequence[int]) -> RowLayout:
    longest = max(lengths)
    starts = prefix + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    inside = np.arange(longest)[None] < np.asarray(lengths)[:, None]
    gather = np.where(inside, starts[:, None] + np.arange(longest)[None], 0)
    return RowLayout(
        prefix=prefix,
        gather=torch.from_numpy(gather.astype(np.int64)),
        scatter=torch.from_numpy(np.flatnonzero(inside.reshape(-1)).astype(np.int64)),
    )


class FlatCollator:
    """Numbers of packs -> one flat batch of all their rows."""

    def __init__(self, table: PackTable, *, share_prefix: bool = True) -> None:
        self._table = table
        self._share_prefix = share_prefix

    def __call__(self, packs: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """The batch of these packs' rows."""
        rows = [row for pack in packs for row in self._table.pack(pack["pack"])]
        return lay_out(rows, share_prefix=self._share_prefix)


def rows_attention(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: RowLayout | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """transformers' attention function: query (1, heads, tokens, width), key and value (1, kv heads, tokens,
    width).

    Without a layout the sequence is one row, as in plain causal attention.
    """
    assert attention_mask is None
    assert query.shape[0] == 1 or layout is None
    groups = query.shape[1] // key.shape[1]
    attend = partial(_causal, groups=groups, scaling=scaling, dropout=dropout, window=sliding_window)
    if layout is None:
        out = attend(query, key, value)
        return out.transpose(1, 2).contiguous(), None
    prefix, (count, longest) = layout.prefix, layout.gather.shape
    index = layout.gather.reshape(-1)
    # (1, heads, rows * longest, width) -> (rows, heads, longest, width)
    q, k, v = (_rows(part, index, count, longest) for part in (query, key, value))
    if prefix:
        head_k, head_v = key[:, :, :prefix], value[:, :, :prefix]
        k = torch.cat([head_k.expand(count, -1, -1, -1), k], dim=2)
        v = torch.cat([head_v.expand(count, -1, -1, -1), v], dim=2)
    out = attend(q, k, v)
    flat = out.transpose(1, 2).reshape(1, count * longest, *out.shape[1::2])[:, layout.scatter]
    if prefix:
        head = attend(query[:, :, :prefix], head_k, head_v)
        flat = torch.cat([head.transpose(1, 2), flat], dim=1)
    return flat.contiguous(), None


def _rows(part: Tensor, index: Tensor, count: int, longest: int) -> Tensor:
    picked = part[0].index_select(1, index)
    return picked.reshape(part.shape[1], count, longest, part.shape[3]).transpose(0, 1)


def _causal(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    groups: int,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Causal attention where the last query stands at the last key."""
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    queries, keys = query.shape[2], key.shape[2]
    if queries == keys and (window is None or keys <= window):
        return functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling
        )
    distance = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)[None]
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen.to(query.device), dropout_p=dropout, scale=scaling
    )


AttentionInterface.register(ROWS_ATTENTION, rows_attention)
