"""What a look at the nodes is made of, and what may come of it: frozen values between scaling and its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kairay.nodes.demand import WorkerPod
from kairay.nodes.interface import GroupNode, NodeGroup, Offer, Pool, PoolSpec, Quota, RefusalKind
from kairay.nodes.remembered import Remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsurePool:
    """Make a pool: `provider.ensure(spec, count)`."""

    spec: PoolSpec
    count: int
    reason: str

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self.spec.name


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnPool:
    """To be done with a pool that is there."""

    target: Pool
    reason: str

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self.target.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePool(_OnPool):
    """More nodes, or as many as before once more: `provider.scale(pool, count)`."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNodes(_OnPool):
    """Exactly these nodes go: `provider.remove(pool, nodes)`."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePool(_OnPool):
    """An empty pool goes: `provider.delete(pool)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonNode:
    """No new pods on a node; those that are there stay. A write to Kubernetes, not to the provider."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UncordonNode:
    """New pods may come again to a node that we have cordoned."""

    node: str
    reason: str


PoolAction = EnsurePool | ScalePool | RemoveNodes | DeletePool
"""A write to the provider; at most one for a pool in a pass."""
NodeAction = PoolAction | CordonNode | UncordonNode


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesView:
    """What is there, at one moment."""

    groups: Mapping[str, NodeGroup]
    """Of the Workspaces that are there, by name (`merge_groups`)."""
    pods: tuple[WorkerPod, ...] = ()
    pools: tuple[Pool, ...] = ()
    """All of the cluster, others' too."""
    nodes: tuple[GroupNode, ...] = ()
    quotas: Mapping[Offer, Quota] = field(default_factory=dict)
    """What is known; one that is missing never stands in the way."""
    prices: Mapping[Offer, float | None] = field(default_factory=dict)
    """US dollars per hour."""
    in_use: frozenset[str] = frozenset()
    """Nodes with a pod that is neither a worker of ours nor a DaemonSet's."""
    gangs: frozenset[str] = frozenset()
    """`namespace/workspace` of those whose workers are of no use unless all are there."""
    suggestions: Mapping[str, tuple[Offer, ...]] = field(default_factory=dict)
    """By group: what would do as well and its Workspaces do not allow; only named in sentences."""
    provider: str = "Azure"
    """Its name in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSettings:
    """How patient scaling is; seconds."""

    settle_seconds: float = 1.0
    """Growth waits until no newer pod has come for so long,"""
    settle_limit: float = 3.0
    """and at most so long."""
    idle_seconds: float = 120.0
    """A node without work stays so long."""
    look_again_seconds: float = 2.0
    """Least time between closing a node and removing it."""
    busy_seconds: float = 15.0
    """A pool at work is looked at again after so long."""
    empty_pool_seconds: float = 3600.0
    """An empty pool that nobody uses stays so long."""
    pool_limit: int = 90
    """Of AKS' 100 pools of a cluster."""
    start_seconds: float = 1200.0
    """A node that has not joined so long after its pool came to rest does not come."""
    failed_seconds: float = 60.0
    """A failed pool without nodes goes after so long: what came before it failed joins meanwhile."""
    gpu_seconds: float = 1200.0
    """A node that is ready gets its GPUs in this time."""
    not_ready_seconds: float = 600.0
    """A node that is not ready for so long is given up."""
    gang_seconds: float = 900.0
    """Nodes of an incomplete set are kept so long,"""
    gang_pause_seconds: float = 900.0
    """and the set is asked for again after so long."""
    evictions: int = 3
    """So many spot nodes lost"""
    eviction_window: float = 1800.0
    """in this time"""
    on_demand_seconds: float = 3600.0
    """make the group use on-demand nodes for so long."""
    changes: int = 2
    """So many changes of a pool by somebody else"""
    change_window: float = 3600.0
    """in this time make us leave it alone as long."""
    pool_burst: int = 20
    pool_interval: float = 60.0
    """AKS: 20 PUTs of a pool at once, then one a minute."""
    call_burst: int = 60
    call_interval: float = 1.0
    """AKS: 60 calls of a subscription at once, then one a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWord:
    """What the status of a Workspace says of its nodes."""

    message: str
    """One sentence."""
    refusal: RefusalKind | None = None
    """The condition's reason where something is refused or wrong; None: it only takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDecision:
    """What one pass wants."""

    actions: tuple[NodeAction, ...]
    """In the order in which they are done."""
    memory: Remembered
    """To be kept before the actions are done; it takes them for done (`refused` puts that right)."""
    words: Mapping[str, NodeWord]
    """By group: one word for the status of Workspaces that wait for it, or that something is wrong with."""
    again: datetime | None
    """When to look again though nothing has changed."""
