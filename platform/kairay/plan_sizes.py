"""What a machine size can do for us: its number format, the memory that may be used, and what rules it
out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from kairay.errors import InputError
from kairay.memory import CPU_UTILISATION, REPORTED, UTILISATION, Dtype
from kairay.mig import Cutter, cut
from kairay.skus import LOWEST_CAPABILITY, Device, Sku, SkuKind, SkuStatus


def compute_dtype(sku: Sku) -> Dtype:
    """bfloat16 where the device has units for it; else float16 on GPUs (T4) and float32 on processors."""
    if sku.bf16:
        return Dtype.BFLOAT16
    return Dtype.FLOAT16 if sku.device is Device.CUDA else Dtype.FLOAT32


def device_memory(sku: Sku, *, utilisation: float | None = None) -> tuple[int, int]:
    """Bytes of one device (of the machine, on a processor), and how many of them a plan may use; `utilisation` is the
    part of a GPU's memory, as its driver reports it, that somebody set.

    What is free at the moment does not count: the same machine gets the same plan, and a service of an
    earlier run that still holds memory does not stand in its own way. A plan warns where too little is free.
    """
    if sku.device is Device.CPU:
        return sku.ram_bytes, int(sku.ram_bytes * CPU_UTILISATION)
    part = UTILISATION if utilisation is None else REPORTED * utilisation
    return sku.bytes_per_gpu, int(sku.bytes_per_gpu * part)


def in_parts(sku: Sku, mig: str | None, cutter: Cutter, most: int | None) -> tuple[Sku, Sku]:
    """The size with its GPUs cut into slices of the profile `mig`, and the same with no more GPUs than may be used.

    One's own machine is taken as it is. InputError: it cannot be cut so, or has fewer GPUs than `most`.
    """
    if sku.kind is SkuKind.LOCAL:
        return sku, sku
    if mig is not None:
        sku = cut(sku, mig, cutter)
    if most is None:
        return sku, sku
    if most > sku.gpus:
        raise InputError(
            f"has {sku.gpus} GPU{'s' if sku.gpus > 1 else ''}, resource.partition.count asks for {most} of each node"
        )
    return sku, replace(sku, gpus=most)


def vetoes(sku: Sku, *, today: date, asked_for: bool) -> tuple[str, ...]:
    """Why a size is out whatever the work needs, the weightiest reason first; empty when it may be used."""
    return tuple(_vetoes(sku, today, asked_for=asked_for))


def retirement(sku: Sku) -> str:
    """`on 2025-09-30`, or `in 2023` where no day is known."""
    when = sku.retired_on or ""
    return f"on {when}" if "-" in when else f"in {when}"


def _vetoes(sku: Sku, today: date, *, asked_for: bool) -> Iterator[str]:
    if sku.retired(today):
        yield f"retired by Azure {retirement(sku)}"
    if sku.status is SkuStatus.UNLISTED:
        yield "not among the sizes that AKS lists"
    if sku.device is Device.CPU:
        return
    if sku.vendor == "amd":
        yield "an AMD GPU; the images are built for CUDA"
    if sku.architecture == "arm64":
        yield "an arm64 processor; the images are built for x64"
    if sku.compute_capability is not None and sku.compute_capability < LOWEST_CAPABILITY:
        have, least = (".".join(map(str, pair)) for pair in (sku.compute_capability, LOWEST_CAPABILITY))
        yield f"compute capability {have}; torch 2.13 needs {least}"
    if sku.share == "unknown":
        yield "how much of its GPU a machine gets is not documented"
    elif sku.share is not None and not asked_for and not sku.as_found:
        yield f"{sku.share} of a GPU; shares are taken only when resource.instanceType names them"
