"""What brings GPU nodes and takes them away again. The docstrings are the contract that every provider keeps.

Words: an *offer* is a machine size that can be had, on demand or as spot. A *group* is all nodes that the same worker
pods may use; its pods select them by one label. A *pool* is what the provider keeps for one offer of a group, with as
many nodes as are wanted; falling back to another size or to on-demand means another pool of the same group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from kairay.errors import KairayError

GROUP_LABEL: Final = "kairay.dev/pool"
"""On nodes and in worker pods' node selectors: the group's name. No other autoscaler's pool has it."""
MANAGED_LABEL: Final = "kairay.dev/managed-by"
MANAGER: Final = "kairay"
"""With this label a pool is ours, and its nodes are."""
GPU_TAINT_KEY, GPU_TAINT_VALUE, GPU_TAINT_EFFECT = "sku", "gpu", "NoSchedule"
"""Of the taint that every pool of ours has, which keeps other pods off; the convention of AKS's guides and of KAITO."""
POOL_NAME_LIMIT: Final = 12
"""Characters of an AKS agent pool's name: `[a-z][a-z0-9]*`."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Offer:
    """A machine size that can be had."""

    instance_type: str
    spot: bool = False

    def __str__(self) -> str:
        return f"{self.instance_type} (spot)" if self.spot else self.instance_type


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """Nodes that the same worker pods may use, and in which order to try to get them."""

    name: str
    """At most 12 characters of `[a-z0-9]`; derived from all below but the order of later offers, so it is stable."""
    offers: tuple[Offer, ...]
    """The plan's choice first, then what may stand in for it."""
    gpus_per_node: Mapping[str, int]
    """By instance type."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What its nodes carry beside `GROUP_LABEL`: the Workspace's own selector."""
    tenant: str = ""
    """Whose it is: a namespace, `namespace/workspace`, or empty for the whole cluster."""
    image_family: str | None = None
    """KAITO's annotation: `azurelinux` or `ubuntu`; None: the provider's default."""
    mig: str | None = None
    """Parts of the MIG slices that each GPU is cut into, such as `1g`; their memory follows from the size, and
    `gpus_per_node` counts them. None: whole GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A pool as it should be made."""

    name: str
    """Of the provider: `[a-z][a-z0-9]{0,11}`."""
    group: NodeGroup
    offer: Offer


class PoolState(StrEnum):
    """What a provider says of a pool."""

    READY = "Ready"
    """At rest: it may be changed."""
    BUSY = "Busy"
    """An operation is under way (ours, an upgrade, another's): it must not be changed now."""
    FAILED = "Failed"
    """The last operation failed; `refusal` says why. It may be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as it is."""

    name: str
    group: str | None
    """Its group's name; None: not ours, never touched."""
    offer: Offer
    count: int
    """Nodes that the provider means to have; those that joined are Kubernetes' to tell."""
    state: PoolState
    phase: str
    """The provider's own word for what it does: `Scaling`, `Creating`."""
    bounds: tuple[int, int] | None = None
    """(least, most) where another autoscaler decides the count; then only the bounds are set."""
    mig: str | None = None
    """As `NodeGroup.mig`; it cannot be changed."""
    refusal: Refusal | None = None
    version: str = ""
    """Changes with every write (an ETag); a write of an older one is refused with CONFLICT."""


class RefusalKind(StrEnum):
    """Why a provider does not do what it was asked: a closed list, the reason in a Workspace's condition."""

    QUOTA = "QuotaExceeded"
    """Of the size's family; another family may do."""
    SPOT_QUOTA = "SpotQuotaExceeded"
    """Of all spot machines; on demand may do."""
    REGION_QUOTA = "RegionQuotaExceeded"
    """Of all machines in the region: no size helps."""
    CAPACITY = "NoCapacity"
    """The cloud has none of them now."""
    RESTRICTED = "SizeNotAvailable"
    """This subscription, region or cluster cannot have the size."""
    CONSTRAINT = "ConstraintsNotMet"
    """Zones, disks or placement that the size does not offer."""
    BUSY = "OperationInProgress"
    """Another operation runs; ask again."""
    THROTTLED = "Throttled"
    CONFLICT = "PoolChanged"
    """Somebody else wrote it since it was read; read it again."""
    AUTOSCALED = "AutoscalerDecides"
    """Another autoscaler was turned on for the pool: only bounds can be set."""
    NETWORK = "SubnetFull"
    DENIED = "PermissionMissing"
    POLICY = "PolicyForbids"
    LIMIT = "PoolLimit"
    """So many pools are not possible."""
    NODE = "NodeDidNotStart"
    """A machine came and did not become a node."""
    GONE = "PoolGone"
    """Somebody deleted it."""
    INVALID = "ProviderRefuses"
    """Anything else that is permanent as it stands."""
    UNAVAILABLE = "ProviderUnavailable"
    """No answer, or an error of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why not, and what follows from it."""

    kind: RefusalKind
    code: str
    """The provider's own word, as a person would search for it."""
    message: str
    """One sentence for the Workspace's status, with the remedy."""
    avoid_seconds: float = 0.0
    """How long not to ask for this offer again; 0: it is not the offer's fault."""
    retry_after: float = 0.0
    """Until the same call may be tried again."""


class RefusedError(KairayError):
    """A provider refuses a call; `refusal` says what to do about it."""

    reason = "Refused"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message, reason=str(refusal.kind))
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What may still be had of an offer."""

    name: str
    """Of the quota, as the portal shows it."""
    used: int
    limit: int
    unit: str = "vCPU"
    family: str = ""
    """The sizes that one quota limits together, whichever quota is the tightest; empty: those of `name`."""
    per_node: int
    """Units that one node takes."""
    restriction: str | None = None
    """The size cannot be had in this region or subscription at all, in the provider's words."""

    @property
    def nodes(self) -> int:
        """Nodes that it still allows."""
        return 0 if self.restriction else max(0, self.limit - self.used) // max(1, self.per_node)


class NodeProvider(Protocol):
    """One way to get nodes.

    Nothing blocks until a cloud has finished: a write returns when it was accepted, and `pools` tells how it goes on.
    Nothing is tried again inside. Every call may raise RefusedError; no other error leaves a provider.
    """

    async def pools(self) -> tuple[Pool, ...]:
        """All pools of the cluster, ours and others', in one call (or one per page)."""

    async def ensure(self, spec: PoolSpec, count: int) -> None:
        """Make the pool with `count` nodes in one write. CONFLICT when a pool of that name is there already."""

    async def scale(self, pool: Pool, count: int) -> None:
        """Set the count of a pool of ours (or, with `bounds`, raise the upper one to it) in one write.

        Never used to take nodes away: which ones go would be the provider's choice.
        """

    async def remove(self, pool: Pool, nodes: Iterable[str]) -> None:
        """Delete exactly these nodes and lower the count by as many. Names that are gone already are fine."""

    async def delete(self, pool: Pool) -> None:
        """Delete an empty pool of ours. Absent is fine."""

    async def quota(self, offers: Iterable[Offer]) -> Mapping[Offer, Quota]:
        """What is known of these offers; one that is missing is unknown, which never stands in the way.

        Remembered for ten minutes by the implementation, so that it may be asked at every pass.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNode:
    """A node of a group, as Kubernetes has it."""

    name: str
    group: str
    pool: str
    """The provider's pool."""
    gpus: int
    """Advertised by its device plugin; 0 until that runs."""
    ready: bool
    cordoned: bool
    created: datetime
    trouble: str | None = None
    """A sentence, when its own conditions say that its GPU or the machine is going."""
