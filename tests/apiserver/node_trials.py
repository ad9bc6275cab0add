"""What goes wrong with GPU nodes: how it is brought about, what the Workspace must say, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from node_breaks import (
    T4,
    Step,
    autoscaler_acts,
    autoscaler_ends,
    autoscaler_turned_on,
    azure_away,
    azure_back,
    azure_says,
    cloud_has,
    evicted,
    gpu_lost,
    more_work,
    never_has_gpus,
    never_joins,
    no_quota,
    nothing,
    pool_deleted,
    pool_of_others,
)

T4_8, A10, A100 = "Standard_NC8as_T4_v3", "Standard_NC16ads_A10_v4", "Standard_NC24ads_A100_v4"
"""The next size of the plan's family, the first of another one; and one that is asked for by name."""
MINUTE, HOUR = 60.0, 3600.0
NODES_READY: Final = "NodesReady"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One thing that goes wrong, and the way out of it."""

    name: str
    breaks: Step
    when: str = "before"
    """`before` the pod is there, when a node has been `asked` for, or when it is `ready`."""
    mends: Step = lambda stage: stage.azure.cloud.faults.clear()
    """What a person does, or what passes by itself, after the Workspace has said what is wrong."""
    reason: str
    says: str
    within: float = 5 * MINUTE
    """Until it is said."""
    lasts: float = 2 * MINUTE
    """From then until it is mended, with a controller that has started anew."""
    size: str | None = T4
    """Of the node that comes in the end; None: none does, since it is avoided for most of a day."""
    arrives: float = 10 * MINUTE
    """Until the node is ready after that."""
    puts: int = 2
    removals: int = 1
    deletions: int = 1
    ends: Step = lambda stage: None
    """What else happens when the work is done."""
    resource: tuple[tuple[str, Any], ...] = ()
    """Of the Workspace, beside its labels."""


ONE_SIZE: Final = (("instanceType", A100),)
SPOT: Final = (("spot", True),)

REFUSED_SIZES: Final = (
    Trial(
        name="no quota of the family, seen before asking", breaks=no_quota, mends=nothing,
        reason="NodesComing", says="quota", size=A10, puts=1, deletions=1,
    ),
    Trial(
        name="quota of the family, said by the call", breaks=azure_says("family quota", size=T4),
        mends=nothing, reason="NodesComing", says="is used up", size=A10,
    ),
    Trial(
        name="quota of spot machines", breaks=azure_says("spot quota", spot=True), mends=nothing,
        reason="NodesComing", says="spot vCPUs is used up", deletions=2, resource=SPOT,
    ),
    Trial(
        name="size not offered", breaks=azure_says("size not available", size=T4), mends=nothing,
        reason="NodesComing", says=f"{T4} is not offered", size=T4_8, deletions=2,
    ),
    Trial(
        name="size restricted in the region's list", breaks=cloud_has(restricted={T4: "NotAvailableForSubscription"}),
        mends=nothing, reason="NodesComing", says="NotAvailableForSubscription", size=T4_8, puts=1,
    ),
    Trial(
        name="the only size is not taken", breaks=azure_says("size not for this subscription"), resource=ONE_SIZE,
        reason="SizeNotAvailable", says="does not take " + A100, size=None, puts=1, removals=0, deletions=0,
    ),
    Trial(
        name="no capacity in the region", breaks=cloud_has(capacity={T4: 0}), mends=nothing,
        reason="NodesComing", says=f"Azure has none of {T4}", size=T4_8, deletions=2,
    ),
    Trial(
        name="no capacity in the zone", breaks=azure_says("no capacity in the zone", size=T4), mends=nothing,
        reason="NodesComing", says="left in the zone", size=T4_8, deletions=2,
    ),
    Trial(
        name="no capacity of the only size", breaks=cloud_has(capacity={A100: 0}), mends=cloud_has(capacity={}),
        resource=ONE_SIZE, reason="NoCapacity", says="none of its sizes can be had", size=A100,
        arrives=HOUR + 10 * MINUTE, deletions=2,
    ),
    Trial(
        name="the pool fails and its machine comes", breaks=azure_says("no capacity", times=1, arrive=1),
        mends=nothing, reason="NodesReady", says="have room", puts=2, deletions=2,
    ),
    Trial(
        name="constraints of the only size", breaks=azure_says("overconstrained"), resource=ONE_SIZE,
        reason="ConstraintsNotMet", says="does not meet all constraints", size=A100,
        arrives=HOUR + 10 * MINUTE, deletions=2,
    ),
    Trial(
        name="zone without the size", breaks=azure_says("zone not supported", size=T4), mends=nothing,
        reason="NodesComing", says="leave the zones out", size=T4_8,
    ),
    Trial(
        name="anything else, for the only size", breaks=azure_says("anything else"), resource=ONE_SIZE,
        reason="ProviderRefuses", says="The moon is full", size=A100, arrives=20 * MINUTE,
    ),
)  # fmt: skip

HELD: Final = (
    Trial(
        name="quota of the region", breaks=azure_says("region's quota"), reason="RegionQuotaExceeded",
        says="no other size helps", arrives=20 * MINUTE, deletions=2,
    ),
    Trial(
        name="subnet full", breaks=azure_says("subnet full"), reason="SubnetFull", says="KAIRAY_AKS_SUBNET",
        deletions=2,
    ),
    Trial(
        name="no right on the subnet", breaks=azure_says("no right on the subnet"), reason="PermissionMissing",
        says="Microsoft.Network/virtualNetworks/subnets/join/action", puts=3,
    ),
    Trial(
        name="no right on the cluster", breaks=azure_says("no right on the cluster"), reason="PermissionMissing",
        says="Microsoft.ContainerService/managedClusters/agentPools/write", puts=3,
    ),
    Trial(name="resource lock", breaks=azure_says("locked"), reason="PermissionMissing", says="az lock list", puts=3),
    Trial(
        name="provider not registered", breaks=azure_says("not registered"), reason="PermissionMissing",
        says="az provider register -n Microsoft.Compute", puts=3,
    ),
    Trial(name="policy", breaks=azure_says("policy"), reason="PolicyForbids", says="no GPUs"),
    Trial(name="too many pools", breaks=azure_says("pool limit by text"), reason="PoolLimit", says="(100)", puts=3),
    Trial(
        name="refused without a code", breaks=azure_says("denied, by status"), reason="PermissionMissing",
        says="assign the role", puts=4,
    ),
)  # fmt: skip

UNANSWERED: Final = (
    Trial(
        name="no federated credential", breaks=azure_says("no federated credential", call="GET pools"),
        reason="PermissionMissing", says="service account", puts=1,
    ),
    Trial(
        name="token expired, for every call", breaks=azure_says("token expired", call=""),
        reason="PermissionMissing", says="no login to Azure", puts=1,
    ),
    Trial(
        name="no such cluster", breaks=azure_says("no such cluster", call="GET pools"),
        reason="ProviderRefuses", says="KAIRAY_AKS_CLUSTER", puts=1,
    ),
    Trial(
        name="lists throttled", breaks=azure_says("throttled", call="GET pools"), reason="Throttled",
        says="Azure wants fewer calls", puts=1,
    ),
    Trial(
        name="server errors", breaks=azure_says("server error, by status", call="GET pools"),
        reason="ProviderUnavailable", says="does not answer as it should", puts=1,
    ),
    Trial(
        name="nobody answers", breaks=azure_away, mends=azure_back, when="asked", reason="ProviderUnavailable",
        says="does not answer as it should", puts=1,
    ),
)  # fmt: skip

WAITED: Final = (
    Trial(
        name="an operation of the cluster", breaks=cloud_has(cluster_busy_until=150.0), mends=nothing,
        reason="OperationInProgress", says="AKS is at work", puts=6,
    ),
    Trial(
        name="throttled", breaks=azure_says("throttled"), reason="Throttled", says="Azure wants fewer calls",
        puts=16,
    ),
    Trial(
        name="region overloaded", breaks=azure_says("region too busy"), reason="ProviderUnavailable",
        says="AKS is overloaded", arrives=40 * MINUTE,
    ),
    Trial(
        name="cluster stopped", breaks=azure_says("cluster stopped"), reason="ProviderUnavailable",
        says="az aks start",
    ),
    Trial(
        name="failed without a cause", breaks=azure_says("failed without a reason", times=1), mends=nothing,
        reason="ProviderUnavailable", says="az aks nodepool show", deletions=2,
    ),
    Trial(
        name="disruption budget", breaks=azure_says("disruption budget", times=1), mends=nothing,
        reason="OperationInProgress", says="disruption budget", deletions=2,
    ),
    Trial(
        name="overtaken by another operation", breaks=azure_says("overtaken", times=1), mends=nothing,
        reason="OperationInProgress", says="AKS is at work", deletions=2,
    ),
)  # fmt: skip

OTHERS: Final = (
    Trial(
        name="somebody's pool has our name", breaks=pool_of_others, mends=nothing, reason="NodesComing",
        says="it is not touched", size=T4_8, puts=1,
    ),
    Trial(
        name="somebody deletes the pool while it is made", breaks=pool_deleted, when="asked", mends=nothing,
        reason="NodesComing", says="waiting for 1", lasts=0.0,
    ),
    Trial(
        name="somebody changes the pool as it grows", when="ready", mends=nothing,
        breaks=more_work(azure_says("changed, by code", times=1)), reason="PoolChanged", says="read again",
        lasts=0.0, puts=3, within=MINUTE,
    ),
    Trial(
        name="an autoscaler is turned on", breaks=more_work(autoscaler_turned_on), when="ready", mends=autoscaler_acts,
        reason="NodesComing", says="the autoscaler of pool", removals=0, ends=autoscaler_ends,
    ),
)  # fmt: skip

NODES: Final = (
    Trial(
        name="a machine that did not become a node", breaks=azure_says("node did not start", size=T4), mends=nothing,
        reason="NodesComing", says="mcr.microsoft.com", size=T4_8, deletions=2,
    ),
    Trial(
        name="a node that does not join", breaks=never_joins, when="asked", mends=nothing, reason="NodesComing",
        says="did not join within 20 min", within=25 * MINUTE, size=T4_8, puts=2, removals=2, deletions=2,
    ),
    Trial(
        name="a node without GPUs", breaks=never_has_gpus, when="asked", mends=nothing, reason="NodeDidNotStart",
        says="has no GPUs after 20 min", within=30 * MINUTE, lasts=0.0, arrives=20 * MINUTE, removals=2,
    ),
    Trial(
        name="a GPU that is lost", breaks=gpu_lost, when="ready", mends=nothing, reason="NodesComing",
        says="waiting for 1", lasts=0.0, removals=2,
    ),
    Trial(
        name="an evicted spot machine", breaks=evicted, when="ready", mends=nothing, reason="NodesComing",
        says="waiting for 1", lasts=0.0, resource=SPOT,
    ),
    Trial(
        name="machines that cannot be removed at once", when="ready", reason=NODES_READY, says="have room",
        breaks=azure_says("an operation of the pool", call="POST deleteMachines", times=2), mends=nothing,
        puts=1, removals=3,
    ),
    Trial(
        name="a pool that cannot be deleted at once", when="ready", reason=NODES_READY, says="have room",
        breaks=azure_says("locked", call="DELETE pool", times=2), mends=nothing, puts=1, deletions=3,
    ),
)  # fmt: skip

TRIALS: Final = (*REFUSED_SIZES, *HELD, *UNANSWERED, *WAITED, *OTHERS, *NODES)
