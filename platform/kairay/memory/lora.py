"""What is trained: LoRA's parameters, their gradients and the optimiser's state, alone and over several workers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from kairay.memory.shapes import expert_layers, module_shapes
from kairay.memory.use import Dtype
from kairay.model_facts import ModelFacts

ZERO_BUCKET = 500_000_000
"""Numbers in it: DeepSpeed's reduce_bucket_size, which kairay_train.job.ZERO2 leaves alone."""

_MLP = frozenset({"gate_proj", "up_proj", "gate_up_proj", "down_proj"})
_WORDS = frozenset({"embed_tokens", "lm_head"})
_MASTER_BYTES = 4


class Optimizer(StrEnum):
    """Optimisers, by transformers' names (TrainingArguments.optim)."""

    ADAMW = "adamw_torch"
    ADAMW_8BIT = "adamw_8bit"
    PAGED_ADAMW = "paged_adamw_32bit"
    PAGED_ADAMW_8BIT = "paged_adamw_8bit"
    SGD = "sgd"
    """Without momentum, as transformers makes it."""


def lora_parameters(model: ModelFacts, *, modules: Iterable[str], rank: int, layers: int | None) -> int:
    """LoRA's parameters: rank × (inputs + outputs) of each target module, in the last `layers` layers (None:
    all).

    Two matrices per module, rank × in and out × rank (LoRA, Hu et al. 2021, section 4.1). A layer of experts has no
    linear MLP for LoRA to go to.
    """
    shapes, count = module_shapes(model), min(layers or model.layers, model.layers)
    dense = min(count, model.layers - expert_layers(model))
    return sum(
        rank * sum(shapes[module]) * (dense if module in _MLP else count)
        for module in sorted(set(modules))
        if module in shapes
    )


def saved_parameters(model: ModelFacts, modules: Iterable[str]) -> int:
    """Whole matrices that are trained beside LoRA (peft's `modules_to_save`, which copies them): vocabulary × width of
    the embeddings and of the output head, inputs × outputs of a linear module in each layer; others are small."""
    shapes = module_shapes(model)
    words = (model.vocab_size or 0) * model.hidden_size
    return sum(
        words if module in _WORDS else model.layers * shapes[module][0] * shapes[module][1]
        for module in sorted(set(modules))
        if module in _WORDS or module in shapes
    )


def adapter_dtype(*, quantised: bool, on_gpu: bool) -> Dtype:
    """LoRA's own number format: float32, but bfloat16 for QLoRA on a GPU, where TRL makes it so."""
    return Dtype.BFLOAT16 if quantised and on_gpu else Dtype.FLOAT32


def adapter_bytes(lora: int, *, dtype: Dtype = Dtype.FLOAT32, workers: int = 1, zero: bool = False) -> int:
    """LoRA's parameters and their gradients: 4 + 4 B each in float32."""
    return lora * dtype.bytes + gradient_bytes(lora, dtype=dtype, workers=workers, zero=zero)


def gradient_bytes(lora: int, *, dtype: Dtype = Dtype.FLOAT32, workers: int = 1, zero: bool = False) -> int:
    """Gradients of one worker: one number for each parameter; with several workers twice, as
    DistributedDataParallel gathers them in buckets, or with ZeRO-2 and -3 a part of them."""
    own = lora * dtype.bytes
    if workers == 1:
        return own
    return -(-own // workers) if zero else 2 * own


def zero_bucket_bytes(dtype: Dtype) -> int:
    """DeepSpeed's buffer of gradients on their way: it is made whole, however few gradients there are."""
    return ZERO_BUCKET * dtype.bytes


def optimizer_bytes(
    lora: int,
    *,
    dtype: Dtype = Dtype.FLOAT32,
    optimizer: Optimizer = Optimizer.ADAMW,
    workers: int = 1,
    zero: bool = False,
) -> int:
    """AdamW's two moments on the device; SGD keeps nothing.

    torch keeps them in the parameters' format (8 B in float32). bitsandbytes in 8 bits, with one constant of 32 bits
    per block of 256 (Dettmers et al. 2021, section 2.1); paged ones give way to the host's memory, so nothing of them
    has to fit (QLoRA, section 3). ZeRO splits the moments over the workers and keeps them, and a copy of the
    parameters, in float32 (Rajbhandari et al. 2020, section 3.1).
    """
    if workers > 1 and zero:
        return -(-lora * (_MASTER_BYTES + 2 * _MASTER_BYTES) // workers)
    match optimizer:
        case Optimizer.ADAMW:
            return lora * 2 * dtype.bytes
        case Optimizer.ADAMW_8BIT:
            return int(lora * 2 * (1 + 4 / 256))
        case Optimizer.PAGED_ADAMW | Optimizer.PAGED_ADAMW_8BIT | Optimizer.SGD:
            return 0
