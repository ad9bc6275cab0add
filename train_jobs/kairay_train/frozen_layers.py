"""The layers below the first LoRA layer give the same hidden states in every epoch: compute them once per
row.

Exact: those layers are frozen and have no dropout (checked), so a row's hidden states depend on the row
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kairay_train.batches import RowLayout, lay_out
from kairay_train.pack_table import PackTable

CACHE_LIMIT = 512 * 2**20
"""Bytes of hidden states that are kept."""


def can_cache(model: PreTrainedModel, first_layer: int, tokens: int) -> bool:
    """Whether hidden states of this many tokens at the first tuned layer may be, and are worth being,
    kept."""
    if first_layer == 0:
        return False
    config = model.config.get_text_config()
    dropouts = [value for name, value in config.to_dict().items() if name.endswith(("dropout", "pdrop"))]
    size = tokens * config.hidden_size * model.dtype.itemsize
    return size <= CACHE_LIMIT and not any(dropouts)


class _Skipped(nn.Module):
    """Stands in for a layer whose work is already in its input."""

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states


class _Reached(Exception):  # noqa: N818  # control flow: the hidden states wanted are there
    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class FrozenLayers:
    """Hidden states at layer `first_layer` by row; takes the layers below it out of the model."""

    def __init__(self, model: PreTrainedModel, first_layer: int, table: PackTable) -> None:
        self._model = model
        self._table = table
        self._layers: nn.ModuleList = model.get_decoder().layers
        self._lower = [self._layers[i] for i in range(first_layer)]
        self._first = first_layer
        self._hidden: dict[int, Tensor] = {}
        for i in range(first_layer):
            self._layers[i] = _Skipped()

    def embed(self, row_indexes: Sequence[int], layout: RowLayout) -> Tensor:
        """Hidden states (1, tokens, width) at the first tuned layer for a batch of these rows, in its
        layout."""
        missing = [index for index in row_indexes if index not in self._hidden]
        if missing:
            self._compute(missing)
        head = self._hidden[row_indexes[0]][: layout.prefix]
        return torch.cat([head, *(self._hidden[index][layout.prefix :] for index in row_indexes)])[None]

    def _compute(self, indexes: Sequence[int]) -> None:
        batch = lay_out([self._table.row(index) for index in indexes])
        hidden = self._run_lower(batch)[0]
        prefix = batch["layout"].prefix
        start = prefix
        for index in indexes:
            own = len(self._table.row(index).input_ids) - prefix
            self._hidden[index] = torch.cat([hidden[:prefix], hidden[start : start + own]])
            start += own

    def _run_lower(self, batch: dict[str, Any]) -> Tensor:
        def stop(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            raise _Reached(args[0] if args else kwargs["hidden_states"])

        hook = self._layers[self._first].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with torch.no_grad(), self._restored():
                self._model.get_decoder()(
                    input_ids=batch["input_ids"],
                    position_ids=batch["position_ids"],
                    layout=batch["layout"],
                    use_cache=False,
                )
        except _Reached as reached:
            return reached.hidden
        finally:
            hook.remove()
        raise AssertionError("the first tuned layer was not run")

    @contextmanager
    def _restored(self) -> Iterator[None]:
        for i, layer in enumerate(self._lower):
            self._layers[i] = layer
        try:
            yield
        finally:
            for i in range(self._first):
                self._layers[i] = _Skipped()
