"""Machine sizes as frozen values: the GPU sizes of `presets/skus/*.csv`, and this machine as one more.

The tables are shipped because Azure's own list is not reliable for GPUs (missing for some sizes, 1 for shares
of a GPU) and a price is not availability (retired sizes are still priced). Sizes of memory are the advertised
ones read as GiB; what a driver keeps back is covered by the share of memory that a plan may use
(`memory.UTILISATION`). `prices` puts other prices in; a node that no table knows says itself what it is.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from kairay.machine import MachineProbe, ProbedGpu, probe_machine
from kairay.resources import data_dir
from kairay.values import near_words

__all__ = [
    "CLOUDS",
    "Device",
    "MachineProbe",
    "ProbedGpu",
    "Sku",
    "SkuKind",
    "SkuStatus",
    "allocatable",
    "find_sku",
    "folded_name",
    "load_skus",
    "local_machine",
    "nearest_skus",
    "probe_machine",
]

LOWEST_CAPABILITY = (7, 5)
"""CUDA compute capability below which torch 2.13 has no kernels (Turing is the oldest)."""
LOWEST_BF16_CAPABILITY = (8, 0)
"""Ampere brought bfloat16 units; a T4 computes in float16."""

_GIB = 2**30
_KEPT_MEMORY = 5 * _GIB // 2
_LIKENESS = 0.7
"""difflib's ratio from which a name counts as mistyped: a letter or a last part that is missing gives 0.85 or more."""
# KAITO and the price list call this size by a name of their own.
_OTHER_NAMES = {"standard_nd96asr_a100_v4": "standard_nd96asr_v4"}


class SkuKind(StrEnum):
    """Whose machine it is."""

    AZURE = "azure"
    AWS = "aws"
    AZURE_LOCAL = "azure-local"
    """AKS on machines of one's own (Arc)."""
    LOCAL = "local"
    NODE = "node"
    """A node that says itself what GPUs it has."""


CLOUDS = (SkuKind.AZURE, SkuKind.AWS, SkuKind.AZURE_LOCAL)
"""Those with a table of sizes; a plan compares the sizes of one of them."""


class Device(StrEnum):
    """What computes."""

    CPU = "cpu"
    CUDA = "cuda"


class SkuStatus(StrEnum):
    """Azure's word on a size; whether it is retired on a day is `Sku.retired`."""

    AVAILABLE = "available"
    PREVIOUS = "previous"
    UNLISTED = "unlisted"
    """Not among the sizes that AKS lists."""
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sku:
    """One machine size; bytes are per machine or per GPU as named, prices are of one machine in US
    dollars."""

    name: str
    kind: SkuKind
    device: Device
    vendor: str | None = None
    gpu: str | None = None
    """The GPU's model, as people call it."""
    gpus: int = 0
    share: str | None = None
    """The part of one GPU that a virtual GPU gets, such as `1/6`, the profile of its MIG slices, such as `1g.10gb`, or
    `unknown`; None: whole GPUs."""
    bytes_per_gpu: int = 0
    cores: int = 0
    ram_bytes: int = 0
    """0 when nobody documents it."""
    as_found: bool = False
    """Of nodes that are there, whose GPUs are whole or cut as they are; nobody cuts them for a Workspace."""
    free_bytes: int | None = None
    """This machine: memory of its device that nothing holds now; plans only warn by it."""
    compute_capability: tuple[int, int] | None = None
    architecture: str = "x64"
    bf16: bool = False
    """The device has bfloat16 units."""
    status: SkuStatus = SkuStatus.AVAILABLE
    retired_on: str | None = None
    """ISO date, or the year where no day is known."""
    replacements: tuple[str, ...] = ()
    """Microsoft's recommendation first."""
    usd_per_hour: float | None = None
    """Pay as you go, Linux."""
    spot_usd_per_hour: float | None = None
    """As a spot machine; only from a price file, as it changes by the day."""
    price_region: str | None = None
    price_as_of: str | None = None
    quota_family: str | None = None
    """Azure's name of the quota that its cores count against; None where it is not known."""
    systems: tuple[str, ...] = ()
    """Node images that AKS offers for it; the first is the usual one."""
    nvme: str | None = None
    """Local NVMe disks, such as `8x3.5TiB`; `yes` where their size is not known."""
    rdma: str | None = None
    """InfiniBand (EFA on AWS) between machines, such as `400Gb/s x8`; `yes` where the speed is not known."""
    note: str | None = None
    """What a person should know before taking it."""
    without_gpu: Sku | None = None
    """This machine, when it has GPUs: its processor alone."""

    def retired(self, today: date) -> bool:
        """No machine of this size can be had any more."""
        return self.retired_on is not None and self.retired_on <= today.isoformat()

    @property
    def hardware(self) -> str:
        """The device in words: `2 × A10 24 GiB`, `1/6 × A10 4 GiB`, `4 cores, 16 GiB`."""
        if self.device is Device.CPU:
            return f"{self.cores} cores, {self.ram_bytes / _GIB:.0f} GiB"
        size = f" {self.bytes_per_gpu / _GIB:.0f} GiB" if self.bytes_per_gpu else ""
        if self.share is not None and "g." in self.share:
            return f"{self.gpus} × {self.share} of {self.gpu}"
        if self.share is not None:
            return f"{'a share' if self.share == 'unknown' else self.share} × {self.gpu}{size}"
        return f"{self.gpus or '?'} × {self.gpu}{size}"


