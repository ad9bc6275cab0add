"""Azure's failures, in its words as far as they are known from public reports, and what each must become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aks_scenario import A100, FAMILY
from kairay.nodes.interface import RefusalKind as K
from simulator import Fault

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One failure."""

    name: str
    fault: dict[str, Any]
    """Of `Fault`."""
    kind: K
    code: str | None = None
    """The refusal's; None: the fault's."""
    avoid: float = 0.0
    says: tuple[str, ...] = ()
    """Words of the message."""
    spot: bool = False

    def make(self) -> Fault:
        """A fresh fault, for the simulator counts in it."""
        return Fault(**self.fault)


def quota(name: str, limit: int = 100, used: int = 96) -> str:
    return (
        f"Operation could not be completed as it results in exceeding approved {name} quota. Additional details - "
        f"Deployment Model: Resource Manager, Location: eastus, Current Limit: {limit}, Current Usage: {used}, "
        "Additional Required: 48, (Minimum) New Limit Required: 144. Submit a request for Quota increase."
    )


def failed(code: str, message: str = "", **more: Any) -> dict[str, Any]:
    """An operation that fails after its call was accepted."""
    return {"code": code, "message": message, "operation": True, **more}


_PENDING = (
    "Operation is not allowed: Another agentpool operation (kra100 - Creating) is in progress, please wait for it to "
    "finish before starting a new operation. See https://aka.ms/aks-pending-operation for more details"
)
_MANAGED = (
    "Operation is not allowed because there's an in progress update managed cluster operation (operation ID: 1) on the "
    "managed cluster started on UTC 2026-05-22T07:19:23Z. Please wait for it to finish before starting a new operation."
)
_LINKED = (
    "The client '1' with object id '1' has permission to perform action "
    "'Microsoft.ContainerService/managedClusters/agentPools/write' on scope '/subscriptions/1'; however, it does not "
    "have permission to perform action(s) 'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked "
    "scope(s) '/subscriptions/1/subnets/gpu' or the linked scope(s) are invalid."
)
_UNAUTHORIZED = (
    "The client '1' with object id '1' does not have authorization to perform action "
    "'Microsoft.ContainerService/managedClusters/agentPools/write' over scope '/subscriptions/1' or the scope is "
    "invalid."
)
_OVERTAKEN = "The operation was overriden and canceled by a later operation 1."

