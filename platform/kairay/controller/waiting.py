"""Why pods wait, in one sentence: the scheduler's word, the kubelet's, or what a container died of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_CHARACTERS = 300
_BENIGN = frozenset({"ContainerCreating", "PodInitializing"})


def pod_trouble(pods: Iterable[Mapping[str, Any]]) -> str | None:
    """The first trouble among pods, by name; None when they only need time."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        if "deletionTimestamp" in pod["metadata"]:
            continue
        if (trouble := _trouble(pod)) is not None:
            return f"pod {pod['metadata']['name']}: {trouble}"[:MOST_CHARACTERS]
    return None


def is_ready(pod: Mapping[str, Any]) -> bool:
    """The pod's own Ready condition, while it is not going."""
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _trouble(pod: Mapping[str, Any]) -> str | None:
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"cannot be scheduled: {condition.get('message') or condition.get('reason', '')}"
    containers = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    for container in containers:
        if (trouble := _container_trouble(container)) is not None:
            return trouble
    return None


def _container_trouble(container: Mapping[str, Any]) -> str | None:
    waiting = container.get("state", {}).get("waiting")
    if waiting and waiting.get("reason") not in _BENIGN:
        said = f": {waiting['message']}" if waiting.get("message") else ""
        return f"container {container['name']}: {waiting.get('reason', 'waits')}{said}"
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if ended and ended.get("exitCode") not in (0, None) and not container.get("ready"):
        return (
            f"container {container['name']} ended: {ended.get('reason', '')} (exit code {ended['exitCode']})"
        )
    return None
