"""MIG: what NVIDIA calls the slices of a GPU, how many of one kind a GPU gives, and who cuts them. Pure.

A GPU has seven parts that compute and eight of memory; a slice takes whole ones of both (NVIDIA's MIG user guide,
"Supported MIG profiles"). All GPUs of a node are cut alike here, and a slice is a device of its own: the strategy
`single` of NVIDIA's device plugin, which advertises each as one `nvidia.com/gpu`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from kairay.errors import InputError
from kairay.skus import Sku, SkuKind

PARTS: Final = 7
"""Of a GPU that compute."""

_GIB: Final = 2**30
_PROFILE: Final = re.compile(r"([1-7])g\.([0-9]+)gb(\+me)?")
_CAPABILITIES: Final = frozenset({(8, 0), (9, 0), (10, 0)})
_EIGHTHS: Final = {1: (1, 2), 2: (2,), 3: (4,), 4: (4,), 7: (8,)}
"""Eighths of the memory that a slice of so many parts may have, the usual number first."""
_AKS_CAPABILITIES: Final = frozenset({(8, 0), (9, 0)})
"""A100, H100 and H200 ("Create a multi-instance GPU node pool" of AKS' docs)."""


class Cutter(StrEnum):
    """Who cuts the GPUs of new nodes."""

    ANYONE = "anyone"
    """Nodes that are there were cut by somebody, who may do it in any way."""
    AKS = "aks"
    """By an agent pool's `gpuInstanceProfile`, which names the parts only: the usual memory goes with them."""
    NOBODY = "nobody"
    """Karpenter: neither its NodePools nor the node classes of Azure and AWS know MIG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """A kind of slice, as it is written: `1g.10gb`, `1g.10gb+me`."""

    parts: int
    """Of seven that compute."""
    gib: int
    """As the name has it, which is rounded."""
    media: bool = False
    """With the media engines, of which a GPU has one set to give away."""

    @classmethod
    def parse(cls, text: str) -> MigProfile:
        """InputError for what is no profile."""
        written = _PROFILE.fullmatch(text)
        if written is None:
            raise InputError(f"resource.partition.profile {text!r} is not a MIG profile such as 1g.10gb")
        return cls(parts=int(written[1]), gib=int(written[2]), media=written[3] is not None)

    @property
    def size(self) -> str:
        """The parts that compute: `1g`."""
        return f"{self.parts}g"

    def __str__(self) -> str:
        return f"{self.size}.{self.gib}gb" + ("+me" if self.media else "")

    def eighths(self, sku: Sku) -> int | None:
        """Of a GPU's memory that the slice has; None: it has no such slice. Media engines go to one part."""
        counts = (1,) if self.media else _EIGHTHS.get(self.parts, ())
        if self.media and self.parts != 1:
            return None
        return next((count for count in counts if self.gib == _named_gib(sku, count)), None)


def cut(sku: Sku, text: str, cutter: Cutter = Cutter.ANYONE) -> Sku:
    """A size whose GPUs are all cut into slices of one profile: as many devices as slices, which cannot work together.

    A size of nodes that are there is taken as it is found. InputError for a GPU that has no MIG, a profile that it
    does not have, one that `cutter` cannot make, and nodes that are cut otherwise or not at all.
    """
    profile = MigProfile.parse(text)
    if sku.as_found:
        return _found(sku, text)
    if not _can_be_cut(sku):
        raise InputError("its GPUs cannot be cut by MIG")
    eighths, made = profile.eighths(sku), list(map(str, profiles_of(sku)))
    if eighths is None:
        raise InputError(f"its GPUs have no slices of {text}; they have {', '.join(made)}")
    if cutter is Cutter.AKS and (sku.compute_capability not in _AKS_CAPABILITIES or text not in made):
        ways = f"it makes {', '.join(made)} of them" if _aks_cuts(sku) else "it cuts A100, H100 and H200"
        raise InputError(f"AKS cannot cut its GPUs into {text}; {ways}")
    slices = 1 if profile.media else min(PARTS // profile.parts, 8 // eighths)
    memory = min(profile.gib * _GIB, eighths * sku.bytes_per_gpu // 8)
    return replace(sku, gpus=sku.gpus * slices, share=text, bytes_per_gpu=memory)


def profiles_of(sku: Sku) -> tuple[MigProfile, ...]:
    """The usual slices of a GPU, one for each number of parts, which are those that AKS makes too."""
    if not _can_be_cut(sku):
        return ()
    return tuple(
        MigProfile(parts=parts, gib=_named_gib(sku, eighths[0])) for parts, eighths in _EIGHTHS.items()
    )


def cutter_faults(text: str | None, cutter: Cutter, skus: Iterable[Sku]) -> Iterator[str]:
    """Why no node with such slices can come at all, with what to do instead."""
    if text is None:
        return
    if cutter is Cutter.NOBODY:
        yield (
            f"resource.partition.profile {text}: Karpenter's NodePools cannot cut GPUs; cut nodes yourself and give"
            " them the labels of resource.labelSelector (KAIRAY_NODES_PROVIDER=existing), or let AKS bring them cut"
            " (KAIRAY_NODES_PROVIDER=aks)"
        )
    elif cutter is Cutter.AKS and text not in (ways := _ways(skus)):
        yield f"resource.partition.profile {text}: AKS cannot cut any GPU so; these work: {', '.join(ways)}"


def cutter_hints(text: str | None, cutter: Cutter, skus: Iterable[Sku]) -> Iterator[str]:
    """What to know where it is open who brings the nodes."""
    ways = _ways(skus) if text is not None and cutter is Cutter.ANYONE else []
    if ways and text not in ways:
        yield (
            f"resource.partition.profile {text}: AKS cannot cut GPUs so, its nodes have to be cut by hand; it makes"
            f" {', '.join(ways)}"
        )


def is_profile(share: str | None) -> bool:
    """Whether a size's share of a GPU is a MIG slice, not a vendor's virtual GPU."""
    return share is not None and _PROFILE.fullmatch(share) is not None


def aks_profile(size: str) -> str:
    """`gpuInstanceProfile` of an agent pool whose GPUs are cut into slices of these parts: `MIG1g` for `1g`."""
    return f"MIG{size}"


def aks_size(written: str | None) -> str | None:
    """The parts that a `gpuInstanceProfile` names; None: whole GPUs."""
    return written.removeprefix("MIG") if written else None


def _named_gib(sku: Sku, eighths: int) -> int:
    """What a profile's name says of so many eighths of the memory, rounded (H100 NVL: 1g.12gb of 11.75)."""
    return int(sku.bytes_per_gpu / _GIB * eighths / 8 + 0.5)


def _found(sku: Sku, text: str) -> Sku:
    if sku.share == text:
        return sku
    how = f"are cut into {sku.share}" if is_profile(sku.share) else "are not cut, or no label says so"
    raise InputError(
        f"its GPUs {how}; cut them into {text} (with NVIDIA's GPU operator: kubectl label node NAME"
        f" nvidia.com/mig.config=all-{text}; GPU feature discovery gives the labels)"
    )


def _can_be_cut(sku: Sku) -> bool:
    return sku.compute_capability in _CAPABILITIES and sku.share is None


def _aks_cuts(sku: Sku) -> bool:
    return _can_be_cut(sku) and sku.compute_capability in _AKS_CAPABILITIES


def _ways(skus: Iterable[Sku]) -> list[str]:
    """Every profile that AKS makes of some size of Azure's, the small ones first."""
    sizes = [sku for sku in skus if _aks_cuts(sku) and sku.kind is SkuKind.AZURE and not sku.as_found]
    found = {(each.parts, each.gib): str(each) for sku in sizes for each in profiles_of(sku)}
    return [found[key] for key in sorted(found)]
