"""What `kairay doctor` has seen of a cluster and of what brings its nodes: frozen, and an Unseen where it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from kairay.cluster.findings import Unseen
from kairay.kube.interface import Right
from kairay.kube.objects import Manifest
from kairay.nodes.aks_quota import Market
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import Offer

CONTROLLER: Final = "kairay-controller"
"""The name of the Deployment, its ServiceAccount, its Lease and its ConfigMap."""
SYSTEM: Final = "kairay-system"
TABLES: Final = ("kairay-presets", "kairay-sizes")
"""ConfigMaps that the admission policies read."""
PROVIDER: Final = "KAIRAY_NODES_PROVIDER"

Objects = tuple[Manifest, ...] | Unseen
"""All of a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """What Karpenter's pools refer to."""

    group: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KarpenterSeen:
    """Karpenter in the cluster."""

    pools: frozenset[str] | Unseen
    """Resources of `karpenter.sh/v1`."""
    wanted: NodeClass
    node_class: Manifest | Unseen | None
    """None: it is not there, or its kind is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSeen:
    """The AKS cluster, as the login that was used sees it."""

    settings: AksSettings
    in_pod: bool
    """The controller's identity was used; else a person's login, whose refusals say nothing of the controller."""
    login: str | Unseen
    """How it went; Unseen: there is none."""
    cluster: Mapping[str, Any] | Unseen
    pools: tuple[Mapping[str, Any], ...] | Unseen
    market: Market
    """Empty where it could not be read; `usages` and `sizes` say why."""
    usages: Unseen | None = None
    sizes: Unseen | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The cluster of the current kube context."""

    server: str
    now: datetime
    version: str | Unseen
    """As the server writes it: `v1.34.1`."""
    resources: Mapping[str, frozenset[str] | Unseen] = field(default_factory=dict)
    """By API (`ray.io/v1`): what it has, in the plural; empty for one that is not there."""
    namespace: str = SYSTEM
    """Of the controller."""
    deployments: Objects = ()
    daemon_sets: Objects = ()
    nodes: Objects = ()
    storage_classes: Objects = ()
    lease: Manifest | Unseen | None = None
    account: Manifest | Unseen | None = None
    """The controller's ServiceAccount."""
    tables: Mapping[str, bool | Unseen] = field(default_factory=dict)
    """Of TABLES: whether it is there."""
    rights: Mapping[Right, bool | Unseen] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    """The controller's variables, or this machine's where it has none."""
    prices: str | Unseen | None = None
    """Text of the controller's price file; None: there is none where it is looked for."""
    in_pod: bool = False
    """This is the controller's pod, with its files."""
    azure: AzureSeen | Unseen | None = None
    """None: AKS does not bring the nodes; Unseen: its settings or its packages are not complete."""
    karpenter: KarpenterSeen | Unseen | None = None

    @property
    def answers(self) -> bool:
        """The API server does; else nothing of the rest is known."""
        return not isinstance(self.version, Unseen) or self.version.denied

    @property
    def provider(self) -> str:
        """Where GPU nodes come from: `existing`, `aks`, `karpenter`, or what else was written."""
        return self.settings.get(PROVIDER, "").strip() or "existing"

    @property
    def controller(self) -> Manifest | None:
        """Its Deployment."""
        found = () if isinstance(self.deployments, Unseen) else self.deployments
        return next((each for each in found if each["metadata"]["name"] == CONTROLLER), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one Workspace wants of a cluster, and what its status would say of nodes."""

    workspace: str
    ready: bool
    """Nodes are there, or come when they are wanted."""
    sentence: str
    """Which, or why not."""
    nodes: int = 1
    offers: tuple[Offer, ...] = ()
    """Sizes that may be brought for it, the best first; none where nodes are there already."""
    unseen: Unseen | None = None
    """Why its own config is not counted."""
