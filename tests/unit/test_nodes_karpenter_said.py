"""What Karpenter and its providers for Azure and AWS say, in our words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kairay.nodes.interface import Offer, RefusalKind
from kairay.nodes.karpenter_complaints import Complaint
from kairay.nodes.karpenter_refusals import refusal_of

A100 = Offer(instance_type="Standard_NC48ads_A100_v4")
SPOT = Offer(instance_type="Standard_NC48ads_A100_v4", spot=True)
K = RefusalKind
SAID = [
    # Karpenter's provider for Azure
    ("InsufficientCapacityError", ("creating instance failed, this subscription has reached the regional vCPU "
     "quota for spot (LowPriorityQuota). To scale beyond this limit"), K.SPOT_QUOTA),
    ("CreateInstanceFailed", "regional on-demand vCPU quota limit for subscription has been reached", K.REGION_QUOTA),
    ("CreateInstanceFailed", "subscription level on-demand vCPU quota for X has been reached", K.QUOTA),
    ("CreateInstanceFailed", "the requested SKU is unavailable for instance type X in zone eastus-1", K.RESTRICTED),
    ("ZonalAllocationFailure", "unable to allocate resources in the selected zone (eastus-1)", K.CAPACITY),
    ("OverconstrainedZonalAllocationFailure", "unable to allocate resources in the selected zone", K.CONSTRAINT),
    ("AsyncProvisioningError", 'Failed to register: ... Code="AllocationFailed"', K.CAPACITY),
    ("AsyncProvisioningError", "Failed to register: the machine did not answer", K.NODE),
    ("AsyncProvisioningError", 'Failed to register: Code="RequestDisallowedByPolicy"', K.POLICY),
    ("CreateInstanceFailed", "LinkedAuthorizationFailed: the client has no permission to join", K.DENIED),
    ("CreateInstanceFailed", "SubnetIsFull: Subnet nodes with address prefix 10.0.0.0/24", K.NETWORK),
    ("NodeClassResolutionError", "Failed resolving NodeClass", K.UNAVAILABLE),
    ("NodeClassReadinessUnknown", "NodeClass is in Ready=Unknown", K.UNAVAILABLE),
    ("InsufficientCapacityError", "resolving node class, aksnodeclass default not found", K.UNAVAILABLE),
    # AWS
    ("InsufficientCapacityError", ("creating instance, insufficient capacity, with fleet error(s), "
     "InsufficientInstanceCapacity: We currently do not have sufficient p4d.24xlarge capacity"), K.CAPACITY),
    ("InsufficientCapacityError", ("with fleet error(s), VcpuLimitExceeded: more vCPU capacity than your "
     "current vCPU limit"), K.QUOTA),
    ("InsufficientCapacityError", "with fleet error(s), MaxSpotInstanceCountExceeded: Max spot", K.SPOT_QUOTA),
    ("InsufficientCapacityError", "with fleet error(s), Unsupported: not supported in your Zone", K.RESTRICTED),
    ("InsufficientFreeAddressesInSubnet", "There are not enough free IP addresses", K.NETWORK),
    ("Unauthorized", "User is not authorized to perform this operation because no identity-based policy", K.DENIED),
    ("RequestLimitExceeded", "Request limit exceeded", K.THROTTLED),
    # Karpenter's core
    ("RegistrationFailed", "Failed to register node", K.NODE),
    ("NodePoolValidationFailed", "invalid key name", K.INVALID),
    ("LaunchFailed", "something new", K.INVALID),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "message", "kind"), SAID)
def test_what_karpenter_says_becomes_one_of_our_reasons(reason: str, message: str, kind: K) -> None:
    complaint = Complaint(reason=reason, message=message, when=datetime(2026, 11, 25, tzinfo=UTC))
    refusal = refusal_of(complaint, "kwpool", SPOT)
    assert (refusal.kind, refusal.code) == (kind, reason)
    assert "{" not in refusal.message


def test_a_complaint_without_words_is_told_by_its_reason() -> None:
    complaint = Complaint(reason="LaunchFailed", message="", when=datetime(2026, 11, 25, tzinfo=UTC))
    assert "LaunchFailed" in refusal_of(complaint, "kwpool", A100).message
