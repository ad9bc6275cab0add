"""Bytes of the KV cache: heads that share keys, latent attention, windows, layers with a state of fixed size, splits
over GPUs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace

from kairay.memory.shapes import AttentionKind, attention_kinds
from kairay.memory.use import Dtype
from kairay.model_facts import ModelFacts

_STATE_BYTES = 4


def kv_bytes_per_token(model: ModelFacts, dtype: Dtype) -> int:
    """KV cache of one token that every layer sees: keys and values × layers × KV heads × head dim × bytes (KAITO's
    BytesPerToken); with latent attention (rank + rotary width) × layers × bytes (DeepSeek-V2, section 2.1)."""
    return sum(kind.layers * _layer_bytes(model, kind, dtype, 1) for kind in attention_kinds(model))


def state_bytes(model: ModelFacts) -> int:
    """States of fixed size of one sequence (Mamba, linear attention), in float32 as vLLM keeps them."""
    return (model.state_elements or 0) * _STATE_BYTES


def kv_bytes(
    model: ModelFacts,
    dtype: Dtype,
    *,
    tokens: int,
    ahead: int = 0,
    kinds: Iterable[AttentionKind] | None = None,
    tensor: int = 1,
    pipeline: int = 1,
) -> int:
    """One GPU's KV cache of a sequence of `tokens`.

    A layer with a window holds min(tokens, window + ahead); `ahead` is what an engine reads at once of a long
    prompt, which it stores before it forgets. The heads are split `tensor` ways, those that are fewer held several
    times; the latent of latent attention is held whole by each GPU. A stage has ceil(layers / stages) of each kind.
    """
    total = 0
    for kind in attention_kinds(model) if kinds is None else kinds:
        held = tokens if kind.window is None else min(tokens, kind.window + ahead)
        total += -(-kind.layers // pipeline) * held * _layer_bytes(model, kind, dtype, tensor)
    return total + -(-state_bytes(model) // (tensor * pipeline))


def grouped_kinds(model: ModelFacts) -> tuple[AttentionKind, ...]:
    """The layers as vLLM stores them: groups of as many layers as the rarer kind has, so the commoner kind is filled up
    to whole groups; kinds that differ by less than half are filled up to the commoner
    (vllm.v1.core.kv_cache_utils)."""
    kinds = attention_kinds(model)
    if len(kinds) < 2:
        return kinds
    fewest, most = sorted(kind.layers for kind in kinds)
    group = most if most < 1.5 * fewest else fewest
    return tuple(replace(kind, layers=-(-kind.layers // group) * group) for kind in kinds)


def context_that_fits(
    model: ModelFacts,
    dtype: Dtype,
    *,
    available: int,
    ahead: int = 0,
    kinds: Iterable[AttentionKind] | None = None,
    tensor: int = 1,
    pipeline: int = 1,
) -> int:
    """The longest sequence, up to the model's own context, whose KV cache on one GPU is at most `available` bytes; 0
    when there is none."""
    stored = attention_kinds(model) if kinds is None else tuple(kinds)

    def need(tokens: int) -> int:
        return kv_bytes(
            model, dtype, tokens=tokens, ahead=ahead, kinds=stored, tensor=tensor, pipeline=pipeline
        )

    return bisect_right(range(1, model.context_length + 1), available, key=need)


def _layer_bytes(model: ModelFacts, kind: AttentionKind, dtype: Dtype, tensor: int) -> int:
    """One token in one layer."""
    if model.kv_lora_rank is not None:
        return (model.kv_lora_rank + (model.qk_rope_head_dim or 0)) * dtype.bytes
    return 2 * -(-kind.kv_heads // tensor) * kind.head_dim * dtype.bytes
