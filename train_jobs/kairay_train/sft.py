"""TRL's trainer as this package uses it: two losses and what feeds them.

`RowsTrainer` is for flat batches of rows (see `batches`): where there is no Triton, TRL scores every position against
the vocabulary; ours scores the targets only, and skips layers whose work is done (`frozen_layers`). `PlainTrainer` is
TRL's own path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from kairay_train.frozen_layers import FrozenLayers
from kairay_train.pack_table import PackTable


class RowsTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """SFTTrainer for flat batches of rows: scores the targets only, and skips layers whose work is done."""

    frozen: FrozenLayers | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Mean negative log-likelihood over the targets of the whole optimiser step."""
        assert not return_outputs
        inputs = dict(inputs)
        targets = inputs.pop("shift_labels")[0]
        del inputs["labels"]
        rows, predict_at = inputs.pop("row_indexes"), inputs.pop("predict_at")
        if self.frozen is not None:
            inputs["inputs_embeds"] = self.frozen.embed(rows, inputs["layout"])
            del inputs["input_ids"]
        logits = model(**inputs, logits_to_keep=predict_at, use_cache=False).logits[0]
        count = torch.as_tensor(len(targets) if num_items_in_batch is None else num_items_in_batch)
        loss = functional.cross_entropy(logits.float(), targets, reduction="sum") / count.clamp(min=1)
        # Trainer's count is over all workers, and their gradients are averaged.
        return loss * self.accelerator.num_processes if num_items_in_batch is not None else loss

    def create_model_card(self, *_: object, **__: object) -> None:
        """No README beside a checkpoint."""


class PlainTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's own loss."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """No README beside a checkpoint."""


class TrlCollator:
    """Numbers of packs -> TRL's batch, padded or flat with positions that start again at each row."""

    def __init__(self, table: PackTable, pad: int, *, flat: bool) -> None:
        self._table = table
        self._collate = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=flat)

    def __call__(self, packs: Sequence[Mapping[str, int]]) -> Any:
        """The batch of these packs' rows."""
        rows = [row for pack in packs for row in self._table.pack(pack["pack"])]
        return self._collate(
            [{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in rows]
        )
