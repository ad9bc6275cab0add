"""The shape of a tuning run on one machine size: workers, number format, micro-batch and what it does to
memory.

Every worker holds the whole base model (ZeRO-2 splits the optimiser only), so one device has to fit it. GPUs
recompute activations (checkpointing); processors keep them, as recomputing costs them more time than memory
is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from kairay import memory
from kairay.memory import Dtype, MemoryUse, TuningWork
from kairay.plan_sizes import compute_dtype, device_memory
from kairay.presets import ModelFacts, TuningFacts, TuningMethod
from kairay.skus import Device, Sku, SkuKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningShape:
    """How a tuning run uses its machines."""

    method: TuningMethod
    device: Device
    dtype: Dtype
    """What the base model computes in; LoRA's own parameters are float32."""
    nodes: int
    workers: int
    """Ray Train workers, each with the whole model."""
    cpus_per_worker: int
    gpus_per_worker: int
    sequence_length: int
    """Tokens of a packed row."""
    micro_batch: int
    """Rows that a worker computes at once."""
    accumulation: int
    """Micro-batches of one optimiser step, for each worker."""
    memory: MemoryUse
    """Of one GPU; of the machine with all its workers, on a processor."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step, over all workers."""
        return self.sequence_length * self.micro_batch * self.accumulation * self.workers


def shape_tuning(
    model: ModelFacts, facts: TuningFacts, sku: Sku, *, method: TuningMethod, workers: int | None
) -> TuningShape:
    """The run that a size allows: the largest micro-batch that fits; its memory says if even one row does
    not.

    `workers` None: all GPUs of one machine, as they are paid for, but no more than a step has rows; one on a
    processor.
    """
    defaults = facts.defaults
    sequence = min(defaults.sequence_length, model.context_length)
    rows = max(1, defaults.batch_tokens // sequence)
    count = workers or max(1, min(sku.gpus, rows))
    per_worker = -(-rows // count)
    micro = 1
    use = _memory(model, facts, sku, method=method, workers=count, tokens=sequence)
    while micro * 2 <= per_worker:
        larger = _memory(model, facts, sku, method=method, workers=count, tokens=2 * micro * sequence)
        if not larger.fits:
            break
        micro, use = 2 * micro, larger
    on_gpu = sku.device is Device.CUDA
    return TuningShape(
        method=method,
        device=sku.device,
        dtype=compute_dtype(sku),
        nodes=-(-count // sku.gpus) if on_gpu else 1,
        workers=count,
        cpus_per_worker=_cpus(sku, count),
        gpus_per_worker=1 if on_gpu else 0,
        sequence_length=sequence,
        micro_batch=micro,
        accumulation=-(-per_worker // micro),
        memory=use,
    )


def _memory(
    model: ModelFacts, facts: TuningFacts, sku: Sku, *, method: TuningMethod, workers: int, tokens: int
) -> MemoryUse:
    """What tuning takes with micro-batches of `tokens`, all of them in the loss."""
    dtype, defaults, on_gpu = compute_dtype(sku), facts.defaults, sku.device is Device.CUDA
    quantised = method is TuningMethod.QLORA
    work = TuningWork(
        model=model,
        dtype=dtype,
        on_gpu=on_gpu,
        quantised=quantised,
        modules=facts.target_modules,
        rank=defaults.rank,
        layers=defaults.layers,
        dropout=defaults.dropout,
        checkpointing=on_gpu,
        tokens=tokens,
        targets=tokens,
    )
    activations, logits = memory.peak_parts(work)
    trained = _Trained(work, workers)
    capacity, limit = device_memory(sku)
    copies = 1 if on_gpu else workers
    overhead = _overhead(work, workers, int(memory.FRAGMENTATION * (activations + logits)))
    return MemoryUse(
        capacity=capacity,
        limit=limit,
        weights=copies * _weights(work),
        activations=copies * activations,
        logits=copies * logits,
        adapter=copies * trained.adapter,
        optimizer=copies * trained.optimizer,
        overhead=copies * overhead + (0 if on_gpu else memory.CPU_RAY),
    )


class _Trained:
    """What is trained: on GPUs several workers share the optimiser by ZeRO-2 (kairay_train.job.ZERO2)."""

    def __init__(self, work: TuningWork, workers: int) -> None:
        dtype, zero = memory.adapter_dtype(quantised=work.quantised, on_gpu=work.on_gpu), work.on_gpu
        lora = memory.lora_parameters(work.model, modules=work.modules, rank=work.rank, layers=work.layers)
        self.adapter = memory.adapter_bytes(lora, dtype=dtype, workers=workers, zero=zero)
        self.optimizer = memory.optimizer_bytes(lora, dtype=dtype, workers=workers, zero=zero)


def _weights(work: TuningWork) -> int:
    if not work.quantised:
        return memory.weight_bytes(work.model, work.dtype)
    if work.on_gpu:
        return memory.quantised_weight_bytes(work.model, work.dtype)
    return memory.dequantised_weight_bytes(work.model, work.dtype, layers=work.layers)


def _overhead(work: TuningWork, workers: int, fragmentation: int) -> int:
    """Beside the tensors that are named: context or process, what the allocator loses, the buffers of workers that
    share a step, and a processor's hidden states below the tuned layers."""
    if work.on_gpu:
        together = 0
        if workers > 1:
            dtype = memory.adapter_dtype(quantised=work.quantised, on_gpu=True)
            together = memory.COLLECTIVES + memory.zero_bucket_bytes(dtype)
        return memory.CUDA_CONTEXT + fragmentation + together
    hidden = 0
    if work.rows_attend_alone:
        hidden = memory.frozen_hidden_bytes(work.model, work.dtype, layers=work.layers, data_tokens=None)
    return memory.CPU_PROCESS + fragmentation + hidden


def _cpus(sku: Sku, workers: int) -> int:
    """Cores of a worker: an even part, less one core that a cluster's node keeps for the system."""
    if sku.kind is SkuKind.LOCAL:
        return max(1, sku.cores // workers)
    return max(1, (sku.cores - 1) // sku.gpus)
