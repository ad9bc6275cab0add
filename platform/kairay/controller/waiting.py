"""Why pods wait, in one sentence with a remedy: the scheduler's word, the kubelet's, or what a container died of. Pure.

A sentence holds nothing that changes while its cause lasts (counts of nodes, times, attempts), so that a status is
written once for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from kairay.controller.complaints import Complaint, lacks_words
from kairay.controller.conditions import Reason
from kairay.controller.remedies import (
    container_ended,
    container_refused,
    image_not_pulled,
    said_in_event,
    unschedulable,
)
from kairay.controller.trouble import Place, Trouble, shorten
from kairay.kube.objects import labels_of
from kairay.names import claim_name
from kairay.nodes.interface import GROUP_LABEL
from kairay.objects.metadata import WORKSPACE_LABEL
from kairay.ray.raycluster import ROLE_LABEL

MOST_CHARACTERS: Final = 500
_BENIGN: Final = frozenset({"ContainerCreating", "PodInitializing"})
_REPEATS: Final = "CrashLoopBackOff"
_IMAGE: Final = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
    "RegistryUnavailable", "SignatureValidationFailed",
})  # fmt: skip
"""The kubelet's words for an image that it has not got."""

Complaints = Mapping[str, tuple[Complaint, ...]]
"""What events say, by the pod's UID."""


def pod_trouble(pods: Iterable[Mapping[str, Any]], complaints: Complaints) -> Trouble | None:
    """The first trouble among pods, by name, ahead of what only takes time; None when nothing is known to hold them."""
    found = []
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        if "deletionTimestamp" in pod["metadata"]:
            continue
        said = complaints.get(str(pod["metadata"].get("uid", "")), ())
        cause = next(_causes(pod, _place(pod), said), None)
        if cause is not None:
            told = shorten(f"pod {pod['metadata']['name']}: {cause.message}", MOST_CHARACTERS)
            found.append(replace(cause, message=told))
    return min(found, key=_weight, default=None)


def foremost(*troubles: Trouble | None) -> Trouble | None:
    """The first that needs a hand, ahead of what only takes time, is vague or lies about."""
    found = [each for each in troubles if each is not None]
    return min(found, key=lambda each: (*_weight(each), each.vague), default=None)


def waiting_reason(trouble: Trouble | None, otherwise: Reason) -> Reason:
    """A condition's reason: the kind of trouble, where it is one."""
    return otherwise if trouble is None or trouble.reason is None else trouble.reason


def is_ready(pod: Mapping[str, Any]) -> bool:
    """The pod's own Ready condition, while it is not going."""
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _weight(trouble: Trouble) -> tuple[bool, bool]:
    """An evicted pod lies about after its replacement has come."""
    return trouble.reason is None, trouble.reason is Reason.POD_STOPPED


def _causes(pod: Mapping[str, Any], place: Place, said: Sequence[Complaint]) -> Iterator[Trouble]:
    """From the deepest one on."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        words = f"{status['reason']}: {shorten(str(status.get('message') or 'no message'))}"
        yield Trouble(reason=Reason.POD_STOPPED, message=f"was stopped: {words}")
    yield from (said_in_event(each, place) for each in said if each.claim)
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield unschedulable(str(condition.get("message") or condition.get("reason", "")), place)
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        yield from _container_causes(container, place, said)
    own = [said_in_event(each, place) for each in said if not each.claim and not each.is_of_an_image]
    yield from sorted(own, key=lambda trouble: (trouble.reason is None, trouble.vague))


def _container_causes(
    container: Mapping[str, Any], place: Place, said: Sequence[Complaint]
) -> Iterator[Trouble]:
    name, state = str(container["name"]), container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    if reason in _IMAGE:
        words = [] if lacks_words(waiting) else [message]
        words += [each.message for each in said if each.is_of_an_image]
        yield image_not_pulled(str(container.get("image") or ""), words, place)
    elif reason and reason not in _BENIGN and reason != _REPEATS:
        yield container_refused(name, reason, message, place)
    elif reason == _REPEATS or (_has_failed(container, ended) and not container.get("ready")):
        yield container_ended(name, ended, place)


def _has_failed(container: Mapping[str, Any], ended: Mapping[str, Any]) -> bool:
    """Once with an error, or more than once by itself: between two tries it runs, and is told of all the same."""
    code = ended.get("exitCode")
    return code is not None and (code != 0 or int(container.get("restartCount") or 0) > 1)


def _place(pod: Mapping[str, Any]) -> Place:
    metadata, spec, labels = pod["metadata"], pod.get("spec") or {}, labels_of(pod)
    return Place(
        namespace=str(metadata.get("namespace", "")),
        pod=str(metadata["name"]),
        role=labels.get(ROLE_LABEL, ""),
        own_claim=claim_name(labels.get(WORKSPACE_LABEL, "")),
        in_pool=GROUP_LABEL in (spec.get("nodeSelector") or {}),
    )
