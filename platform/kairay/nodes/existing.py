"""Nodes that are there already, chosen by the Workspace's labels, and the machine sizes that they are.

A node's size is Azure's, by its instance-type label, or what NVIDIA's feature discovery says of its GPUs. A size
that nobody can buy any more counts when a node of it stands there.
"""

from __future__ import annotations

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
        gpus=int(room.get(GPU, 0)),
        cpus=_cores(room.get("cpu", "0")),
        memory=parse_bytes(room.get("memory", "0")),
    )


def matching(nodes: Iterable[NodeView], selector: LabelSelector) -> tuple[NodeView, ...]:
    """Nodes that carry the labels, by name."""
    found = (
        node
        for node in nodes
        if all(node.labels.get(key) == value for key, value in selector.match_labels.items())
        and all(node.labels.get(each.key) in each.values for each in selector.match_expressions)
    )
    return tuple(sorted(found, key=lambda node: node.name))


def sizes_on(nodes: Iterable[NodeView], skus: Mapping[str, Sku]) -> dict[str, Sku]:
    """The sizes of these nodes by name; nodes that do not say what GPUs they have are left out."""
    sizes: dict[str, Sku] = {}
    for node in nodes:
        known = find_sku(node.instance_type, skus) if node.instance_type else None
        size = replace(known, retired_on=None, status=SkuStatus.AVAILABLE) if known else _discovered(node)
        if size is not None:
            sizes.setdefault(size.name, size)
    return sizes


def _discovered(node: NodeView) -> Sku | None:
    """A size from the labels of NVIDIA's GPU feature discovery."""
    labels = node.labels
    if not node.gpus or _PRODUCT not in labels or not labels.get(_MEMORY, "").isdigit():
        return None
    capability = None
    if labels.get(_MAJOR, "").isdigit() and labels.get(_MINOR, "").isdigit():
        capability = (int(labels[_MAJOR]), int(labels[_MINOR]))
    return Sku(
        name=node.instance_type or labels[_PRODUCT],
        kind=SkuKind.NODE,
        device=Device.CUDA,
        vendor="nvidia",
        gpu=labels[_PRODUCT],
        gpus=node.gpus,
        bytes_per_gpu=int(labels[_MEMORY]) * 2**20,
        cores=node.cpus,
        ram_bytes=node.memory,
        compute_capability=capability,
        bf16=capability is not None and capability >= LOWEST_BF16_CAPABILITY,
    )


def _cores(quantity: str) -> int:
    return int(quantity[:-1]) // 1000 if quantity.endswith("m") else int(float(quantity))