def allocatable(sku: Sku) -> tuple[int, int]:
    """Cores and bytes of memory that pods may ask of a node of this size; 0 bytes where they are not known.

    A pod of nominal size never schedules: the kubelet and the system keep some. AKS: under one core up to 64,
    and 20 MiB for each of 110 pods, 50 MiB, and 100 MiB before pods are put out, 2.3 GiB in all ("Node resource
    reservations" of its docs). Kept back here: one core, and a tenth of the memory or 2.5 GiB, what is more.
    """
    kept = max(sku.ram_bytes // 10, _KEPT_MEMORY)
    return max(1, sku.cores - 1), max(0, sku.ram_bytes - kept)


def find_sku(name: str, skus: Mapping[str, Sku]) -> Sku | None:
    """The size with this name, whatever the case, or by a name that KAITO uses for it."""
    if name in skus:
        return skus[name]
    return {known.casefold(): sku for known, sku in skus.items()}.get(folded_name(name))


def folded_name(name: str) -> str:
    """What all names of one size have in common: one case, and of KAITO's name and Azure's the latter."""
    folded = name.casefold()
    return _OTHER_NAMES.get(folded, folded)


def nearest_skus(name: str, skus: Mapping[str, Sku], today: date) -> list[str]:
    """Up to three names that look like `name`, of sizes that can be had; empty when none is its mistyped name.

    The first letter is the family's: a processor's size (Standard_D4s_v5, m5.xlarge) is no mistyped GPU size.
    """
    family = _bare(name)[:1]
    known = [sku.name for sku in skus.values() if not sku.retired(today) and _bare(sku.name)[:1] == family]
    return near_words(name, known, most=3, cutoff=_LIKENESS, plain=_bare)


@cache
def load_skus() -> Mapping[str, Sku]:
    """Every size of every table by name, in the order of names, the retired ones included."""
    folder, skus = data_dir("presets") / "skus", []
    for cloud in CLOUDS:
        with (folder / f"{cloud}.csv").open(encoding="utf-8", newline="") as lines:
            skus += [_parse(row) for row in csv.DictReader(lines, strict=True)]
    return MappingProxyType({sku.name: sku for sku in sorted(skus, key=lambda sku: sku.name)})


def local_machine(probe: MachineProbe) -> Sku:
    """This machine as a size: its GPUs when torch supports them all, else its processor and memory."""
    processor = Sku(
        name="this machine",
        kind=SkuKind.LOCAL,
        device=Device.CPU,
        cores=probe.cores,
        ram_bytes=probe.ram_bytes,
        free_bytes=probe.available_bytes,
        bf16=probe.bf16,
    )
    if not probe.gpus or min(gpu.compute_capability for gpu in probe.gpus) < LOWEST_CAPABILITY:
        return processor
    capability = min(gpu.compute_capability for gpu in probe.gpus)
    return replace(
        processor,
        without_gpu=replace(processor, name="this machine, without its GPU"),
        device=Device.CUDA,
        vendor="nvidia",
        gpu=" + ".join(sorted({gpu.name for gpu in probe.gpus})),
        gpus=len(probe.gpus),
        bytes_per_gpu=min(gpu.total_bytes for gpu in probe.gpus),
        free_bytes=min(gpu.free_bytes for gpu in probe.gpus),
        compute_capability=capability,
        bf16=capability >= LOWEST_BF16_CAPABILITY,
    )


def _bare(name: str) -> str:
    """Without what most of Azure's names begin with, which would make all of them alike."""
    return name.casefold().removeprefix("standard_")


def _parse(row: Mapping[str, str]) -> Sku:
    capability = _capability(row["compute_capability"])
    return Sku(
        name=row["name"],
        kind=SkuKind(row["provider"]),
        device=Device.CUDA,
        vendor=row["vendor"],
        gpu=row["gpu"],
        gpus=int(row["gpus"] or 0),
        share=None if row["share"] == "1" else row["share"],
        bytes_per_gpu=int(row["gib_per_gpu"] or 0) * _GIB,
        cores=int(row["cores"] or 0),
        ram_bytes=int(row["ram_gib"] or 0) * _GIB,
        compute_capability=capability,
        architecture=row["architecture"],
        bf16=capability is not None and capability >= LOWEST_BF16_CAPABILITY,
        status=SkuStatus(row["status"]),
        retired_on=row["retired_on"] or None,
        replacements=tuple(name for name in row["replacements"].split(";") if name),
        usd_per_hour=float(row["usd_per_hour"]) if row["usd_per_hour"] else None,
        price_region=row["price_region"] or None,
        price_as_of=row["price_as_of"] or None,
        quota_family=row["quota_family"] or None,
        systems=tuple(name for name in row["systems"].split(";") if name),
        nvme=row["nvme"] or None,
        rdma=row["rdma"] or None,
        note=row["note"] or None,
    )


def _capability(written: str) -> tuple[int, int] | None:
    major, _, minor = written.partition(".")
    return (int(major), int(minor)) if major else None
