"""The shape of a service on one machine size: how a replica is split over GPUs, its context, KV cache and
replicas.

As KAITO's estimate in the weights; what the engine takes beside them is counted from the model's shape
(`kairay.memory`), the KV cache is split over all GPUs of a replica, and a split is taken only if heads and matrices
divide by it, as vLLM demands. Shares of a GPU and MIG slices cannot work together, so a replica stays on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kairay import memory
from kairay.memory import Dtype, EngineMemory, MemoryUse
from kairay.plan_sizes import compute_dtype, device_memory
from kairay.presets import ModelFacts, TuningFacts
from kairay.skus import Device, Sku, SkuKind

REFERENCE_CONTEXT = 2048
"""Tokens of context that a size must hold to count as fitting (KAITO's default max-model-len)."""
MAX_NODES = 8
"""Machines of one replica; a pipeline over more is a machine of the wrong size."""

_TYPICAL_REQUEST = 1024
_MOST_REQUESTS, _CPU_REQUESTS = 256, 16
_TRANSFORMERS_BATCH = 512
_CPU_KV_BYTES = memory.GIB


class Engine(StrEnum):
    """What generates the tokens."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaBounds:
    """What was asked for of a service's replicas."""

    min_replicas: int
    max_replicas: int
    idle_seconds: float
    target_ongoing_requests: float | None = None
    """None: from the KV cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingShape:
    """How a service uses its machines."""

    engine: Engine
    device: Device
    dtype: Dtype
    nodes: int
    """Machines of all replicas, at most."""
    min_replicas: int
    max_replicas: int
    tensor_parallel: int
    """GPUs that split each layer, inside a machine."""
    pipeline_parallel: int
    """Stages that split the layers, over machines where one is too small."""
    context_length: int
    """Tokens of prompt and answer together."""
    kv_cache_bytes: int
    """Of one GPU; of a replica, on a processor."""
    threads: int | None
    """Of a replica on a processor."""
    idle_seconds: float
    target_ongoing_requests: float
    memory: MemoryUse
    """Of one GPU; of the machine with one replica, on a processor."""

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel * self.pipeline_parallel if self.device is Device.CUDA else 0


def shape_serving(
    model: ModelFacts, sku: Sku, bounds: ReplicaBounds, *, tuned: TuningFacts | None = None
) -> ServingShape:
    """The service that a size allows, each replica on as few GPUs as hold it; its memory says if none of the
    splits do.

    `tuned`: an adapter made so is served beside the base model.
    """
    if sku.device is Device.CPU:
        return _on_processor(model, sku, bounds, tuned)
    # The engine of a machine of one's own does not split a model over GPUs.
    alone = sku.kind is SkuKind.LOCAL or sku.share is not None
    splits = list(_splits(model, 1 if alone else sku.gpus, machines=1 if alone else MAX_NODES))
    for tensor, pipeline in splits:
        part = _GpuPart(model, sku, tuned, tensor=tensor, pipeline=pipeline)
        if part.use.fits:
            break
    return _on_gpus(part, bounds)


def _splits(model: ModelFacts, gpus: int, *, machines: int) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) splits: fewest GPUs of one machine first, without a pipeline where possible, then
    machines."""
    tensors = [size for size in range(1, gpus + 1) if can_split(model, size)]
    yield from ((tensor, 1) for tensor in tensors)
    inside = ((tensor, stages) for tensor in tensors for stages in range(2, gpus // tensor + 1))
    yield from sorted(
        (split for split in inside if split[1] <= model.layers),
        key=lambda split: (split[0] * split[1], split[1]),
    )
    widest = max(tensors, key=lambda tensor: (gpus // tensor * tensor, tensor))
    stages = (gpus // widest * count for count in range(2, machines + 1))
    yield from ((widest, count) for count in stages if count <= model.layers)


def can_split(model: ModelFacts, tensor: int) -> bool:
    """vLLM wants the heads to divide by the tensor split, the KV heads to divide by it or it by them (the one latent of
    latent attention is held by every GPU), and the inner widths to divide by it."""
    kinds = {model.kv_heads, model.full_kv_heads or model.kv_heads}
    alike = model.kv_lora_rank is not None or all(
        heads % tensor == 0 or tensor % heads == 0 for heads in kinds
    )
    widths = (model.intermediate_size, model.moe_intermediate_size)
    return model.heads % tensor == 0 and alike and all(not width or width % tensor == 0 for width in widths)


class _GpuPart:
    """One GPU of a replica that is split so: what it holds, and how long a sequence may be."""

    def __init__(
        self, model: ModelFacts, sku: Sku, tuned: TuningFacts | None, *, tensor: int, pipeline: int
    ) -> None:
        self.model, self.sku, self.dtype = model, sku, compute_dtype(sku)
        self.tensor, self.pipeline = tensor, pipeline
        # vLLM is in the GPU images; a machine of one's own has the lighter engine that starts fast.
        self.engine = Engine.TRANSFORMERS if sku.kind is SkuKind.LOCAL else Engine.VLLM
        self._kinds = (
            memory.grouped_kinds(model) if self.engine is Engine.VLLM else memory.attention_kinds(model)
        )
        self._ahead = _batch_tokens(self.engine, sku)
        self.use = self._memory(tuned)

    def context(self) -> int:
        """Tokens of one sequence that the KV cache holds."""
        return memory.context_that_fits(
            self.model,
            self.dtype,
            available=self.use.kv_cache,
            ahead=self._ahead,
            kinds=self._kinds,
            tensor=self.tensor,
            pipeline=self.pipeline,
        )

    def kv_bytes(self, tokens: int) -> int:
        """KV cache of one sequence."""
        return memory.kv_bytes(
            self.model,
            self.dtype,
            tokens=tokens,
            ahead=self._ahead,
            kinds=self._kinds,
            tensor=self.tensor,
            pipeline=self.pipeline,
        )

    def _memory(self, tuned: TuningFacts | None) -> MemoryUse:
        """Where everything fits, the KV cache gets all that is left; it has to hold the reference context."""
        model, dtype = self.model, self.dtype
        capacity, limit = device_memory(self.sku)
        weights = memory.split_weight_bytes(model, dtype, tensor=self.tensor, pipeline=self.pipeline)
        if tuned is not None and self.engine is Engine.VLLM:
            weights += memory.lora_slot_bytes(model, dtype, tuned, tensor=self.tensor)
        elif tuned is not None:
            weights += memory.merged_adapter_bytes(model, dtype, tuned)
        engine = self._engine_memory()
        least = self.kv_bytes(min(REFERENCE_CONTEXT, model.context_length))
        rest = limit - weights - engine.activations - engine.overhead
        return MemoryUse(
            capacity=capacity,
            limit=limit,
            weights=weights,
            activations=engine.activations,
            kv_cache=max(least, rest),
            overhead=engine.overhead,
        )

    def _engine_memory(self) -> EngineMemory:
        if self.engine is Engine.VLLM:
            return memory.vllm_memory(
                self.model,
                self.dtype,
                batch_tokens=self._ahead,
                requests=_MOST_REQUESTS,
                tensor=self.tensor,
                pipeline=self.pipeline,
            )
        return memory.transformers_memory(
            self.model,
            self.dtype,
            batch_tokens=self._ahead,
            requests=_MOST_REQUESTS,
            cached_tokens=self.model.context_length,
            on_gpu=True,
        )


def _batch_tokens(engine: Engine, sku: Sku) -> int:
    """Tokens that an engine reads in one forward pass."""
    return memory.vllm_batch_tokens(sku.bytes_per_gpu) if engine is Engine.VLLM else _TRANSFORMERS_BATCH


def _on_gpus(part: _GpuPart, bounds: ReplicaBounds) -> ServingShape:
    sku, gpus = part.sku, part.tensor * part.pipeline
    replicas = bounds.max_replicas
    if gpus <= sku.gpus:
        nodes = -(-replicas // (sku.gpus // gpus))
    else:
        nodes = replicas * -(-gpus // (sku.gpus // part.tensor * part.tensor))
    if sku.kind is SkuKind.LOCAL and gpus:
        replicas = max(1, min(replicas, sku.gpus // gpus))
        nodes = 1
    return ServingShape(
        engine=part.engine,
        device=Device.CUDA,
        dtype=part.dtype,
        nodes=nodes,
        min_replicas=min(bounds.min_replicas, replicas),
        max_replicas=replicas,
        tensor_parallel=part.tensor,
        pipeline_parallel=part.pipeline,
        context_length=_context(part.model, part.context()),
        kv_cache_bytes=part.use.kv_cache,
        threads=None,
        idle_seconds=bounds.idle_seconds,
        target_ongoing_requests=bounds.target_ongoing_requests
        or _target(part.use.kv_cache, part.kv_bytes(_TYPICAL_REQUEST), most=_MOST_REQUESTS),
        memory=part.use,
    )


def _on_processor(
    model: ModelFacts, sku: Sku, bounds: ReplicaBounds, tuned: TuningFacts | None
) -> ServingShape:
    dtype = compute_dtype(sku)
    capacity, limit = device_memory(sku)
    weights = memory.weight_bytes(model, dtype)
    weights += 0 if tuned is None else memory.merged_adapter_bytes(model, dtype, tuned)
    # Each served name has a batch of its own.
    names = 1 if tuned is None else 2
    least = names * memory.kv_bytes(model, dtype, tokens=min(REFERENCE_CONTEXT, model.context_length))
    tokens = memory.context_that_fits(model, dtype, available=max(least, _CPU_KV_BYTES) // names)
    engine = memory.transformers_memory(
        model,
        dtype,
        batch_tokens=_TRANSFORMERS_BATCH,
        requests=_CPU_REQUESTS,
        cached_tokens=tokens,
        on_gpu=False,
    )
    replica = weights + names * engine.activations + memory.CPU_PROCESS
    # Half of what is left, and at most a GiB or the reference context: a laptop has other things to do.
    kv_cache = max(least, min((limit - replica - memory.CPU_RAY) // 2, _CPU_KV_BYTES))
    replicas = max(1, min(bounds.max_replicas, (limit - memory.CPU_RAY) // (replica + kv_cache)))
    share = kv_cache // names
    return ServingShape(
        engine=Engine.TRANSFORMERS,
        device=Device.CPU,
        dtype=dtype,
        nodes=1,
        min_replicas=min(bounds.min_replicas, replicas),
        max_replicas=replicas,
        tensor_parallel=1,
        pipeline_parallel=1,
        context_length=_context(model, memory.context_that_fits(model, dtype, available=share)),
        kv_cache_bytes=kv_cache,
        threads=max(1, sku.cores // replicas),
        idle_seconds=bounds.idle_seconds,
        target_ongoing_requests=bounds.target_ongoing_requests
        or _target(share, memory.kv_bytes(model, dtype, tokens=_TYPICAL_REQUEST), most=_CPU_REQUESTS),
        memory=MemoryUse(
            capacity=capacity,
            limit=limit,
            weights=weights,
            activations=names * engine.activations,
            kv_cache=kv_cache,
            overhead=memory.CPU_PROCESS + memory.CPU_RAY,
        ),
    )


def _context(model: ModelFacts, tokens: int) -> int:
    """The model's own context, or what the KV cache holds of it in whole blocks of 256."""
    return model.context_length if tokens >= model.context_length else max(256, tokens // 256 * 256)


def _target(kv_cache: int, request: int, *, most: int) -> int:
    """Requests at once for which the KV cache has room, at 1,024 tokens each."""
    return max(1, min(most, kv_cache // request))
