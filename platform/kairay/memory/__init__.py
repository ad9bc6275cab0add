"""Bytes that a model needs on one device, to serve and to tune: each term a function with its formula and
source.

Sizes are of one GPU (or of the machine, on a processor) in bytes. An estimate errs upwards, grows with
tokens, rank and layers, and leaves out what rests on a fact that the preset does not know; `missing_facts`
names those. Measured against real runs by tests/bench/bench_memory.py; what holds and what does not stands in
docs/design/2026-11-25-memory.md.
"""

from kairay.memory.kv_cache import (
    context_that_fits,
    grouped_kinds,
    kv_bytes,
    kv_bytes_per_token,
    state_bytes,
)
from kairay.memory.lora import (
    Optimizer,
    adapter_bytes,
    adapter_dtype,
    gradient_bytes,
    lora_parameters,
    optimizer_bytes,
    zero_bucket_bytes,
)
from kairay.memory.serving import (
    COLLECTIVES,
    EngineMemory,
    gathered_bytes_per_token,
    lora_slot_bytes,
    merged_adapter_bytes,
    transformers_memory,
    vllm_batch_tokens,
    vllm_memory,
)
from kairay.memory.shapes import (
    AttentionKind,
    attention_kinds,
    embedding_parameters,
    expert_layers,
    expert_parameters,
    linear_parameters,
    missing_facts,
    module_shapes,
    parameter_count,
    shape_parameters,
)
from kairay.memory.tuning import (
    ROWS_ARCHITECTURES,
    TuningWork,
    backward_bytes,
    dequantised_bytes,
    kept_bytes,
    layer_bytes,
    logits_bytes,
    peak_parts,
)
from kairay.memory.use import (
    CPU_PROCESS,
    CPU_RAY,
    CPU_UTILISATION,
    CUDA_CONTEXT,
    FRAGMENTATION,
    GIB,
    UTILISATION,
    Dtype,
    MemoryUse,
)
from kairay.memory.weights import (
    dequantised_weight_bytes,
    frozen_hidden_bytes,
    quantised_weight_bytes,
    split_weight_bytes,
    weight_bytes,
    zero3_weight_bytes,
)

__all__ = [
    "COLLECTIVES",
    "CPU_PROCESS",
    "CPU_RAY",
    "CPU_UTILISATION",
    "CUDA_CONTEXT",
    "FRAGMENTATION",
    "GIB",
    "ROWS_ARCHITECTURES",
    "UTILISATION",
    "AttentionKind",
    "Dtype",
    "EngineMemory",
    "MemoryUse",
    "Optimizer",
    "TuningWork",
    "adapter_bytes",
    "adapter_dtype",
    "attention_kinds",
    "backward_bytes",
    "context_that_fits",
    "dequantised_bytes",
    "dequantised_weight_bytes",
    "embedding_parameters",
    "expert_layers",
    "expert_parameters",
    "frozen_hidden_bytes",
    "gathered_bytes_per_token",
    "gradient_bytes",
    "grouped_kinds",
    "kept_bytes",
    "kv_bytes",
    "kv_bytes_per_token",
    "layer_bytes",
    "linear_parameters",
    "logits_bytes",
    "lora_parameters",
    "lora_slot_bytes",
    "merged_adapter_bytes",
    "missing_facts",
    "module_shapes",
    "optimizer_bytes",
    "parameter_count",
    "peak_parts",
    "quantised_weight_bytes",
    "shape_parameters",
    "split_weight_bytes",
    "state_bytes",
    "transformers_memory",
    "vllm_batch_tokens",
    "vllm_memory",
    "weight_bytes",
    "zero3_weight_bytes",
    "zero_bucket_bytes",
]
