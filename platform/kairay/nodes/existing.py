"""Nodes that are there already, chosen by the Workspace's labels, and the machine sizes that they are.

A node's size is Azure's, by its instance-type label, or what NVIDIA's feature discovery says of its GPUs. A size
that nobody can buy any more counts when a node of it stands there. GPUs that are cut by MIG are seen as their slices
under the strategy `single` of NVIDIA's device plugin: feature discovery then names the profile in the product
(`NVIDIA-A100-SXM4-80GB-MIG-1g.10gb`) and gives the slice's memory. The strategy `mixed` has resources of other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kairay.quantities import parse_bytes
from kairay.skus import LOWEST_BF16_CAPABILITY, Device, Sku, SkuKind, SkuStatus, find_sku
from kairay.workspace import LabelSelector

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_PRODUCT, _MEMORY, _COUNT = "nvidia.com/gpu.product", "nvidia.com/gpu.memory", "nvidia.com/gpu.count"
_MAJOR, _MINOR = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"
GPU = "nvidia.com/gpu"
_SLICE = "nvidia.com/mig-"
"""Begins the names of resources under the strategy `mixed`: nvidia.com/mig-1g.10gb."""
_CUT = re.compile(r"(.+)-MIG-([1-7]g\.[0-9]+gb(?:\.me)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What matters of a node."""

    name: str
    labels: Mapping[str, str]
    ready: bool
    gpus: int
    """Advertised by its device plugin."""
    cpus: int
    memory: int
    slices: tuple[str, ...] = ()
    """Resources of single profiles that it advertises, such as nvidia.com/mig-1g.10gb (strategy `mixed`)."""

    @property
    def mig(self) -> str | None:
        """Profile of the slices that all its GPUs are cut into, each a `nvidia.com/gpu`; None: they are not."""
        found = _CUT.fullmatch(self.labels.get(_PRODUCT, ""))
        return None if found is None else found[2].replace(".me", "+me")

    @property
    def instance_type(self) -> str | None:
        """The cloud's name of its size."""
        return self.labels.get(INSTANCE_TYPE)


