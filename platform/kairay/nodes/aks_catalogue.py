"""Azure's errors in our words: what each means, how long to avoid the size for it, and the remedy, in one table.

Azure wraps the cause: a failed pool says `ReconcileVMSSAgentPoolFailed`, its details say `AllocationFailed`, or the
message quotes `Code="AllocationFailed"`. The innermost error that the table knows decides. HTTP status and the SDK's
exception classes say little (every 409 is a ResourceExistsError), so codes and texts come first.

Codes, texts and times: karpenter-provider-azure's error handlers (how long it holds a size for unavailable),
AKS's troubleshooting pages and issues. Not every text could be seen from Azure itself; see docs/aks.md.
"""

from __future__ import annotations

from typing import Final

from kairay.nodes.aks_complaint import Row
from kairay.nodes.interface import RefusalKind

K = RefusalKind
_MINUTE, _HOUR = 60.0, 3600.0
_LONG = 23 * _HOUR
"""Until a size is tried again that the subscription cannot have; just less than a day, as Karpenter does."""

CATALOGUE: Final = (
    # An operation under way, or several writers: nothing is wrong with the offer.
    Row(
        title='"Another operation is in progress"',
        kind=K.BUSY,
        code="AKSOperationPreempted|AKSOperationPreemptedByDelete",
        text=r"another (agentpool )?operation|in[ -]progress .*operation"
        r"|overridd?en and cancell?ed by a later",
        retry=30,
        message="AKS is at work on the pool or the cluster; it is asked again when that has ended ({said})",
    ),
    Row(
        title='"Cannot scale cluster autoscaler enabled node pool"',
        kind=K.AUTOSCALED,
        text="cannot scale cluster autoscaler enabled node ?pool",
        message="the cluster autoscaler was turned on for the pool, so only its bounds are set from now on; "
        "turn it off with `az aks nodepool update --disable-cluster-autoscaler` to let Kairay count nodes",
    ),
    # Quota, the most frequent by far.
    Row(
        title="quota of LowPriorityCores",
        kind=K.SPOT_QUOTA,
        text="LowPriorityCores|spot (vcpu|cores?) quota",
        avoid=_HOUR,
        message="the quota of spot vCPUs is used up{figures}; {ask} (Total Regional Spot vCPUs), or do without "
        "resource.spot",
    ),
    Row(
        title='quota of Total Regional Cores, "regional vcpu quota"',
        kind=K.REGION_QUOTA,
        text=r"total regional (cores|vcpus)|regional vcpu quota|quota limits? of cores?\b",
        avoid=10 * _MINUTE,
        message="the region's vCPU quota is used up{figures}, no other size helps; {ask} (Total Regional vCPUs), "
        "or delete other machines",
    ),
    Row(
        title='"... Family Cores quota" with "Current Limit: 0"',
        kind=K.QUOTA,
        text=r"cores quota.*current limit: 0\b",
        avoid=_HOUR,
        message="the subscription has no quota of {family}{figures}; {ask} or choose another size",
    ),
    Row(
        title='"... Family Cores quota", "Insufficient vcpu quota"',
        kind=K.QUOTA,
        code="ErrCode_InsufficientVCPUQuota|QuotaExceeded",
        text="cores quota|vcpu quota requested",
        avoid=10 * _MINUTE,
        message="the quota of {family} is used up{figures}; {ask} or choose another size",
    ),
    # The machine cannot be had, now or at all.
    Row(
        title="size not offered here",
        kind=K.RESTRICTED,
        code="SkuNotAvailable|NotAvailableForSubscription",
        avoid=_LONG,
        avoid_spot=_HOUR,
        message="{size} is not offered to this subscription here; choose another size or region, "
        "or ask Azure support to lift the restriction",
    ),
    Row(
        title='size "does not support spot"',
        kind=K.RESTRICTED,
        text="does not support (low.?priority|spot)|spot (is|are) not (supported|available)",
        avoid=_LONG,
        message="{size} cannot be had as spot; leave out resource.spot or choose another size",
    ),
    Row(
        title='size that AKS does not take, "not allowed in your subscription"',
        kind=K.RESTRICTED,
        code="VMSizeNotSupported|VMSizeIsRestricted",
        text=r"not supported for (the )?subscription|VM (SKU|size) .*not (supported|allowed|available)"
        r"|not allowed in your subscription",
        avoid=_LONG,
        message="this subscription or AKS does not take {size} here; choose another size or region ({said})",
    ),
    Row(
        title="zone without the size",
        kind=K.CONSTRAINT,
        code="AvailabilityZoneNotSupported",
        avoid=_HOUR,
        message="{size} is not in the zones that were asked for; leave the zones out",
    ),
    Row(
        title="too many constraints",
        kind=K.CONSTRAINT,
        code="OverconstrainedAllocationRequest|OverconstrainedZonalAllocationRequest",
        avoid=_HOUR,
        message="{size} does not meet all constraints at once (zone, placement group, disk); another size is tried",
    ),
    Row(
        title="no machines in the zone",
        kind=K.CAPACITY,
        code="ZonalAllocationFailed",
        avoid=_HOUR,
        message="Azure has none of {size} left in the zone; another size is tried, or this one again in an hour",
    ),
    Row(
        title="no machines in the region",
        kind=K.CAPACITY,
        code="AllocationFailed",
        avoid=_HOUR,
        message="Azure has none of {size} left in the region; another size is tried, or this one again in an hour",
    ),
    Row(
        title="region overloaded",
        kind=K.UNAVAILABLE,
        code="AksCapacityHeavyUsage",
        retry=30 * _MINUTE,
        message="AKS is overloaded in this region and takes no changes now; it is asked again in half an hour",
    ),
    # What an administrator must change.
    Row(
        title="subnet full",
        kind=K.NETWORK,
        code="SubnetIsFull",
        message="the nodes' subnet has no addresses left; give the pools a larger one (KAIRAY_AKS_SUBNET)",
    ),
    Row(
        title="right on another resource missing",
        kind=K.DENIED,
        code="LinkedAuthorizationFailed",
        message="Kairay's identity lacks {action} on a resource that the pool uses; assign a role with it there",
    ),
    Row(
        title="right on the cluster missing",
        kind=K.DENIED,
        code="AuthorizationFailed|Forbidden",
        message="Kairay's identity lacks {action}; assign the role of docs/aks.md to it on the cluster",
    ),
    Row(
        title="AADSTS700213: no matching federated identity record",
        kind=K.DENIED,
        text=r"AADSTS700(21|211|212|213)\b|federated identity",
        retry=_MINUTE,
        message="Microsoft Entra knows no federated credential for the controller's service account; create it as in "
        "docs/aks.md, and wait a minute or two if it is new",
    ),
    Row(
        title="no login, or an expired one",
        kind=K.DENIED,
        code="ExpiredAuthenticationToken|InvalidAuthenticationToken.*|AuthenticationFailed|CredentialUnavailable",
        retry=_MINUTE,
        message="no login to Azure: {said}; give the controller a workload identity as in docs/aks.md",
    ),
    Row(
        title="resource lock",
        kind=K.DENIED,
        code="ScopeLocked",
        message="a resource lock protects the cluster or its node resource group; remove it (`az lock list`)",
    ),
    Row(
        title="subscription disabled",
        kind=K.DENIED,
        code="ReadOnlyDisabledSubscription",
        message="the subscription is disabled, Azure takes no changes; enable it again",
    ),
    Row(
        title="provider not registered",
        kind=K.DENIED,
        code="MissingSubscriptionRegistration",
        message="the subscription is not registered for {namespace}; run `az provider register -n {namespace}`",
    ),
    Row(
        title="Azure Policy",
        kind=K.POLICY,
        code="RequestDisallowedByPolicy",
        message="an Azure Policy forbids the pool; exempt it or allow what it needs ({said})",
    ),
    Row(
        title='too many pools, "maximum number of agent pools"',
        kind=K.LIMIT,
        text=r"(maximum|limit|exceed).{0,60}(agent|node) ?pools|(agent|node) ?pools.{0,60}(maximum|limit|exceed)",
        message="the cluster has as many node pools as AKS allows (100); delete some that are not used",
    ),
    Row(
        title="cluster or pool stopped",
        kind=K.UNAVAILABLE,
        text=r"cluster .*(is|been) (currently )?(stopped|in stopped)|power ?state.*stopped",
        retry=5 * _MINUTE,
        message="the cluster or the pool is stopped; start it with `az aks start` or `az aks nodepool start`",
    ),
    Row(
        title="subscription, group or cluster not found",
        kind=K.INVALID,
        code="ResourceGroupNotFound|SubscriptionNotFound|InvalidSubscriptionId|ParentResourceNotFound",
        text=r"managedClusters/[^/']+' .*was not found",
        message="Azure does not find the cluster; check KAIRAY_AKS_SUBSCRIPTION, KAIRAY_AKS_RESOURCE_GROUP and "
        "KAIRAY_AKS_CLUSTER ({said})",
    ),
    # The pool or its machines.
    Row(
        title="machine without node",
        kind=K.NODE,
        code="VMExtension.*|OSProvisioning.*",
        message="a machine came and did not become a node ({said}); see that nodes reach the API server and "
        "mcr.microsoft.com",
    ),
    Row(
        title='"disruption budget", drain failed',
        kind=K.BUSY,
        text="disruption budget|PodDrainFailure|undrainable|drain .*(fail|timed? ?out)",
        retry=_MINUTE,
        message="a pod disruption budget holds a node that is to go; relax it, or delete the pod ({said})",
    ),
    Row(
        title="pool not found",
        kind=K.GONE,
        code="NotFound|ResourceNotFound",
        message="the pool is not there any more; it is made again if it is still wanted",
    ),
    Row(
        title="ETag of an older version",
        kind=K.CONFLICT,
        code="PreconditionFailed|EtagMismatch",
        status="412",
        message="the pool was changed since it was read; it is read again",
    ),
    Row(
        title="property that cannot change",
        kind=K.INVALID,
        code="PropertyChangeNotAllowed",
        message="AKS does not let that property of a pool change; delete the pool, it is made anew ({said})",
    ),
    # How the service is.
    Row(
        title='throttled, also by Compute ("HighCostGet...")',
        kind=K.THROTTLED,
        code="Throttled|TooManyRequests|SubscriptionRequestsThrottled",
        text="HighCostGet|rate limit|number of .*requests .*exceeded",
        status="429",
        retry=_MINUTE,
        message="Azure wants fewer calls; it is asked again when it allows",
    ),
    Row(
        title="refused without a known code",
        kind=K.DENIED,
        status="401|403",
        retry=_MINUTE,
        message="Azure refuses Kairay's identity ({said}); assign the role of docs/aks.md to it on the cluster",
    ),
    Row(
        title="failed without a cause",
        kind=K.UNAVAILABLE,
        code="ReconcileVMSSAgentPoolFailed|ProvisioningFailed",
        retry=_MINUTE,
        message="AKS failed to bring the pool's machines and does not say why ({said}); "
        "`az aks nodepool show` has the rest",
    ),
    Row(
        title="no answer, or an error of Azure's own",
        kind=K.UNAVAILABLE,
        code="NoAnswer|InternalOperationError|InternalServerError|ServerTimeout|ServiceUnavailable|GatewayTimeout",
        status="408|5..",
        retry=30,
        message="Azure does not answer as it should ({said}); it is asked again",
    ),
)
OTHERWISE: Final = Row(
    title="anything else",
    kind=K.INVALID,
    avoid=10 * _MINUTE,
    message="Azure refuses the pool: {code}: {said}",
)
