"""vCPUs and quota families of machine sizes."""

from __future__ import annotations

from typing import Any

from kairay.skus import find_sku, load_skus

SPOT, REGION = "lowPriorityCores", "cores"
_CPU_SIZES = {"Standard_D4s_v5": ("standardDSv5Family", 4)}


def family_and_cores(size: str) -> tuple[str, int]:
    """The quota that a machine of this size counts against, and by how much."""
    if size in _CPU_SIZES:
        return _CPU_SIZES[size]
    sku = find_sku(size, load_skus())
    return (sku.quota_family or f"{size}Family", sku.cores) if sku else (f"{size}Family", 4)


def gpus_of(size: str) -> int:
    """GPUs that its device plugin advertises."""
    sku = find_sku(size, load_skus())
    return sku.gpus if sku else 0


def ram_of(size: str) -> int:
    """Bytes."""
    sku = find_sku(size, load_skus())
    return sku.ram_bytes if sku and sku.ram_bytes else 16 * 2**30


def listed(location: str, restricted: dict[str, str]) -> list[dict[str, Any]]:
    """The region's `/skus`."""
    return [
        {
            "resourceType": "virtualMachines",
            "name": sku.name,
            "family": sku.quota_family or "",
            "locations": [location],
            "capabilities": [{"name": "vCPUs", "value": str(sku.cores)}],
            "restrictions": [_restriction(location, restricted[sku.name])] if sku.name in restricted else [],
        }
        for sku in load_skus().values()
    ]


def _restriction(location: str, reason: str) -> dict[str, Any]:
    return {
        "type": "Location",
        "values": [location],
        "restrictionInfo": {"locations": [location]},
        "reasonCode": reason,
    }