def view_node(node: Mapping[str, Any]) -> NodeView:
    """A node as the API server writes it."""
    status = node.get("status", {})
    room = status.get("allocatable", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return NodeView(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        ready=ready and not node.get("spec", {}).get("unschedulable", False),
        gpus=parse_bytes(str(room.get(GPU, 0))),
        cpus=_cores(room.get("cpu", "0")),
        memory=parse_bytes(room.get("memory", "0")),
        slices=tuple(
            sorted(key for key, count in room.items() if key.startswith(_SLICE) and parse_bytes(str(count)))
        ),
    )


class NodeViews:
    """Views that are drawn once for each object, since every Workspace's pass looks at all nodes. For what a cache
    holds: an object in it stays as it is until another takes its place."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[Mapping[str, Any], NodeView]] = {}

    def of(self, nodes: Iterable[Mapping[str, Any]]) -> tuple[NodeView, ...]:
        """One view for each node; those that are not among them are forgotten."""
        before, self._drawn = self._drawn, {}
        for node in nodes:
            name = node["metadata"]["name"]
            known = before.get(name)
            self._drawn[name] = known if known is not None and known[0] is node else (node, view_node(node))
        return tuple(view for _, view in self._drawn.values())


def matching(nodes: Iterable[NodeView], selector: LabelSelector) -> tuple[NodeView, ...]:
    """Nodes that carry the labels, by name."""
    found = (
        node
        for node in nodes
        if selector.match_labels.items() <= node.labels.items()
        and all(node.labels.get(each.key) in each.values for each in selector.match_expressions)
    )
    return tuple(sorted(found, key=lambda node: node.name))


def sizes_on(nodes: Iterable[NodeView], skus: Mapping[str, Sku], mig: str | None = None) -> dict[str, Sku]:
    """The sizes of these nodes by name; nodes that do not say what GPUs they have are left out.

    `mig`: slices of this profile are asked for. Of two nodes of one size the one that is cut so counts. Where it is
    None, nodes that are cut count only if none is whole: KAITO's Workspaces say nothing of slices that all are alike.
    """
    sizes: dict[str, Sku] = {}
    nodes = sorted(nodes, key=lambda node: node.mig != mig)
    if mig is None and any(_is_whole(node, skus) for node in nodes):
        nodes = [node for node in nodes if node.mig is None]
    for node in nodes:
        if node.slices and not node.gpus:
            continue
        known = find_sku(node.instance_type, skus) if node.instance_type else None
        if known is None or node.mig is not None:
            size = _discovered(node, known)
        elif known.name in sizes:
            continue  # As hundreds of nodes before it.
        else:
            size = replace(known, retired_on=None, status=SkuStatus.AVAILABLE, as_found=True)
        if size is not None:
            sizes.setdefault(size.name, size)
    return sizes


def odd_node(nodes: Iterable[NodeView], mig: str | None) -> str | None:
    """Why pods that are planned for slices of this profile, or for whole GPUs (None), must not land on one of these
    nodes, with what to do; None: they may on all."""
    for node in nodes:
        if node.slices and not node.gpus:
            return (
                f"node {node.name} advertises {', '.join(node.slices)}, names that are not asked for; set the strategy"
                " `single` in NVIDIA's device plugin (migStrategy) and cut all its GPUs alike"
            )
        if node.gpus and node.mig != mig:
            how = f"cut into MIG slices of {node.mig}" if node.mig else "not cut by MIG"
            wanted = "whole ones are" if mig is None else f"slices of {mig} are"
            return (
                f"the GPUs of node {node.name} are {how}, {wanted} planned and pods may land there; take the labels off"
                f" it, or name {_PRODUCT} in resource.labelSelector (a node that is cut and has no such label needs"
                " NVIDIA's GPU feature discovery)"
            )
    return None


def _is_whole(node: NodeView, skus: Mapping[str, Sku]) -> bool:
    """It has GPUs, which are not cut. A device plugin that restarts shows none for a moment: then labels tell."""
    if node.mig is not None:
        return False
    known = find_sku(node.instance_type, skus) if node.instance_type else None
    return node.gpus > 0 or _PRODUCT in node.labels or (known is not None and known.gpus > 0)


def _discovered(node: NodeView, known: Sku | None = None) -> Sku | None:
    """A size from the labels of NVIDIA's GPU feature discovery; what the table knows of the machine is kept."""
    labels = node.labels
    # A device plugin that restarts shows nothing for a moment; slices stay, and so must what is planned on them.
    said = labels.get(_COUNT, "") if node.mig is not None else ""
    gpus = node.gpus or (int(said) if said.isdigit() else 0)
    if not gpus or _PRODUCT not in labels or not labels.get(_MEMORY, "").isdigit():
        return None
    memory = int(labels[_MEMORY]) * 2**20
    if known is not None:
        return replace(
            known, gpus=gpus, share=node.mig, bytes_per_gpu=min(memory, known.bytes_per_gpu or memory),
            retired_on=None, status=SkuStatus.AVAILABLE, as_found=True,
        )  # fmt: skip
    capability = None
    if labels.get(_MAJOR, "").isdigit() and labels.get(_MINOR, "").isdigit():
        capability = (int(labels[_MAJOR]), int(labels[_MINOR]))
    return Sku(
        name=node.instance_type or labels[_PRODUCT],
        kind=SkuKind.NODE,
        device=Device.CUDA,
        vendor="nvidia",
        gpu=labels[_PRODUCT].partition("-MIG-")[0],
        gpus=gpus,
        share=node.mig,
        as_found=True,
        bytes_per_gpu=memory,
        cores=node.cpus,
        ram_bytes=node.memory,
        compute_capability=capability,
        bf16=capability is not None and capability >= LOWEST_BF16_CAPABILITY,
    )


def _cores(quantity: str) -> int:
    """Whole cores: the API server writes 3920m, 32, and 1k for a thousand."""
    return int(quantity[:-1]) // 1000 if quantity.endswith("m") else parse_bytes(quantity)
