"""What Kubernetes says of a waiting pod in Events alone, and which pods are worth asking after. Pure.

A secret that is missing, a volume that cannot be mounted or a claim that nobody fulfils leaves no trace in a pod's own
status: it waits as `ContainerCreating`. Events are repeated while the fault lasts, at most every five minutes for one
object, and stay for an hour after it was mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kairay.kube.objects import Manifest

PATIENCE: Final = 20.0
"""Seconds that a pod may take without being asked after: most start sooner."""
OLDEST: Final = timedelta(minutes=15)
"""Of an event that still holds; the kubelet and the scheduler repeat theirs sooner."""

_SOONEST, _LATEST = 15.0, 120.0
"""Seconds between two looks at what waits; a quarter of what it has waited, within these."""
_UNDER_WAY: Final = frozenset({"Pulling", "Pulled", "Created", "Started"})
_MENDED_BY: Final[Mapping[str, frozenset[str]]] = {
    "FailedScheduling": frozenset({"Scheduled"}),
    "FailedAttachVolume": _UNDER_WAY | {"SuccessfulAttachVolume"},
    "FailedMount": _UNDER_WAY,
    "FailedMapVolume": _UNDER_WAY,
    "FailedCreatePodSandBox": _UNDER_WAY,
    "NetworkNotReady": _UNDER_WAY,
    "FailedToRetrieveImagePullSecret": frozenset({"Pulled"}),
    "Failed": frozenset({"Pulled", "Created", "Started"}),
    "Pulling": frozenset({"Pulled", "Failed", "BackOff"}),
    "ProvisioningFailed": frozenset({"ProvisioningSucceeded"}),
    "FailedBinding": frozenset({"ProvisioningSucceeded", "VolumeBound"}),
}
"""Reasons of events that tell why a pod waits, and those that say it goes on. Others (a resolver's limits, a probe) are
noise here."""
_NOT_PULLED: Final = "Failed to pull image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One event that still holds."""

    reason: str
    message: str
    claim: str = ""
    """Name of the claim that it is about; empty: the pod itself."""

    @property
    def is_of_an_image(self) -> bool:
        """It tells why an image was not pulled."""
        return self.reason in ("Failed", "FailedToRetrieveImagePullSecret")


def due_in(waited: float, asked: datetime | None, now: datetime) -> float:
    """Seconds until something that has waited for so many is asked after; `asked` is when it was last."""
    if asked is None:
        return PATIENCE - waited
    return min(_LATEST, max(_SOONEST, waited / 4)) - (now - asked).total_seconds()


def read_complaints(events: Iterable[Mapping[str, Any]], now: datetime) -> tuple[Complaint, ...]:
    """Those of one object that still hold, newest first."""
    dated = sorted(((seen_at(each), each) for each in events), key=lambda pair: pair[0], reverse=True)
    latest: dict[str, datetime] = {}
    for when, each in dated:
        latest.setdefault(str(each.get("reason", "")), when)
    found = [_complaint(each) for when, each in dated if when >= now - OLDEST and _holds(each, when, latest)]
    return tuple(dict.fromkeys(found))


def asked_after(
    pod: Mapping[str, Any], claim_of: Callable[[str], Mapping[str, Any] | None]
) -> tuple[Mapping[str, Any], ...]:
    """The objects whose events may say why the pod waits: itself, its claims, or none where its status tells.

    `claim_of` gives a claim of the pod's namespace by its name.
    """
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    if "deletionTimestamp" in pod["metadata"] or status.get("phase", "Pending") != "Pending":
        return ()
    silent = not _tells(status)
    claims = _unbound(spec, claim_of) if "nodeName" not in spec and (silent or _names_volumes(status)) else ()
    return (*((pod,) if silent else ()), *claims)


def waited(pod: Mapping[str, Any], now: datetime) -> float:
    """Seconds since it was made, or since it has a node."""
    since = str(pod["metadata"].get("creationTimestamp") or "")
    for condition in (pod.get("status") or {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "True":
            since = str(condition.get("lastTransitionTime") or since)
    return (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0


def lacks_words(waiting: Mapping[str, Any]) -> bool:
    """An image that was asked for again and again, without the registry's answer: kubelets before 1.32."""
    return waiting.get("reason") == "ImagePullBackOff" and ": " not in str(waiting.get("message") or "")


def seen_at(event: Mapping[str, Any]) -> datetime:
    """When it was seen last. The scheduler writes the newer form: `eventTime`, and `series` once it is repeated."""
    stamps = (
        (event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
        event.get("firstTimestamp"), event["metadata"].get("creationTimestamp"),
    )  # fmt: skip
    found = [datetime.fromisoformat(str(stamp)) for stamp in stamps if stamp]
    return max(found, default=datetime.min.replace(tzinfo=UTC))


def trim_event(manifest: Manifest) -> Manifest:
    """What is read of an event."""
    kept = (
        "reason",
        "message",
        "type",
        "eventTime",
        "firstTimestamp",
        "lastTimestamp",
        "series",
        "involvedObject",
    )
    return {
        "metadata": {"creationTimestamp": manifest["metadata"].get("creationTimestamp")},
        **{key: manifest[key] for key in kept if key in manifest},
    }


def _unbound(
    spec: Mapping[str, Any], claim_of: Callable[[str], Mapping[str, Any] | None]
) -> Iterable[Mapping[str, Any]]:
    for volume in spec.get("volumes", ()):
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        found = claim_of(str(name)) if name else None
        if found is not None and (found.get("status") or {}).get("phase") == "Pending":
            yield found


def _names_volumes(status: Mapping[str, Any]) -> bool:
    """The scheduler waits for a volume; why there is none, only the claim's events say."""
    unplaced = [each for each in status.get("conditions", ()) if each["type"] == "PodScheduled"]
    return any("olume" in str(each.get("message") or "") for each in unplaced)


def _tells(status: Mapping[str, Any]) -> bool:
    """Its own status says what it waits for, or that it is at work."""
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return True
    states = [
        each.get("state") or {}
        for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    ]
    waiting = [state["waiting"] for state in states if "waiting" in state]
    if any(lacks_words(each) for each in waiting):
        return False
    return any("running" in state for state in states) or any(
        each.get("reason") not in ("ContainerCreating", "PodInitializing") for each in waiting
    )


def _holds(event: Mapping[str, Any], when: datetime, latest: Mapping[str, datetime]) -> bool:
    reason, message = str(event.get("reason", "")), str(event.get("message") or "")
    if reason == "Failed" and not message.startswith(_NOT_PULLED):
        return False  # the container's own state says the same
    mended = _MENDED_BY.get(reason)
    return mended is not None and not any(latest[other] >= when for other in mended if other in latest)


def _complaint(event: Mapping[str, Any]) -> Complaint:
    about = event.get("involvedObject") or {}
    claim = str(about.get("name", "")) if about.get("kind") == "PersistentVolumeClaim" else ""
    return Complaint(reason=str(event["reason"]), message=str(event.get("message") or ""), claim=claim)
