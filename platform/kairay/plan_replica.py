"""How one replica of a service is split over GPUs, and what one of them holds.

A split is taken only if heads and matrices divide by it, as vLLM demands. Shares of a GPU and MIG slices cannot work
together, so a replica stays on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kairay import memory
from kairay.memory import AttentionKind, Dtype, MemoryUse
from kairay.plan_sizes import compute_dtype, device_memory
from kairay.plan_wishes import NO_SERVING_WISHES, ServingWishes
from kairay.presets import ModelFacts, TuningFacts
from kairay.skus import Sku, SkuKind

REFERENCE_CONTEXT = 2048
"""Tokens of context that a size must hold to count as fitting (KAITO's default max-model-len)."""
MAX_NODES = 8
"""Machines of one replica; a pipeline over more is a machine of the wrong size."""
MOST_REQUESTS = 256
"""Requests at once of one replica on GPUs, at most."""
TRANSFORMERS_BATCH = 512
"""Tokens that the transformers engine reads at once (kairay_serve.batching)."""


class Engine(StrEnum):
    """What generates the tokens."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPart:
    """What one GPU of a replica holds of a model."""

    model: ModelFacts
    dtype: Dtype
    engine: Engine
    tensor: int
    """GPUs that split each layer."""
    pipeline: int
    """Stages that split the layers."""
    batch_tokens: int
    """Tokens that the engine reads at once."""
    wishes: ServingWishes = NO_SERVING_WISHES
    """Those of vLLM; none of the other engine."""

    @property
    def kv_dtype(self) -> Dtype:
        """Of the KV cache."""
        return self.wishes.kv_dtype or self.dtype

    @property
    def most_requests(self) -> int:
        """At once."""
        return self.wishes.max_requests or MOST_REQUESTS

    @property
    def least_context(self) -> int:
        """Tokens of context that the KV cache has to hold."""
        return self.wishes.context_length or min(REFERENCE_CONTEXT, self.model.context_length)

    def kv_bytes(self, tokens: int) -> int:
        """KV cache of one sequence."""
        return memory.kv_bytes(
            self.model,
            self.kv_dtype,
            tokens=tokens,
            ahead=self.batch_tokens,
            kinds=self._kinds(),
            tensor=self.tensor,
            pipeline=self.pipeline,
        )

    def context(self, kv_cache: int) -> int:
        """The longest sequence that a KV cache of this size holds."""
        return memory.context_that_fits(
            self.model,
            self.kv_dtype,
            available=kv_cache,
            ahead=self.batch_tokens,
            kinds=self._kinds(),
            tensor=self.tensor,
            pipeline=self.pipeline,
        )

    def _kinds(self) -> tuple[AttentionKind, ...]:
        grouped = self.engine is Engine.VLLM
        return memory.grouped_kinds(self.model) if grouped else memory.attention_kinds(self.model)


def parts(model: ModelFacts, sku: Sku, wishes: ServingWishes = NO_SERVING_WISHES) -> Iterator[GpuPart]:
    """The ways to split a replica, those on fewer GPUs first; none where the wishes cannot be had (`split_fault`)."""
    # The engine of a machine of one's own does not split a model over GPUs. vLLM is in the GPU images; one's own
    # machine has the lighter engine that starts fast.
    local = sku.kind is SkuKind.LOCAL
    alone = local or sku.share is not None
    wishes = NO_SERVING_WISHES if local else wishes
    batch = TRANSFORMERS_BATCH if local else memory.vllm_batch_tokens(sku.bytes_per_gpu)
    gpus, machines = (1, 1) if alone else (sku.gpus, MAX_NODES)
    for tensor, pipeline in _splits(model, gpus, machines=machines, wishes=wishes):
        yield GpuPart(
            model=model,
            dtype=wishes.dtype or compute_dtype(sku),
            engine=Engine.TRANSFORMERS if local else Engine.VLLM,
            tensor=tensor,
            pipeline=pipeline,
            batch_tokens=wishes.batch_tokens or batch,
            wishes=wishes,
        )


def split_fault(model: ModelFacts, sku: Sku, wishes: ServingWishes) -> str:
    """Why a size cannot serve as was asked for, whatever its memory; empty when it can."""
    if sku.kind is SkuKind.LOCAL:
        return ""
    if wishes.dtype is Dtype.BFLOAT16 and not sku.bf16:
        return f"dtype bfloat16: {sku.gpu} has no units for it"
    if next(parts(model, sku, wishes), None) is not None:
        return ""
    tensor, pipeline = wishes.tensor_parallel, wishes.pipeline_parallel
    if sku.share is not None:
        return "tensor-parallel-size and pipeline-parallel-size: parts of a GPU cannot work together"
    if tensor is not None and tensor > sku.gpus:
        return f"tensor-parallel-size {tensor} needs {tensor} GPUs in a machine, there are {sku.gpus}"
    return f"pipeline-parallel-size {pipeline} takes more than {MAX_NODES} machines"


def can_split(model: ModelFacts, tensor: int) -> bool:
    """vLLM wants the heads to divide by the tensor split, the KV heads to divide by it or it by them (the one latent of
    latent attention is held by every GPU), and the inner widths to divide by it."""
    kinds = {model.kv_heads, model.full_kv_heads or model.kv_heads}
    alike = model.kv_lora_rank is not None or all(
        heads % tensor == 0 or tensor % heads == 0 for heads in kinds
    )
    widths = (model.intermediate_size, model.moe_intermediate_size)
    return model.heads % tensor == 0 and alike and all(not width or width % tensor == 0 for width in widths)


def gpu_memory(part: GpuPart, sku: Sku, tuned: TuningFacts | None) -> MemoryUse:
    """One GPU's memory; where everything fits, the KV cache gets all that is left. It has to hold the reference
    context."""
    model, dtype = part.model, part.dtype
    capacity, limit = device_memory(sku, utilisation=part.wishes.utilisation)
    weights = memory.split_weight_bytes(model, dtype, tensor=part.tensor, pipeline=part.pipeline)
    least = part.kv_bytes(part.least_context)
    if part.engine is Engine.VLLM:
        weights += 0 if tuned is None else memory.lora_slot_bytes(model, dtype, tuned, tensor=part.tensor)
        engine = memory.vllm_memory(
            model,
            dtype,
            batch_tokens=part.batch_tokens,
            requests=part.most_requests,
            tensor=part.tensor,
            pipeline=part.pipeline,
            graphs=not part.wishes.eager,
        )
        left = limit - weights - engine.activations - engine.overhead
        kv_cache = max(least, part.wishes.kv_cache_bytes or left)
    else:
        weights += 0 if tuned is None else memory.merged_adapter_bytes(model, dtype, tuned)
        kv_cache = max(least, transformers_kv_cache(model, dtype, limit - weights - memory.CUDA_CONTEXT))
        tokens = kv_cache // memory.kv_bytes_per_token(model, dtype)
        engine = memory.transformers_memory(
            model,
            dtype,
            batch_tokens=TRANSFORMERS_BATCH,
            requests=MOST_REQUESTS,
            cached_tokens=tokens,
            on_gpu=True,
        )
    return MemoryUse(
        capacity=capacity,
        limit=limit,
        weights=weights,
        activations=engine.activations,
        kv_cache=kv_cache,
        overhead=engine.overhead,
    )


def transformers_kv_cache(model: ModelFacts, dtype: Dtype, available: int) -> int:
    """The KV cache that fits beside the activations that come with it: the transformers engine gathers all that it
    reads of the cache, so each cached token costs more than its place."""
    bare = memory.transformers_memory(
        model, dtype, batch_tokens=TRANSFORMERS_BATCH, requests=MOST_REQUESTS, cached_tokens=0, on_gpu=True
    )
    kept = memory.kv_bytes_per_token(model, dtype)
    read = memory.gathered_bytes_per_token(model, dtype, batch_tokens=TRANSFORMERS_BATCH)
    return max(0, available - bare.activations) // (kept + read) * kept


def _splits(
    model: ModelFacts, gpus: int, *, machines: int, wishes: ServingWishes
) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) splits: fewest GPUs of one machine first, without a pipeline where possible, then
    machines."""
    tensors = [
        size
        for size in range(1, gpus + 1)
        if can_split(model, size) and wishes.tensor_parallel in (None, size)
    ]
    if wishes.pipeline_parallel is not None:
        stages = wishes.pipeline_parallel
        yield from ((tensor, stages) for tensor in tensors if -(-stages // (gpus // tensor)) <= machines)
        return
    if not tensors:
        return
    yield from ((tensor, 1) for tensor in tensors)
    inside = ((tensor, stages) for tensor in tensors for stages in range(2, gpus // tensor + 1))
    yield from sorted(
        (split for split in inside if split[1] <= model.layers),
        key=lambda split: (split[0] * split[1], split[1]),
    )
    widest = max(tensors, key=lambda tensor: (gpus // tensor * tensor, tensor))
    deepest = (gpus // widest * count for count in range(2, machines + 1))
    yield from ((widest, count) for count in deepest if count <= model.layers)
