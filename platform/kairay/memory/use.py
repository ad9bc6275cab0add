"""How the memory of one device is used, and how much of it a plan may use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIB = 2**30
UTILISATION = 0.84
"""Part of an advertised GPU memory that a plan may use (KAITO's gpu-memory-utilization): a driver reports
14.6 of a T4's 16 and 22.1 of an A10's 24, and allocators fragment."""
REPORTED = 0.912
"""Part of an advertised GPU memory that its driver reports, where it is least (14.6 of a T4's 16): engines count their
own utilisation from that. UTILISATION is vLLM's default of 0.92 of it."""
CPU_UTILISATION = 0.85
"""Part of a machine's memory that a plan may use; the rest is the system's and other programs'."""
CUDA_CONTEXT = int(0.7 * GIB)
"""What a process takes of a GPU before its first tensor: context, loaded kernels, cuBLAS workspace (0.5 GiB of a
process with torch on an A100, and 64 MiB for each cuBLAS workspace)."""
FRAGMENTATION = 0.1
"""Allocator loss, as a part of the tensors that come and go with each micro-batch."""
CPU_PROCESS = int(1.5 * GIB)
"""One process that has imported torch and transformers, with its allocator's slack (2.6 GB measured at peak
for QLoRA of a 135M model, of which 1.0 to 1.2 GB are counted by the other terms)."""
CPU_RAY = int(2.5 * GIB)
"""Ray's head (1.9 GB measured) and Serve's controller and proxy, beside the process that computes."""


class Dtype(StrEnum):
    """Number formats, by torch's names; we compute in all but the last."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT8 = "float8_e4m3fn"
    """Of a KV cache (vLLM's kv-cache-dtype fp8)."""

    @property
    def bytes(self) -> int:
        """Bytes of one number."""
        return {Dtype.FLOAT32: 4, Dtype.FLOAT8: 1}.get(self, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """How one device's memory is used at its fullest moment, in bytes."""

    capacity: int
    """All of the device."""
    limit: int
    """What a plan may use of it."""
    weights: int
    kv_cache: int = 0
    activations: int = 0
    logits: int = 0
    """Scores over the vocabulary, where they are what fills the device; 0 where a layer's backward pass does."""
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
