"""What the simulated cloud keeps: the cluster's names, pools, machines and operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

AT_REST = ("Succeeded", "Failed", "Canceled")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Of the one cluster."""

    subscription: str = "00000000-0000-0000-0000-000000000001"
    resource_group: str = "ml"
    cluster: str = "ml"
    location: str = "eastus"

    @property
    def id(self) -> str:
        """ARM's."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerService/managedClusters/{self.cluster}"
        )


@dataclass(kw_only=True)
class Timings:
    """Virtual seconds from a call to what follows from it."""

    create: float = 240.0
    scale: float = 180.0
    update: float = 60.0
    delete: float = 120.0
    delete_machines: float = 60.0
    register: float = 120.0
    """Until a new machine is a node."""
    gpus: float = 60.0
    """From then on, until its GPUs are advertised."""


@dataclass(kw_only=True)
class Machine:
    """One virtual machine."""

    name: str
    joins_at: float
    gpus_at: float
    joined: bool = False
    gpus: bool = False


@dataclass(kw_only=True)
class Operation:
    """One long-running operation."""

    id: str
    pool: str
    doing: str
    """The pool's provisioningState meanwhile."""
    started: float
    ends: float
    error: dict[str, Any] | None = None
    """What it ends with; None: success."""
    leaving: tuple[str, ...] = ()
    """Machines that are gone when it ends."""
    status: str = "InProgress"


@dataclass(kw_only=True)
class AgentPool:
    """One agent pool: JSON of its properties, and what stands behind it."""

    name: str
    properties: dict[str, Any]
    machines: list[Machine] = field(default_factory=list)
    made: int = 0
    """Machines ever, for their names."""
    operation: str | None = None
    """The one under way."""

    @property
    def size(self) -> tuple[str, bool]:
        """VM size, and whether it is spot."""
        return str(self.properties["vmSize"]), self.properties.get("scaleSetPriority") == "Spot"

    @property
    def state(self) -> str:
        """provisioningState."""
        return str(self.properties["provisioningState"])


@dataclass(frozen=True, kw_only=True)
class NodeNews:
    """Nodes of a pool that came or went; `gpus`: whose GPUs are advertised now."""

    pool: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
