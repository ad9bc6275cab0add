"""A machine as the Node object that it would register as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.sizes import family_and_cores, gpus_of, ram_of

_SLICES = {None: 1, "MIG1g": 7, "MIG2g": 3, "MIG3g": 2, "MIG4g": 1, "MIG7g": 1}
"""Devices that a GPU is advertised as, by the strategy `single`."""


def node_manifest(pool: str, properties: Mapping[str, Any], machine: str, *, gpus: bool) -> dict[str, Any]:
    """What kubelet and the cloud provider write; `gpus`: the device plugin has advertised them."""
    size = str(properties["vmSize"])
    spot = properties.get("scaleSetPriority") == "Spot"
    count = gpus_of(size) * _SLICES[properties.get("gpuInstanceProfile")]
    room = {"cpu": str(family_and_cores(size)[1]), "memory": f"{ram_of(size) // 2**30}Gi", "pods": "110"}
    room |= {"nvidia.com/gpu": str(count)} if count and gpus else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": machine, "labels": labels_of(pool, properties, machine)},
        "spec": {
            "providerID": f"azure:///simulated/{pool}/{machine}",
            "taints": [_taint(each) for each in taints_of(properties, spot)],
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def labels_of(pool: str, properties: Mapping[str, Any], machine: str) -> dict[str, str]:
    """AKS's own and those of the pool."""
    size = str(properties["vmSize"])
    given = {
        "kubernetes.io/hostname": machine,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": size,
        "kubernetes.azure.com/agentpool": pool,
        "agentpool": pool,
        "kubernetes.azure.com/mode": str(properties.get("mode", "User")).lower(),
    }
    if gpus_of(size):
        given["kubernetes.azure.com/accelerator"] = "nvidia"
    if properties.get("scaleSetPriority") == "Spot":
        given["kubernetes.azure.com/scalesetpriority"] = "spot"
    return {**given, **(properties.get("nodeLabels") or {})}


def taints_of(properties: Mapping[str, Any], spot: bool) -> list[str]:
    """AKS's own and those of the pool."""
    own = ["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"] if spot else []
    return [*own, *(properties.get("nodeTaints") or ())]


def _taint(written: str) -> dict[str, str]:
    key, _, rest = written.partition("=")
    value, _, effect = rest.partition(":")
    return {"key": key, "value": value, "effect": effect}
