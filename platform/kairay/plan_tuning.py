"""The shape of a tuning run on one machine size: workers, number format, micro-batch and what it does to
memory.

Every worker holds the whole base model (ZeRO-2 splits the optimiser only), so one device has to fit it. GPUs
recompute activations (checkpointing); processors keep them, as recomputing costs them more time than memory
is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kairay import memory
from kairay.memory import Dtype, MemoryUse, Optimizer, TuningWork
from kairay.plan_sizes import compute_dtype, device_memory
from kairay.plan_wishes import NO_TUNING_WISHES, TuningWishes
from kairay.presets import ModelFacts, TuningFacts, TuningMethod
from kairay.skus import Device, Sku, SkuKind

_UNPAGED = {Optimizer.PAGED_ADAMW: Optimizer.ADAMW, Optimizer.PAGED_ADAMW_8BIT: Optimizer.ADAMW_8BIT}
"""A processor has no other memory to give way to."""


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
    model: ModelFacts,
    facts: TuningFacts,
    sku: Sku,
    *,
    method: TuningMethod,
    workers: int | None,
    wishes: TuningWishes = NO_TUNING_WISHES,
) -> TuningShape:
    """The run that a size allows: the largest micro-batch that fits, or the one that was asked for; its memory says
    if it does not fit.

    `workers` None: all GPUs of one machine, as they are paid for, but no more than a step has rows; one on a
    processor. `facts` are those with the wishes applied.
    """
    sequence = wishes.sequence_length or min(facts.defaults.sequence_length, model.context_length)
    rows = max(1, facts.defaults.batch_tokens // sequence)
    count = workers or max(1, min(sku.gpus, rows))
    per_worker = -(-rows // count)
    row = _one_row(model, facts, sku, method=method, sequence=sequence, wishes=wishes)

    def use_of(micro: int) -> MemoryUse:
        work = replace(row, tokens=micro * sequence, targets=micro * sequence)
        return _memory(work, sku, count, wishes)

    micro, use = _micro_batch(use_of, wishes, per_worker)
    on_gpu = sku.device is Device.CUDA
    return TuningShape(
        method=method,
        device=sku.device,
        dtype=compute_dtype(sku) if method is TuningMethod.QLORA else row.dtype,
        nodes=-(-count // sku.gpus) if on_gpu else 1,
        workers=count,
        cpus_per_worker=_cpus(sku, count),
        gpus_per_worker=1 if on_gpu else 0,
        sequence_length=sequence,
        micro_batch=micro,
        accumulation=wishes.accumulation or -(-per_worker // micro),
        memory=use,
    )


def _micro_batch(
    use_of: Callable[[int], MemoryUse], wishes: TuningWishes, rows: int
) -> tuple[int, MemoryUse]:
    """The one that was asked for, or the largest power of two of a step's rows whose memory fits, else 1; and what it
    takes."""
    if wishes.micro_batch is not None:
        return wishes.micro_batch, use_of(wishes.micro_batch)
    most = rows // (wishes.accumulation or 1)
    micro, use = 1, use_of(1)
    while micro * 2 <= most and (larger := use_of(2 * micro)).fits:
        micro, use = 2 * micro, larger
    return micro, use


def _held_dtype(own: Dtype, method: TuningMethod, wishes: TuningWishes, *, on_gpu: bool) -> Dtype:
    """What the base model's tensors are in (kairay_train.settings): what was asked for, if the device has units for
    it. Products in float32 count as if all were."""
    asked = wishes.dtype or own
    if method is TuningMethod.QLORA and wishes.compute_dtype is Dtype.FLOAT32:
        asked = Dtype.FLOAT32
    has_units = on_gpu and not (asked is Dtype.BFLOAT16 and own is Dtype.FLOAT16)
    return asked if asked in (own, Dtype.FLOAT32) or has_units else own


def _one_row(
    model: ModelFacts,
    facts: TuningFacts,
    sku: Sku,
    *,
    method: TuningMethod,
    sequence: int,
    wishes: TuningWishes,
) -> TuningWork:
    """A micro-batch of one row, all of its tokens in the loss."""
    defaults, on_gpu = facts.defaults, sku.device is Device.CUDA
    return TuningWork(
        model=model,
        dtype=_held_dtype(compute_dtype(sku), method, wishes, on_gpu=on_gpu),
        on_gpu=on_gpu,
        quantised=method is TuningMethod.QLORA,
        modules=facts.target_modules,
        rank=defaults.rank,
        layers=defaults.layers,
        dropout=defaults.dropout,
        checkpointing=on_gpu if wishes.checkpointing is None else wishes.checkpointing,
        tokens=sequence,
        targets=sequence,
        bits=wishes.weight_bits or memory.NF4_BITS,
        row=sequence if wishes.packing is False else None,
    )


def _memory(work: TuningWork, sku: Sku, workers: int, wishes: TuningWishes) -> MemoryUse:
    """What tuning takes with such micro-batches."""
    activations, logits = memory.peak_parts(work)
    trained = _Trained(work, workers, wishes)
    capacity, limit = device_memory(sku)
    copies = 1 if work.on_gpu else workers
    overhead = _overhead(work, workers, int(memory.FRAGMENTATION * (activations + logits)))
    return MemoryUse(
        capacity=capacity,
        limit=limit,
        weights=copies * _weights(work),
        activations=copies * activations,
        logits=copies * logits,
        adapter=copies * trained.adapter,
        optimizer=copies * trained.optimizer,
        overhead=copies * overhead + (0 if work.on_gpu else memory.CPU_RAY),
    )


class _Trained:
    """What is trained: on GPUs several workers share the optimiser by ZeRO-2 (kairay_train.job.ZERO2)."""

    def __init__(self, work: TuningWork, workers: int, wishes: TuningWishes) -> None:
        dtype, zero = _adapter_dtype(work), work.on_gpu
        lora = memory.lora_parameters(work.model, modules=work.modules, rank=work.rank, layers=work.layers)
        lora += memory.saved_parameters(work.model, wishes.saved_modules)
        optimizer = wishes.optimizer or Optimizer.ADAMW
        if not work.on_gpu:
            optimizer = _UNPAGED.get(optimizer, optimizer)
        self.adapter = memory.adapter_bytes(lora, dtype=dtype, workers=workers, zero=zero)
        self.optimizer = memory.optimizer_bytes(
            lora, dtype=dtype, optimizer=optimizer, workers=workers, zero=zero
        )


def _adapter_dtype(work: TuningWork) -> Dtype:
    """A base model in float32 has its adapter in float32 too (kairay_train.trainer)."""
    plain = work.dtype is Dtype.FLOAT32
    return memory.adapter_dtype(quantised=work.quantised and not plain, on_gpu=work.on_gpu)


def _weights(work: TuningWork) -> int:
    if not work.quantised:
        return memory.weight_bytes(work.model, work.dtype)
    if work.on_gpu:
        return memory.quantised_weight_bytes(work.model, work.dtype, bits=work.bits)
    return memory.dequantised_weight_bytes(work.model, work.dtype, layers=work.layers, bits=work.bits)


def _overhead(work: TuningWork, workers: int, fragmentation: int) -> int:
    """Beside the tensors that are named: context or process, what the allocator loses, the buffers of workers that
    share a step, and a processor's hidden states below the tuned layers."""
    if work.on_gpu:
        together = 0
        if workers > 1:
            together = memory.COLLECTIVES + memory.zero_bucket_bytes(_adapter_dtype(work))
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
