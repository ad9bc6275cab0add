"""The shape of a service on one machine size: how a replica is split over GPUs, its context, KV cache and
replicas.

KAITO's estimate of memory with `ceil` in place of its `+ 1`, and its two other faults mended: the KV cache is
split over all GPUs of a replica, and a split is taken only if the attention heads divide by it, as vLLM
demands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kairay import memory
from kairay.memory import Dtype, MemoryUse
from kairay.plan_sizes import compute_dtype, device_memory
from kairay.presets import ModelFacts
from kairay.skus import Device, Sku, SkuKind

REFERENCE_CONTEXT = 2048
"""Tokens of context that a size must hold to count as fitting (KAITO's default max-model-len)."""
MAX_NODES = 8
"""Machines of one replica; a pipeline over more is a machine of the wrong size."""

_TYPICAL_REQUEST = 1024
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


def shape_serving(model: ModelFacts, sku: Sku, bounds: ReplicaBounds) -> ServingShape:
    """The service that a size allows, each replica on as few GPUs as hold it; its memory says if none of the
    splits do."""
    if sku.device is Device.CPU:
        return _on_processor(model, sku, bounds)
    # The engine of a machine of one's own does not split a model over GPUs.
    local = sku.kind is SkuKind.LOCAL
    splits = list(_splits(model, 1 if local else sku.gpus, machines=1 if local else MAX_NODES))
    for tensor, pipeline in splits:
        use = _gpu_memory(model, sku, tensor=tensor, pipeline=pipeline)
        if use.fits:
            return _on_gpus(model, sku, bounds, use, tensor=tensor, pipeline=pipeline)
    tensor, pipeline = splits[-1]
    use = _gpu_memory(model, sku, tensor=tensor, pipeline=pipeline)
    return _on_gpus(model, sku, bounds, use, tensor=tensor, pipeline=pipeline)


def _splits(model: ModelFacts, gpus: int, *, machines: int) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) splits: fewest GPUs of one machine first, without a pipeline where possible, then
    machines.

    vLLM wants the heads to divide by the tensor split, and the KV heads to divide by it or it by them.
    """
    tensors = [
        size
        for size in range(1, gpus + 1)
        if model.heads % size == 0 and (model.kv_heads % size == 0 or size % model.kv_heads == 0)
    ]
    yield from ((tensor, 1) for tensor in tensors)
    inside = ((tensor, stages) for tensor in tensors for stages in range(2, gpus // tensor + 1))
    yield from sorted(inside, key=lambda split: (split[0] * split[1], split[1]))
    widest = max(tensors, key=lambda tensor: (gpus // tensor * tensor, tensor))
    yield from ((widest, gpus // widest * count) for count in range(2, machines + 1))


def _gpu_memory(model: ModelFacts, sku: Sku, *, tensor: int, pipeline: int) -> MemoryUse:
    """One GPU's memory: its part of the weights, 5 % of that, 2.3 GiB, and the KV cache of the reference
    context.

    A stage holds ceil(layers / stages) layers; where everything fits, the KV cache gets all that is left.
    """
    dtype = compute_dtype(sku)
    capacity, limit = device_memory(sku)
    stage_layers = -(-model.layers // pipeline)
    weights = -(-memory.weight_bytes(model, dtype) * stage_layers // (model.layers * tensor))
    activations = memory.serving_activation_bytes(weights)
    least = min(REFERENCE_CONTEXT, model.context_length) * _kv_per_token(model, dtype, tensor, pipeline)
    rest = limit - weights - activations - memory.SERVING_OVERHEAD
    return MemoryUse(
        capacity=capacity,
        limit=limit,
        weights=weights,
        activations=activations,
        kv_cache=max(least, rest),
        overhead=memory.SERVING_OVERHEAD,
    )


def _kv_per_token(model: ModelFacts, dtype: Dtype, tensor: int, pipeline: int) -> int:
    """KV cache of one token on one GPU; KV heads that are fewer than the tensor split are held several
    times."""
    per_token = memory.kv_bytes_per_token(model, dtype)
    return -(-per_token * -(-model.layers // pipeline) // (model.layers * min(tensor, model.kv_heads)))


def _on_gpus(
    model: ModelFacts, sku: Sku, bounds: ReplicaBounds, use: MemoryUse, *, tensor: int, pipeline: int
) -> ServingShape:
    dtype, gpus = compute_dtype(sku), tensor * pipeline
    tokens = use.kv_cache // _kv_per_token(model, dtype, tensor, pipeline)
    replicas = bounds.max_replicas
    if gpus <= sku.gpus:
        nodes = -(-replicas // (sku.gpus // gpus))
    else:
        nodes = replicas * -(-gpus // (sku.gpus // tensor * tensor))
    if sku.kind is SkuKind.LOCAL and gpus:
        replicas = max(1, min(replicas, sku.gpus // gpus))
        nodes = 1
    return ServingShape(
        # vLLM is in the GPU images; a machine of one's own has the lighter engine that starts fast.
        engine=Engine.TRANSFORMERS if sku.kind is SkuKind.LOCAL else Engine.VLLM,
        device=Device.CUDA,
        dtype=dtype,
        nodes=nodes,
        min_replicas=min(bounds.min_replicas, replicas),
        max_replicas=replicas,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        context_length=_context(model, tokens),
        kv_cache_bytes=use.kv_cache,
        threads=None,
        idle_seconds=bounds.idle_seconds,
        target_ongoing_requests=bounds.target_ongoing_requests or _target(tokens, most=256),
        memory=use,
    )


def _on_processor(model: ModelFacts, sku: Sku, bounds: ReplicaBounds) -> ServingShape:
    dtype = compute_dtype(sku)
    capacity, limit = device_memory(sku)
    per_token = memory.kv_bytes_per_token(model, dtype)
    weights = memory.weight_bytes(model, dtype)
    activations = memory.serving_activation_bytes(weights)
    replica = weights + activations + memory.CPU_PROCESS
    least = min(REFERENCE_CONTEXT, model.context_length) * per_token
    # Half of what is left, and at most a GiB or the reference context: a laptop has other things to do.
    kv_cache = max(least, min((limit - replica - memory.CPU_RAY) // 2, _CPU_KV_BYTES))
    replicas = max(1, min(bounds.max_replicas, (limit - memory.CPU_RAY) // (replica + kv_cache)))
    return ServingShape(
        engine=Engine.TRANSFORMERS,
        device=Device.CPU,
        dtype=dtype,
        nodes=1,
        min_replicas=min(bounds.min_replicas, replicas),
        max_replicas=replicas,
        tensor_parallel=1,
        pipeline_parallel=1,
        context_length=_context(model, kv_cache // per_token),
        kv_cache_bytes=kv_cache,
        threads=max(1, sku.cores // replicas),
        idle_seconds=bounds.idle_seconds,
        target_ongoing_requests=bounds.target_ongoing_requests or _target(kv_cache // per_token, most=16),
        memory=MemoryUse(
            capacity=capacity,
            limit=limit,
            weights=weights,
            activations=activations,
            kv_cache=kv_cache,
            overhead=memory.CPU_PROCESS + memory.CPU_RAY,
        ),
    )


def _context(model: ModelFacts, tokens: int) -> int:
    """The model's own context, or what the KV cache holds of it in whole blocks of 256."""
    return model.context_length if tokens >= model.context_length else max(256, tokens // 256 * 256)


def _target(tokens: int, *, most: int) -> int:
    """Requests at once for which the KV cache has room, at 1,024 tokens each."""
    return max(1, min(most, tokens // _TYPICAL_REQUEST))