CASES = (
    Case(
        name="an operation of the pool",
        fault={"code": "OperationNotAllowed", "message": _PENDING},
        kind=K.BUSY,
    ),
    Case(
        name="an operation of the cluster",
        fault={"code": "OperationNotAllowed", "message": _MANAGED, "status": 400},
        kind=K.BUSY,
    ),
    Case(name="preempted", fault=failed("AKSOperationPreemptedByDelete", "deleted"), kind=K.BUSY),
    Case(name="overtaken", fault=failed("Canceled", _OVERTAKEN), kind=K.BUSY),
    Case(
        name="autoscaler",
        fault={
            "code": "InvalidParameter",
            "status": 400,
            "message": "Cannot scale cluster autoscaler enabled node pool kra100.",
        },
        kind=K.AUTOSCALED,
        says=("--disable-cluster-autoscaler",),
    ),
    Case(
        name="family quota",
        fault={"code": "OperationNotAllowed", "message": quota(f"{FAMILY} Cores")},
        kind=K.QUOTA,
        avoid=600,
        says=(FAMILY, "96 of 100 vCPUs are used and 48 more are needed in eastus", "Quotas > Compute"),
    ),
    Case(
        name="family quota that is a sentence",
        fault=failed("OperationNotAllowed", quota("Standard NCASv3_T4 Family Cores")),
        kind=K.QUOTA,
        avoid=600,
        says=("Standard NCASv3_T4 Family",),
    ),
    Case(
        name="family quota of nothing",
        fault=failed("OperationNotAllowed", quota(f"{FAMILY} Cores", 0, 0)),
        kind=K.QUOTA,
        avoid=HOUR,
        says=("has no quota of " + FAMILY,),
    ),
    Case(
        name="AKS's own look at quota",
        fault={
            "code": "ErrCode_InsufficientVCPUQuota",
            "status": 400,
            "wrapped": False,
            "message": f"Insufficient vcpu quota requested 48, remaining 4 for family {FAMILY} for region eastus.",
        },
        kind=K.QUOTA,
        avoid=600,
        says=(FAMILY, "4 vCPUs are left and 48 are needed in eastus"),
    ),
    Case(
        name="AKS's own look at the region's quota",
        fault={
            "code": "ErrCode_InsufficientVCPUQuota",
            "status": 400,
            "wrapped": False,
            "message": "Insufficient regional vcpu quota left for location eastus. left regional vcpu quota 10, "
            "requested quota 16.",
        },
        kind=K.REGION_QUOTA,
        avoid=600,
        says=("10 vCPUs are left and 16 are needed in eastus", "no other size helps"),
    ),
    Case(
        name="spot quota",
        fault=failed("OperationNotAllowed", quota("LowPriorityCores")),
        kind=K.SPOT_QUOTA,
        avoid=HOUR,
        says=("do without resource.spot",),
        spot=True,
    ),
    Case(
        name="region's quota",
        fault=failed("OperationNotAllowed", quota("Total Regional Cores")),
        kind=K.REGION_QUOTA,
        avoid=600,
    ),
    Case(
        name="quota in a template's details",
        fault={
            "code": "InvalidTemplateDeployment",
            "status": 400,
            "message": "The template deployment is not valid. See inner errors for details.",
            "details": ({"code": "QuotaExceeded", "message": "Not enough of it."},),
        },
        kind=K.QUOTA,
        code="QuotaExceeded",
        avoid=600,
    ),
    Case(
        name="size not available",
        fault=failed(
            "SkuNotAvailable", "The requested size is currently not available in location 'eastus'."
        ),
        kind=K.RESTRICTED,
        avoid=23 * HOUR,
        says=(A100,),
    ),
    Case(
        name="size not available as spot",
        fault=failed(
            "SkuNotAvailable", "The requested size is currently not available in location 'eastus'."
        ),
        kind=K.RESTRICTED,
        avoid=HOUR,
        spot=True,
    ),
    Case(
        name="never as spot",
        fault={"code": "BadRequest", "status": 400, "message": f"The VM size {A100} does not support spot."},
        kind=K.RESTRICTED,
        avoid=23 * HOUR,
        spot=True,
    ),
    Case(
        name="size that AKS does not know",
        fault={"code": "VMSizeNotSupported", "status": 400},
        kind=K.RESTRICTED,
        avoid=23 * HOUR,
    ),
    Case(
        name="size not for this subscription",
        fault={
            "code": "BadRequest",
            "status": 400,
            "message": f"The VM size of {A100} is not allowed in your subscription in location 'eastus'.",
        },
        kind=K.RESTRICTED,
        avoid=23 * HOUR,
    ),
    Case(
        name="zone not supported",
        fault={"code": "AvailabilityZoneNotSupported", "status": 400},
        kind=K.CONSTRAINT,
        avoid=HOUR,
    ),
    Case(
        name="overconstrained",
        fault=failed("OverconstrainedZonalAllocationRequest", "Too many constraints."),
        kind=K.CONSTRAINT,
        avoid=HOUR,
    ),
    Case(name="no capacity in the zone", fault=failed("ZonalAllocationFailed"), kind=K.CAPACITY, avoid=HOUR),
    Case(
        name="no capacity",
        fault=failed("AllocationFailed", "Allocation failed."),
        kind=K.CAPACITY,
        avoid=HOUR,
    ),
    Case(
        name="no capacity, quoted in a message",
        fault=failed(
            "ReconcileVMSSAgentPoolFailed",
            'VMSSAgentPoolReconciler retry failed: Code="AllocationFailed" Message="Allocation failed."',
        ),
        kind=K.CAPACITY,
        code="ReconcileVMSSAgentPoolFailed",
        avoid=HOUR,
    ),
    Case(name="region too busy", fault={"code": "AksCapacityHeavyUsage", "status": 503}, kind=K.UNAVAILABLE),
    Case(name="subnet full", fault=failed("SubnetIsFull"), kind=K.NETWORK, says=("KAIRAY_AKS_SUBNET",)),
    Case(
        name="no right on the subnet",
        fault={"code": "LinkedAuthorizationFailed", "status": 403, "message": _LINKED},
        kind=K.DENIED,
        says=("Microsoft.Network/virtualNetworks/subnets/join/action",),
    ),
    Case(
        name="no right on the cluster",
        fault={"code": "AuthorizationFailed", "status": 403, "message": _UNAUTHORIZED},
        kind=K.DENIED,
        says=("Microsoft.ContainerService/managedClusters/agentPools/write", "docs/aks.md"),
    ),
    Case(
        name="no federated credential",
        fault={
            "code": "invalid_client",
            "status": 401,
            "message": "AADSTS700213: No matching federated identity record found for presented assertion subject.",
        },
        kind=K.DENIED,
        says=("service account",),
    ),
    Case(
        name="token expired",
        fault={
            "code": "ExpiredAuthenticationToken",
            "status": 401,
            "message": "The access token expiry UTC is past.",
        },
        kind=K.DENIED,
    ),
    Case(name="locked", fault={"code": "ScopeLocked"}, kind=K.DENIED, says=("az lock list",)),
    Case(name="subscription disabled", fault={"code": "ReadOnlyDisabledSubscription"}, kind=K.DENIED),
    Case(
        name="not registered",
        fault={
            "code": "MissingSubscriptionRegistration",
            "message": "The subscription is not registered to use namespace 'Microsoft.Compute'.",
        },
        kind=K.DENIED,
        says=("az provider register -n Microsoft.Compute",),
    ),
    Case(
        name="policy",
        fault={
            "code": "RequestDisallowedByPolicy",
            "status": 403,
            "message": "Disallowed by policy 'no GPUs'.",
        },
        kind=K.POLICY,
        says=("no GPUs",),
    ),
    Case(
        name="pool limit by text",
        fault={
            "code": "BadRequest",
            "status": 400,
            "message": "Maximum number of agent pools, 100, is exceeded.",
        },
        kind=K.LIMIT,
    ),
    Case(
        name="cluster stopped",
        fault={"code": "BadRequest", "status": 400, "message": "The cluster is stopped, start it first."},
        kind=K.UNAVAILABLE,
        says=("az aks start",),
    ),
    Case(
        name="no such group",
        fault={"code": "ResourceGroupNotFound", "status": 404},
        kind=K.INVALID,
        says=("KAIRAY_AKS_RESOURCE_GROUP",),
    ),
    Case(
        name="no such cluster",
        fault={
            "code": "ResourceNotFound",
            "status": 404,
            "message": "The Resource 'Microsoft.ContainerService/managedClusters/ml' under resource group 'ml' "
            "was not found.",
        },
        kind=K.INVALID,
        says=("KAIRAY_AKS_CLUSTER",),
    ),
    Case(
        name="node did not start",
        fault=failed("VMExtensionProvisioningTimeout", "Provisioning of the extension timed out."),
        kind=K.NODE,
        says=("mcr.microsoft.com",),
    ),
    Case(
        name="disruption budget",
        fault=failed("UpgradeFailed", "Cannot evict pod as it would violate the pod's disruption budget."),
        kind=K.BUSY,
    ),
    Case(name="pool gone", fault={"code": "NotFound", "status": 404}, kind=K.GONE),
    Case(
        name="changed, by code",
        fault={"code": "EtagMismatch", "status": 409},
        kind=K.CONFLICT,
        code="PoolExists",
    ),
    Case(
        name="changed, by status",
        fault={"code": "Nothing", "status": 412},
        kind=K.CONFLICT,
        code="PoolExists",
    ),
    Case(name="immutable", fault={"code": "PropertyChangeNotAllowed", "status": 400}, kind=K.INVALID),
    Case(name="throttled", fault={"code": "Throttled", "status": 429, "retry_after": 9}, kind=K.THROTTLED),
    Case(
        name="throttled below AKS",
        fault={"code": "OperationNotAllowed", "message": "Rejected: HighCostGetVMScaleSet30Min."},
        kind=K.THROTTLED,
    ),
    Case(name="throttled, by status", fault={"code": "Slow", "status": 429}, kind=K.THROTTLED),
    Case(name="denied, by status", fault={"code": "No", "status": 403}, kind=K.DENIED),
    Case(
        name="failed without a reason",
        fault=failed("ReconcileVMSSAgentPoolFailed", "Something."),
        kind=K.UNAVAILABLE,
        says=("az aks nodepool show",),
    ),
    Case(
        name="server error, by code", fault={"code": "InternalServerError", "status": 409}, kind=K.UNAVAILABLE
    ),
    Case(name="server error, by status", fault={"code": "Odd", "status": 502}, kind=K.UNAVAILABLE),
    Case(
        name="anything else",
        fault={"code": "Unheard", "status": 400, "message": "The moon is full. Wait."},
        kind=K.INVALID,
        avoid=600,
        says=("Unheard", "The moon is full"),
    ),
)
