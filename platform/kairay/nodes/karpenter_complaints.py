"""What Karpenter says of a pool that gets no nodes: conditions of NodePool and NodeClaims, and events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

Manifest = dict[str, Any]

FAILED_EVENTS: Final = frozenset(
    {
        "InsufficientCapacityError", "NodeClassNotReady",  # Karpenter's core
        "AsyncProvisioningError", "NodeClassResolutionError",  # its provider for Azure
    }
)  # fmt: skip
"""Events of Karpenter that tell why there is no node. The NodeClaim that they are about is deleted at once."""
REMEMBERED: Final = timedelta(minutes=10)
"""A failure older than this says nothing of the next attempt; Karpenter makes one every few seconds."""

_NOT_YET: Final = "AwaitingReconciliation"
"""Reason of a condition that nobody has looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Why no node comes, as Karpenter puts it."""

    reason: str
    """Of the condition or the event: CamelCase."""
    message: str
    when: datetime


def find_complaint(
    body: Manifest, claims: list[Manifest], events: list[Manifest], now: datetime
) -> Complaint | None:
    """Why no more nodes come: what stands in the NodePool's way, or the last failure that no success has followed."""
    if (obstacle := _obstacle(body)) is not None:
        return obstacle
    failures = [
        *_failures_of_claims(claims),
        *_failures_in_events(body, events),
        *_said(body, "NodeRegistrationHealthy", ("False",)),
    ]
    last = max(failures, key=lambda failure: (failure.when, failure.reason), default=None)
    joined = [_since(each) for each in _conditions(claims, "Registered") if each["status"] == "True"]
    if last is None or now - last.when > REMEMBERED or any(when >= last.when for when in joined):
        return None
    return last


def has_registered(claim: Manifest) -> bool:
    """Its machine has become a node."""
    return any(each["status"] == "True" for each in _conditions([claim], "Registered"))


def _obstacle(body: Manifest) -> Complaint | None:
    """A condition that keeps the whole NodePool from being used, as long as it stands."""
    for complaint in _said(body, "ValidationSucceeded", ("False",)):
        return complaint
    for complaint in _said(body, "NodeClassReady", ("False",)):
        if complaint.reason.startswith("NodeClass"):
            return complaint
        # The node class's own reason, such as SubnetsNotFound: of no size, whatever it is called.
        said = f"{complaint.reason}: {complaint.message}" if complaint.message else complaint.reason
        return Complaint(reason="NodeClassNotReady", message=said, when=complaint.when)
    return None


def _failures_of_claims(claims: list[Manifest]) -> list[Complaint]:
    return [
        complaint
        for claim in claims
        for condition, bad in (("Launched", ("False", "Unknown")), ("Registered", ("False",)))
        for complaint in _said(claim, condition, bad)
        if complaint.reason != _NOT_YET
    ]


def _failures_in_events(body: Manifest, events: list[Manifest]) -> list[Complaint]:
    """Warnings about the NodePool, or about a NodeClaim that may be gone: its name begins with the pool's."""
    name, found = body["metadata"]["name"], []
    for event in events:
        about = event.get("involvedObject") or {}
        claim = about.get("kind") == "NodeClaim" and str(about.get("name", "")).rpartition("-")[0] == name
        pool = about.get("kind") == "NodePool" and about.get("name") == name
        if event.get("reason") in FAILED_EVENTS and (claim or pool):
            found.append(
                Complaint(reason=event["reason"], message=event.get("message") or "", when=_event_time(event))
            )
    return found


def _said(manifest: Manifest, kind: str, bad: tuple[str, ...]) -> list[Complaint]:
    return [
        Complaint(reason=each.get("reason") or kind, message=each.get("message") or "", when=_since(each))
        for each in _conditions([manifest], kind)
        if each["status"] in bad
    ]


def _conditions(manifests: Iterable[Manifest], kind: str) -> list[Mapping[str, Any]]:
    return [
        each
        for manifest in manifests
        for each in (manifest.get("status") or {}).get("conditions") or ()
        if each["type"] == kind
    ]


def _since(condition: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(condition["lastTransitionTime"])


def _event_time(event: Manifest) -> datetime:
    said = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(said)
