"""The shape of a service on one machine size: how a replica is split over GPUs, its context, KV cache and
replicas.

As KAITO's estimate in the weights; what the engine takes beside them is counted from the model's shape
(`kairay.memory`), and the KV cache is split over all GPUs of a replica.
"""

from __future__ import annotations

from dataclasses import dataclass

from kairay import memory
from kairay.memory import Dtype, MemoryUse
from kairay.plan_replica import (
    REFERENCE_CONTEXT,
    TRANSFORMERS_BATCH,
    Engine,
    GpuPart,
    gpu_memory,
    parts,
)
from kairay.plan_sizes import compute_dtype, device_memory
from kairay.plan_wishes import NO_SERVING_WISHES, ServingWishes
from kairay.presets import ModelFacts, TuningFacts
from kairay.skus import Device, Sku, SkuKind

__all__ = ["REFERENCE_CONTEXT", "Engine", "ReplicaBounds", "ServingShape", "shape_serving"]

_TYPICAL_REQUEST = 1024
_CPU_REQUESTS = 16
_CPU_KV_BYTES = memory.GIB


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
    model: ModelFacts,
    sku: Sku,
    bounds: ReplicaBounds,
    *,
    tuned: TuningFacts | None = None,
    wishes: ServingWishes = NO_SERVING_WISHES,
) -> ServingShape:
    """The service that a size allows, each replica on as few GPUs as hold it; its memory says if none of the
    splits do.

    `tuned`: an adapter made so is served beside the base model. `wishes` are vLLM's, and can be had
    (`kairay.plan_replica.split_fault`).
    """
    if sku.device is Device.CPU:
        return _on_processor(model, sku, bounds, tuned)
    for part in parts(model, sku, wishes):
        use = gpu_memory(part, sku, tuned)
        if use.fits:
            break
    return _on_gpus(part, use, sku, bounds)


def _on_gpus(part: GpuPart, use: MemoryUse, sku: Sku, bounds: ReplicaBounds) -> ServingShape:
    gpus, replicas = part.tensor * part.pipeline, bounds.max_replicas
    if gpus <= sku.gpus:
        nodes = -(-replicas // (sku.gpus // gpus))
    else:
        nodes = replicas * -(-gpus // (sku.gpus // part.tensor * part.tensor))
    if sku.kind is SkuKind.LOCAL:
        replicas, nodes = max(1, min(replicas, sku.gpus // gpus)), 1
    return ServingShape(
        engine=part.engine,
        device=Device.CUDA,
        dtype=part.dtype,
        nodes=nodes,
        min_replicas=min(bounds.min_replicas, replicas),
        max_replicas=replicas,
        tensor_parallel=part.tensor,
        pipeline_parallel=part.pipeline,
        context_length=part.wishes.context_length or _context(part.model, part.context(use.kv_cache)),
        kv_cache_bytes=use.kv_cache,
        threads=None,
        idle_seconds=bounds.idle_seconds,
        target_ongoing_requests=bounds.target_ongoing_requests
        or _target(use.kv_cache, part.kv_bytes(_TYPICAL_REQUEST), most=part.most_requests),
        memory=use,
    )


def _on_processor(
    model: ModelFacts, sku: Sku, bounds: ReplicaBounds, tuned: TuningFacts | None
) -> ServingShape:
    dtype = compute_dtype(sku)
    # Each served name has a batch and a part of the cache of its own.
    names = 1 if tuned is None else 2
    use = _processor_memory(model, dtype, sku, tuned, names)
    room = use.limit - memory.CPU_RAY
    replicas = max(1, min(bounds.max_replicas, room // (use.total - memory.CPU_RAY)))
    share = use.kv_cache // names
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
        kv_cache_bytes=use.kv_cache,
        threads=max(1, sku.cores // replicas),
        idle_seconds=bounds.idle_seconds,
        target_ongoing_requests=bounds.target_ongoing_requests
        or _target(share, memory.kv_bytes(model, dtype, tokens=_TYPICAL_REQUEST), most=_CPU_REQUESTS),
        memory=use,
    )


def _processor_memory(
    model: ModelFacts, dtype: Dtype, sku: Sku, tuned: TuningFacts | None, names: int
) -> MemoryUse:
    """Of the machine with one replica, which serves so many names."""
    capacity, limit = device_memory(sku)
    weights = memory.weight_bytes(model, dtype)
    weights += 0 if tuned is None else memory.merged_adapter_bytes(model, dtype, tuned)
    least = names * memory.kv_bytes(model, dtype, tokens=min(REFERENCE_CONTEXT, model.context_length))
    engine = memory.transformers_memory(
        model,
        dtype,
        batch_tokens=TRANSFORMERS_BATCH,
        requests=_CPU_REQUESTS,
        cached_tokens=max(least, _CPU_KV_BYTES) // names // memory.kv_bytes_per_token(model, dtype),
        on_gpu=False,
    )
    activations, overhead = names * engine.activations, memory.CPU_PROCESS + memory.CPU_RAY
    # Half of what is left, and at most a GiB or the reference context: a laptop has other things to do.
    kv_cache = max(least, min((limit - weights - activations - overhead) // 2, _CPU_KV_BYTES))
    return MemoryUse(
        capacity=capacity,
        limit=limit,
        weights=weights,
        activations=activations,
        kv_cache=kv_cache,
        overhead=overhead,
    )


def _context(model: ModelFacts, tokens: int) -> int:
    """The model's own context, or what the KV cache holds of it in whole blocks of 256."""
    return model.context_length if tokens >= model.context_length else max(256, tokens // 256 * 256)


def _target(kv_cache: int, request: int, *, most: int) -> int:
    """Requests at once for which the KV cache has room, at 1,024 tokens each."""
    return max(1, min(most, kv_cache // request))
