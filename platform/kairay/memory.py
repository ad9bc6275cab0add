"""Bytes that a model needs on one device, to serve and to tune: each term a function with its formula and
source.

Sizes are of one GPU (or of the machine, on a processor) in bytes. An estimate errs upwards, grows with
tokens, rank and layers, and leaves out what rests on a fact that the preset does not know; `missing_facts`
names those.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from kairay.presets import ModelFacts

GIB = 2**30
UTILISATION = 0.84
"""Part of an advertised GPU memory that a plan may use (KAITO's gpu-memory-utilization): a driver reports
14.6 of a T4's 16 and 22.1 of an A10's 24, and allocators fragment."""
CPU_UTILISATION = 0.85
"""Part of a machine's memory that a plan may use; the rest is the system's and other programs'."""
WEIGHT_EXPANSION = 1.02
"""Loaded weights against their files (KAITO's estimator)."""
SERVING_OVERHEAD = int(2.3 * GIB)
"""CUDA context, graphs and the engine's own buffers (KAITO's baseOverhead)."""
ACTIVATION_SHARE = 0.05
"""Activations of serving, as a part of the weights (KAITO's overheadWeightFactor)."""
TUNING_OVERHEAD = int(1.5 * GIB)
"""CUDA context, cuBLAS and bitsandbytes workspaces."""
FRAGMENTATION = 0.1
"""Allocator loss, as a part of the tensors that come and go with each micro-batch."""
CPU_PROCESS = int(1.5 * GIB)
"""One process that has imported torch and transformers, with its allocator's slack (2.6 GB measured at peak
for QLoRA of a 135M model, of which 1.0 to 1.2 GB are counted by the other terms)."""
CPU_RAY = int(2.5 * GIB)
"""Ray's head (1.9 GB measured) and Serve's controller and proxy, beside the process that computes."""

_ADAPTER_BYTES = 4 + 4
_ADAM_BYTES = 8
_LOGIT_BYTES = 4 + 4


class Dtype(StrEnum):
    """Number formats that we compute in, by torch's names."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def bytes(self) -> int:
        """Bytes of one number."""
        return 4 if self is Dtype.FLOAT32 else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """How one device's memory is used, in bytes."""

    capacity: int
    """All of the device."""
    limit: int
    """What a plan may use of it."""
    weights: int
    kv_cache: int = 0
    activations: int = 0
    logits: int = 0
    adapter: int = 0
    """LoRA parameters and their gradients."""
    optimizer: int = 0
    overhead: int = 0

    @property
    def total(self) -> int:
        """Everything that is needed."""
        parts = (self.weights, self.kv_cache, self.activations, self.logits, self.adapter, self.optimizer)
        return sum(parts) + self.overhead

    @property
    def headroom(self) -> int:
        """What is left of the device; below zero when it does not hold the work at all."""
        return self.capacity - self.total

    @property
    def headroom_percent(self) -> int:
        """Head-room as a part of the device."""
        return round(100 * self.headroom / self.capacity) if self.capacity else -100

    @property
    def fits(self) -> bool:
        """The work stays within the limit."""
        return self.total <= self.limit


def missing_facts(model: ModelFacts) -> tuple[str, ...]:
    """Shape facts that an estimate of this model has to leave out, in words."""
    facts = (("its vocabulary size", model.vocab_size), ("its intermediate size", model.intermediate_size))
    return tuple(words for words, value in facts if value is None)


def parameter_count(model: ModelFacts) -> int:
    """Parameters, from the size of the published weights."""
    return model.weight_bytes // Dtype(model.dtype).bytes


def weight_bytes(model: ModelFacts, dtype: Dtype) -> int:
    """Loaded weights: parameters × bytes of the dtype × 1.02 (KAITO's estimator)."""
    return int(parameter_count(model) * dtype.bytes * WEIGHT_EXPANSION)


def kv_bytes_per_token(model: ModelFacts, dtype: Dtype) -> int:
    """KV cache of one token: keys and values × layers × KV heads × head dim × bytes (KAITO's
    BytesPerToken)."""
    return 2 * model.layers * model.kv_heads * model.head_dim * dtype.bytes


def serving_activation_bytes(weights: int) -> int:
    """Activations of a serving engine: 5 % of the weights on the device (KAITO's overheadWeightFactor)."""
    return int(ACTIVATION_SHARE * weights)


def embedding_parameters(model: ModelFacts) -> int:
    """Input and output embeddings: vocabulary × width, twice unless tied; 0 when the vocabulary is not
    known."""
    return (model.vocab_size or 0) * model.hidden_size * (1 if model.tied_embeddings else 2)


def quantised_weight_bytes(model: ModelFacts, dtype: Dtype) -> int:
    """Base weights in NF4 with double quantisation; embeddings stay in the compute dtype.

    Linear layers take 4 bits and their constants: one of 8 bits per block of 64, and one of 32 bits per 256
    of those, 0.127 bits a parameter (QLoRA, Dettmers et al. 2023, section 3). bitsandbytes leaves embeddings
    and the output head alone.
    """
    embeddings = min(embedding_parameters(model), parameter_count(model))
    linear = parameter_count(model) - embeddings
    return int(linear * (4 + 8 / 64 + 32 / (64 * 256)) / 8) + embeddings * dtype.bytes


def lora_parameters(model: ModelFacts, *, modules: Iterable[str], rank: int, layers: int | None) -> int:
    """LoRA's parameters: rank × (inputs + outputs) of each target module, in the last `layers` layers (None:
    all).

    Two matrices per module, rank × in and out × rank (LoRA, Hu et al. 2021, section 4.1).
    """
    shapes = _module_shapes(model)
    per_layer = sum(rank * sum(shapes[module]) for module in sorted(set(modules)) if module in shapes)
    return per_layer * min(layers or model.layers, model.layers)


def adapter_bytes(lora: int) -> int:
    """LoRA's parameters and their gradients, both in float32: 4 + 4 B each."""
    return lora * _ADAPTER_BYTES


def optimizer_bytes(lora: int) -> int:
    """AdamW's two moments in float32: 8 B for each trained parameter."""
    return lora * _ADAM_BYTES


def tuning_activation_bytes(model: ModelFacts, dtype: Dtype, *, tokens: int, checkpointing: bool) -> int:
    """What a forward pass keeps for the backward pass of a micro-batch of `tokens`.

    With checkpointing: every layer's input (layers × width) and the inner tensors of the one layer that is
    computed again; without: the inner tensors of every layer (Korthikanti et al. 2022, "Reducing Activation
    Recomputation", sections 4 and 5, counted here for a gated MLP and fused attention, which keeps no
    sequence² term).
    """
    layer = _layer_elements(model)
    kept = model.layers * model.hidden_size + layer if checkpointing else model.layers * layer
    return kept * tokens * dtype.bytes


def logits_bytes(model: ModelFacts, *, tokens: int) -> int:
    """The logits in float32 and their gradient: vocabulary × tokens × 4 B, twice."""
    return (model.vocab_size or 0) * tokens * _LOGIT_BYTES


def dequantised_bytes(model: ModelFacts, dtype: Dtype) -> int:
    """The largest 4-bit matrix, expanded to the compute dtype while it is multiplied (bitsandbytes' 4-bit
    matmul)."""
    return max(wide * high for wide, high in _module_shapes(model).values()) * dtype.bytes


def _module_shapes(model: ModelFacts) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear modules of one layer, under the names that transformers gives them."""
    width, query, key = model.hidden_size, model.heads * model.head_dim, model.kv_heads * model.head_dim
    shapes = {
        "q_proj": (width, query),
        "k_proj": (width, key),
        "v_proj": (width, key),
        "qkv_proj": (width, query + 2 * key),
        "o_proj": (query, width),
    }
    if (inner := model.intermediate_size) is not None:
        shapes |= {"gate_proj": (width, inner), "up_proj": (width, inner), "gate_up_proj": (width, 2 * inner)}
        shapes["down_proj"] = (inner, width)
    return shapes


def _layer_elements(model: ModelFacts) -> int:
    """Elements that one layer keeps per token.

    Width: two residual inputs, two norms in and out, the attention's output and the MLP's (8 in all,
    generously); queries and attention output; keys and values; gate, up, activation and product of the MLP.
    """
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    return 8 * model.hidden_size + 2 * query + 2 * key + 4 * (model.intermediate_size or 0)
