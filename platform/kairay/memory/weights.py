"""Bytes of a model's weights: as published, in another number format, in NF4, and split over GPUs."""

from __future__ import annotations

from kairay.memory.shapes import (
    embedding_parameters,
    expert_parameters,
    linear_parameters,
    module_shapes,
    parameter_count,
)
from kairay.memory.use import GIB, Dtype
from kairay.model_facts import ModelFacts, Quantisation

WEIGHT_EXPANSION = 1.02
"""Loaded weights against their files (KAITO's estimator): rounding to the allocator's blocks, small buffers."""
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""NF4 with double quantisation: 4 bits, one constant of 8 bits per block of 64, and one of 32 bits per 256 of those:
0.127 bits a parameter (QLoRA, Dettmers et al. 2023, section 3)."""
NF4_PLAIN_BITS = 4 + 32 / 64
"""NF4 with its constants as they are: 32 bits per block of 64."""
INT8_BITS = 8 + 32 / 512
"""LLM.int8() with a constant of 32 bits for each row, of 512 numbers at least (Dettmers et al. 2022, section 2.1)."""

_DEQUANTISED_LIMIT = 2 * GIB
_FROZEN_LIMIT = GIB // 2


def weight_bytes(model: ModelFacts, dtype: Dtype) -> int:
    """Loaded weights × 1.02 (KAITO's estimator): plain ones in `dtype`, quantised ones as they are published, which
    engines keep as they are."""
    if model.quantisation is Quantisation.NONE:
        return int(parameter_count(model) * dtype.bytes * WEIGHT_EXPANSION)
    return int(model.weight_bytes * WEIGHT_EXPANSION)


def split_weight_bytes(model: ModelFacts, dtype: Dtype, *, tensor: int, pipeline: int) -> int:
    """One GPU's part: the widest stage holds ceil(layers / stages) layers, and each layer is split `tensor` ways."""
    stage = -(-model.layers // pipeline)
    return -(-weight_bytes(model, dtype) * stage // (model.layers * tensor))


def quantised_weight_bytes(model: ModelFacts, dtype: Dtype, *, bits: float = NF4_BITS) -> int:
    """Base weights with their linear layers in `bits` bits a parameter (NF4 with double quantisation) and the rest in
    the compute dtype.

    bitsandbytes leaves embeddings, the output head, norms and experts (tensors of three dimensions) alone. Weights
    that are published quantised stay as they are.
    """
    if model.quantisation is not Quantisation.NONE:
        return weight_bytes(model, dtype)
    total = parameter_count(model)
    linear = linear_parameters(model)
    if linear is None:
        linear = max(0, total - embedding_parameters(model) - expert_parameters(model))
    linear = min(linear, total)
    return int(linear * bits / 8) + (total - linear) * dtype.bytes


def dequantised_weight_bytes(
    model: ModelFacts, dtype: Dtype, *, layers: int | None, bits: float = NF4_BITS
) -> int:
    """Base weights of QLoRA on a processor, where the NF4 matrices of the `layers` last layers (None: all) are turned
    back into numbers for speed, if that takes at most 2 GiB (kairay_train.model.dequantise); those in 8 bits never."""
    packed = quantised_weight_bytes(model, dtype, bits=bits)
    share = min(layers or model.layers, model.layers) / model.layers
    linear = int((linear_parameters(model) or 0) * share)
    if linear * dtype.bytes > _DEQUANTISED_LIMIT or bits == INT8_BITS:
        return packed
    return packed + linear * dtype.bytes - int(linear * bits / 8)


def frozen_hidden_bytes(
    model: ModelFacts, dtype: Dtype, *, layers: int | None, data_tokens: int | None
) -> int:
    """Hidden states that a processor keeps below the first tuned layer: tokens of the data × width, at most 512 MiB
    (kairay_train.frozen_layers); None: data of unknown size, so the most. None are kept when all layers are tuned."""
    if layers is None or layers >= model.layers:
        return 0
    if data_tokens is None:
        return _FROZEN_LIMIT
    size = data_tokens * model.hidden_size * dtype.bytes
    return size if size <= _FROZEN_LIMIT else 0


def zero3_weight_bytes(model: ModelFacts, weights: int, dtype: Dtype, *, workers: int) -> int:
    """ZeRO-3: the weights split over the workers, and two layers gathered whole: the one that computes and the one
    that is fetched ahead (Rajbhandari et al. 2020, section 5.3)."""
    layer = sum(wide * high for wide, high in module_shapes(model).values()) * dtype.bytes
    return weights if workers == 1 else -(-weights // workers) + 2 * layer
