"""Draws the next token of every request in a continuous batch, each by its own settings.

Transformers' continuous batching has one way of drawing per batch (all greedy or all sampled) and sorts the
whole vocabulary for top-k. Here the batch stays greedy (argmax) and rows that sample get Gumbel noise first:
the argmax of `logits / T + Gumbel` is an exact draw from softmax(logits / T) (Gumbel 1954; Maddison et al.
2014). Greedy rows pay nothing and equal plain `generate`; a seed gives the same answer in any company.

Assumes synchronous batching without CUDA graphs: the rows prepared are the rows computed next.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)

from kairay_serve.sampling import Sampling


class RowSampler(ContinuousBatchingLogitsProcessor):
    """A logits processor for requests that carry `sampling=Sampling(...)`."""

    supported_kwargs = {"sampling": Sampling}  # noqa: RUF012  # the base class reads it so
    ignored_kwargs = ()

    def __init__(self) -> None:
        self._rows: list[Any] = []

    def as_list(self) -> ContinuousBatchingLogitsProcessorList:
        """The list that a continuous batching manager takes."""
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self]))
        processors.tensors_required = 1
        return processors

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing travels by tensor."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Remember which request each row of the next scores belongs to."""
        self._rows = [request.state for request in requests_with_new_token]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: Any, tensor_arg: torch.Tensor) -> Any:
        """Scores of shape [requests, vocabulary] whose argmax is each request's next token."""
        for row, state in enumerate(self._rows):
            sampling: Sampling | None = state.logit_processor_kwargs.get("sampling")
            if sampling is None:
                continue
            so_far = state.initial_tokens + state.generated_tokens
            if sampling.repetition_penalty != 1.0:
                seen = torch.tensor(so_far, device=scores.device)
                scores[row] = penalised(scores[row], seen, sampling.repetition_penalty)
            if sampling.temperature > 0:
                generator = _generator(sampling.seed, len(so_far), scores.device)
                scores[row] = drawn(scores[row], sampling, generator)
        return scores


def penalised(scores: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """CTRL's repetition penalty (Keskar et al. 2019) on one row: tokens in `seen` become less likely."""
    seen = torch.unique(seen)
    values = scores[seen]
    return scores.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))


def drawn(scores: torch.Tensor, sampling: Sampling, generator: torch.Generator | None) -> torch.Tensor:
    """One row whose argmax is a draw from softmax(scores / temperature), within top-k and top-p."""
    scores = scores / sampling.temperature
    if 0 < sampling.top_k < scores.numel():
        kept = torch.topk(scores, sampling.top_k)
        scores = torch.full_like(scores, -torch.inf).index_copy(0, kept.indices, kept.values)
    if sampling.top_p < 1:
        ordered, order = scores.sort(descending=True)
        before = ordered.softmax(0).cumsum(0).roll(1)
        before[0] = 0  # the likeliest token always stays
        scores = scores.index_fill(0, order[before >= sampling.top_p], -torch.inf)
    noise = torch.empty_like(scores).exponential_(generator=generator)
    return scores - noise.log()


def _generator(seed: int | None, position: int, device: torch.device) -> torch.Generator | None:
    """Randomness that depends on the seed and the position alone, so nothing has to be kept between steps."""
    if seed is None:
        return None
    return torch.Generator(device).manual_seed((seed * 1_000_003 + position) % 2**63)
