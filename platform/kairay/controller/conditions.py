"""Conditions of a Workspace: a closed list of types and reasons, each with a sentence to act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MOST_CHARACTERS = 1024
"""Of a message; Kubernetes allows 32,768, people read less."""


class Type(StrEnum):
    """KAITO's condition types, and the one that says all is well."""

    RESOURCE_READY = "ResourceReady"
    INFERENCE_READY = "InferenceReady"
    JOB_STARTED = "JobStarted"
    SUCCEEDED = "WorkspaceSucceeded"
    READY = "WorkspaceReady"


class Reason(StrEnum):
    """Every reason that a condition may have; those of a failed job's own word, and of a model that
    cannot be looked up, come from the error tree, those of a provider that refuses nodes from RefusalKind."""

    NODES_READY = "NodesReady"
    NODES_MISSING = "NodesMissing"
    NODES_NOT_READY = "NodesNotReady"
    GPUS_MISSING = "GpusMissing"
    NODES_CUT_OTHERWISE = "NodesCutOtherwise"
    NODES_COMING = "NodesComing"
    NODES_ON_DEMAND = "NodesOnDemand"
    CANNOT_BE_PLANNED = "CannotBePlanned"
    INVALID = "InvalidInput"
    NAME_TAKEN = "NameTaken"
    JOB_WAITING = "JobWaiting"
    JOB_RUNNING = "JobRunning"
    JOB_ENDED = "JobEnded"
    ADAPTER_PUSHED = "AdapterPushed"
    TUNING = "Tuning"
    TUNING_FAILED = "TuningFailed"
    NOT_SERVED = "NotServed"
    STARTING = "Starting"
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    SERVING_FAILED = "ServingFailed"
    NAMESPACE_QUOTA = "NamespaceQuotaExceeded"
    NOT_ALLOWED = "NotAllowed"
    POD_UNSCHEDULABLE = "PodUnschedulable"
    POD_STOPPED = "PodStopped"
    POD_NOT_STARTED = "PodNotStarted"
    CLAIM_NOT_BOUND = "ClaimNotBound"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    REFERENCE_MISSING = "ReferenceMissing"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    CONTAINER_ENDED = "ContainerEnded"
    CONTAINER_OUT_OF_MEMORY = "ContainerOutOfMemory"


POD_TROUBLES: Final = frozenset(
    {
        Reason.NAMESPACE_QUOTA,
        Reason.NOT_ALLOWED,
        Reason.POD_UNSCHEDULABLE,
        Reason.POD_STOPPED,
        Reason.POD_NOT_STARTED,
        Reason.CLAIM_NOT_BOUND,
        Reason.VOLUME_NOT_MOUNTED,
        Reason.REFERENCE_MISSING,
        Reason.IMAGE_NOT_PULLED,
        Reason.CONTAINER_ENDED,
        Reason.CONTAINER_OUT_OF_MEMORY,
    }
)
"""Why what should start does not: the kind of a pod's trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition as it is decided; when it changed is added when status is drawn."""

    type: Type
    status: bool
    reason: str
    message: str


def draw_conditions(
    decided: Iterable[Condition], before: Iterable[Mapping[str, Any]], *, generation: int, now: str
) -> list[dict[str, Any]]:
    """metav1.Conditions; `lastTransitionTime` moves only when the status does."""
    old = {each["type"]: each for each in before}
    drawn = []
    for condition in decided:
        status = "True" if condition.status else "False"
        known = old.get(str(condition.type))
        since = known["lastTransitionTime"] if known and known["status"] == status else now
        drawn.append({
            "type": str(condition.type),
            "status": status,
            "reason": str(condition.reason),
            "message": condition.message[:MOST_CHARACTERS],
            "lastTransitionTime": since,
            "observedGeneration": generation,
        })  # fmt: skip
    return drawn
