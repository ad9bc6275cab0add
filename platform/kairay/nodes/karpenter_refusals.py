"""Why Karpenter brings no nodes, in our words: one table, in which the first row that fits decides.

Karpenter says it in three places: a condition of the NodePool, a condition of a NodeClaim while that lives, and an
event about a NodeClaim that it deleted because the cloud had no machine. Reasons and texts are those of Karpenter's
core (1.0 to 1.15) and of its providers for Azure and AWS; the providers wrap the cloud's own code in a sentence, so
that reason and message are looked at together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kairay.nodes.aks_facts import first_sentence
from kairay.nodes.interface import Offer, Refusal, RefusalKind
from kairay.nodes.karpenter_complaints import Complaint
from kairay.nodes.verdict import Verdict

K = RefusalKind
_MINUTE, _HOUR = 60.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row(Verdict):
    """{size}, {pool} and {said} of its message are filled in."""

    pattern: str
    """Regular expression somewhere in `reason: message`, whatever the case."""


_TABLE: Final = (
    _Row(
        kind=K.UNAVAILABLE,
        pattern=r"NodeClass(NotFound|NotReady|Terminating|ReadinessUnknown|Resolution)|resolving node ?class"
        r"|InstanceTypeResolutionFailed|(Subnet|SecurityGroup|Image|AMI|KubernetesVersion)s?(NotFound|NotReady)"
        r"|SubnetIDInvalid|SubnetUnknownError|SubnetsReady=False",
        retry=_MINUTE,
        message="Karpenter's node class is not usable, so no size can be had; see `kubectl describe nodepool {pool}` "
        "and the node class that it names, or set KAIRAY_KARPENTER_NODE_CLASS_NAME ({said})",
    ),
    _Row(
        kind=K.SPOT_QUOTA,
        pattern=r"LowPriority|quota for spot|SpotQuotaExceeded|MaxSpotInstanceCountExceeded|spot instance quota",
        avoid=_HOUR,
        message="the quota of spot machines is used up; ask the cloud for more, or do without resource.spot ({said})",
    ),
    _Row(
        kind=K.REGION_QUOTA,
        pattern=r"RegionalQuotaReached|regional .*quota|total regional (cores|vcpus)|FleetQuotaExceeded"
        r"|MaxFleetCountExceeded|AccountPendingVerification",
        avoid=5 * _MINUTE,
        message="the region's quota is used up, no other size helps; ask the cloud for more ({said})",
    ),
    _Row(
        kind=K.QUOTA,
        pattern=r"SubscriptionQuotaReached|VCPULimitExceeded|family cores quota|vcpu quota",
        avoid=10 * _MINUTE,
        message="the quota of {size} is used up; ask the cloud for more, or allow another size ({said})",
    ),
    _Row(
        kind=K.RESTRICTED,
        pattern=r"SKUNotAvailable|requested SKU is unavailable|NotAvailableForSubscription|\bUnsupported\b"
        r"|FreeTierIneligible",
        avoid=23 * _HOUR,
        avoid_spot=_HOUR,
        message="{size} cannot be had in this region, its zones or this subscription; choose another size ({said})",
    ),
    _Row(
        kind=K.NETWORK,
        pattern=r"InsufficientFreeAddresses|SubnetI?s?Full|not enough free (IP )?addresses",
        avoid=5 * _MINUTE,
        message="the subnet has no address left for a node; make it larger or name another one in the node class "
        "({said})",
    ),
    _Row(
        kind=K.POLICY,
        pattern=r"RequestDisallowedByPolicy|service control policy|permission boundary",
        avoid=5 * _MINUTE,
        message="a policy of the cloud forbids the machine; ask whoever keeps it ({said})",
    ),
    _Row(
        kind=K.DENIED,
        pattern=r"Unauthori[sz]ed|AuthorizationFailed|AuthorizationFailure|AuthFailure|AccessDenied"
        r"|SpotSLRCreationFailed|InstanceProfile",
        avoid=2 * _MINUTE,
        message="Karpenter lacks a permission in the cloud; give it to Karpenter's identity ({said})",
    ),
    _Row(
        kind=K.THROTTLED,
        pattern=r"RequestLimitExceeded|TooManyRequests|Throttl",
        retry=_MINUTE,
        message="the cloud takes no more requests of Karpenter for the moment; it tries again itself ({said})",
    ),
    _Row(
        kind=K.CONSTRAINT,
        pattern=r"Overconstrained",
        avoid=_HOUR,
        message="no zone has {size} as it is asked for; choose another size, or allow on-demand machines ({said})",
    ),
    _Row(
        kind=K.CAPACITY,
        pattern=r"AllocationFail|InsufficientCapacity|InsufficientInstanceCapacity|UnfulfillableCapacity"
        r"|ReservationCapacityExceeded|unavailable during launch|unable to allocate|sufficient .*capacity",
        avoid=_HOUR,
        message="the cloud has no {size} now; Karpenter goes on trying, another size or region may have one ({said})",
    ),
    _Row(
        kind=K.NODE,
        pattern=r"RegistrationFailed|AsyncProvisioning|MultipleNodesFound|failed to register",
        avoid=10 * _MINUTE,
        message="a {size} came and did not become a node; see `kubectl describe nodeclaims -l "
        "karpenter.sh/nodepool={pool}` ({said})",
    ),
    _Row(
        kind=K.INVALID,
        pattern=r"NodePoolValidationFailed",
        message="Karpenter does not accept NodePool {pool}; change what the Workspace asks for, most often a label "
        "({said})",
    ),
    _Row(
        kind=K.INVALID,
        pattern="",
        avoid=10 * _MINUTE,
        message="Karpenter could not start a {size}; see `kubectl describe nodepool {pool}` ({said})",
    ),
)  # fmt: skip


def refusal_of(complaint: Complaint, pool: str, offer: Offer) -> Refusal:
    """What a complaint means for the offer of a pool."""
    text = f"{complaint.reason}: {complaint.message}"
    row = next(row for row in _TABLE if re.search(row.pattern, text, re.IGNORECASE | re.DOTALL))
    facts = {"size": offer, "pool": pool, "said": first_sentence(complaint.message) or complaint.reason}
    return row.refusal(complaint.reason, facts, spot=offer.spot)
