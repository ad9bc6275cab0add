"""Conditions of a Workspace: a closed list of types and reasons, each with a sentence to act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
