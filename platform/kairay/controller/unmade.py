"""Pods that are wanted and that Kubernetes does not let be made: no pod is there whose status could say why. Pure.

The refusal stands in a condition `ReplicaFailure`: KubeRay's of a RayCluster (since 1.3), Kubernetes' own of a
Deployment. Both take it away with the first try that succeeds. A RayJob's copy of its cluster's status is kept in step;
a RayService's is not (KubeRay 1.6 writes it only when something else has changed), so its clusters are asked. Where the
cluster itself, or what it needs before its head (a Service, a role), cannot be made, KubeRay says so in events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kairay.controller.complaints import seen_at
from kairay.controller.waiting import is_ready
from kairay.kube.objects import labels_of, uid_of
from kairay.ray.raycluster import ROLE_LABEL

OBJECT: Final = "object"
"""The role of what is no pod."""
_CLUSTER_LABEL: Final = "ray.io/cluster"
"""KubeRay's: the RayCluster of a pod."""
_FAILURE: Final = "ReplicaFailure"
_ROLES: Final[Mapping[str, str]] = {
    "FailedCreateHeadPod": "head",
    "FailedCreateWorkerPod": "worker",
    "FailedCreate": "",
    "FailedToCreateHeadPod": "head",
    "FailedToCreateRayCluster": OBJECT,
    "FailedToCreateService": OBJECT,
    "FailedToCreateServiceAccount": OBJECT,
    "FailedToCreateRole": OBJECT,
    "FailedToCreateRoleBinding": OBJECT,
}
"""The condition's reason, or the event's -> whose pod it is, as in `Place`. What cannot be deleted keeps nobody
waiting."""
_OLDEST: Final = timedelta(minutes=20)
"""Of an event that still holds: KubeRay tries again after 1,000 seconds at the latest."""
_OVER: Final = frozenset({"Failed", "Succeeded"})
"""Phases of a pod that KubeRay replaces."""
_GIVEN_UP: Final = "DEPLOY_FAILED"
_AT_REST: Final = frozenset({"HEALTHY", "DOWNSCALING", _GIVEN_UP})
"""Ray Serve's states of a deployment that waits for no replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmade:
    """A pod, or another object of a Workspace, that cannot be made, as the last try was answered."""

    namespace: str
    kind: str
    """Of the object that wants it, as kubectl takes it: `raycluster`, `deployment`; of an object itself, its own."""
    owner: str
    """Its name."""
    role: str
    """`head` or `worker` of Ray; empty: of the user's own template; OBJECT."""
    words: str
    """The API server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A RayCluster that waits for a pod that is not there."""

    cluster: str
    owner: str
    """UID of its RayJob or RayService."""
    made: datetime
    """When that owner was."""
    headless: bool
    """Not even its head is there."""


def unmade_of_cluster(
    namespace: str, cluster: str, status: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]
) -> Unmade | None:
    """What a RayCluster's status says; where its head is by now nothing before it is missing, however old that is."""
    found = _read(namespace, "raycluster", cluster, status)
    if found is not None and found.role in ("head", OBJECT) and _heads(_pods_of(cluster, pods)):
        return None
    return found


def unmade_of_deployment(deployment: Mapping[str, Any]) -> Unmade | None:
    """What a Deployment's status says of its pods."""
    metadata = deployment["metadata"]
    return _read(metadata["namespace"], "deployment", metadata["name"], deployment.get("status") or {})


def unmade_of_service(
    service: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]
) -> Unmade | None:
    """What the clusters of a RayService say, as far as they were asked."""
    namespace = service["metadata"]["namespace"]
    found = (
        unmade_of_cluster(namespace, name, told[name], pods) for name, _ in _clusters(service) if name in told
    )
    return next((each for each in found if each is not None), None)


def silent_clusters(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> tuple[Silent, ...]:
    """Clusters of a RayService that wait for a pod that is not there: without a head, or with replicas to come and no
    worker on its way."""
    return tuple(
        _silent(service, name, mine)
        for name, part in _clusters(service)
        if _misses_pods(part, mine := _pods_of(name, pods))
    )


def silent_job(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> tuple[Silent, ...]:
    """The cluster of a RayJob, where its head does not come and the job does not say why."""
    status = job.get("status") or {}
    cluster = str(status.get("rayClusterName") or "")
    mine = _pods_of(cluster, pods)
    begins = cluster and status.get("jobDeploymentStatus") == "Initializing"
    told = keep_failure(status.get("rayClusterStatus") or {})
    return (_silent(job, cluster, mine),) if begins and not told and not _heads(mine) else ()


def read_failure_events(events: Iterable[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """KubeRay's latest word in events that something cannot be made, as its cluster's status would say it."""
    latest = sorted(events, key=seen_at, reverse=True)
    made: set[str] = set()
    for event in latest:
        reason = str(event.get("reason") or "")
        what = reason.removeprefix("FailedToCreate")
        if reason in _ROLES and what not in made and seen_at(event) >= now - _OLDEST:
            told = {"type": _FAILURE, "status": "True", "reason": reason, "message": event.get("message")}
            return {"conditions": [told]}
        made.add(reason.removeprefix("Created"))
    return {}


def keep_failure(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is read here of a RayCluster's status; mostly nothing."""
    # Caches trim by this: an odd object of another release must not end the watch of all.
    kept = [each for each in status.get("conditions") or () if each["type"] == _FAILURE]
    return {"conditions": kept} if kept else {}


def _silent(owner: Mapping[str, Any], cluster: str, pods: Sequence[Mapping[str, Any]]) -> Silent:
    made = datetime.fromisoformat(str(owner["metadata"]["creationTimestamp"]))
    return Silent(cluster=cluster, owner=uid_of(owner), made=made, headless=not _heads(pods))


def _read(namespace: str, kind: str, owner: str, status: Mapping[str, Any]) -> Unmade | None:
    for condition in keep_failure(status).get("conditions", ()):
        role = _ROLES.get(str(condition.get("reason")))
        if condition["status"] == "True" and role is not None:
            # KubeRay puts the reason into a line before the API server's words.
            words = str(condition.get("message") or "").removeprefix(f"{condition['reason']}\n")
            return Unmade(namespace=namespace, kind=kind, owner=owner, role=role, words=words)
    return None


def _clusters(service: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    status = service.get("status") or {}
    for part in (status.get("pendingServiceStatus") or {}, status.get("activeServiceStatus") or {}):
        if part.get("rayClusterName"):
            yield str(part["rayClusterName"]), part


def _misses_pods(part: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> bool:
    heads = _heads(pods)
    if not heads:
        return True
    on_their_way = any(not is_ready(pod) for pod in pods)
    return not on_their_way and _wants_replicas(part)


def _wants_replicas(part: Mapping[str, Any]) -> bool:
    """Serve has not been heard of yet, or brings replicas; one that has given up wants none."""
    apps = [dict(app) for app in (part.get("applicationStatuses") or {}).values()]
    going_on = [app for app in apps if app.get("status") != _GIVEN_UP]
    deployments = [(app.get("serveDeploymentStatuses") or {}).values() for app in going_on]
    return not apps or any(
        not each or any(one.get("status") not in _AT_REST for one in each) for each in deployments
    )


def _pods_of(cluster: str, pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of one RayCluster that are neither going nor over."""
    mine = (pod for pod in pods if labels_of(pod).get(_CLUSTER_LABEL) == cluster)
    at_work = (pod for pod in mine if (pod.get("status") or {}).get("phase") not in _OVER)
    return [pod for pod in at_work if "deletionTimestamp" not in pod["metadata"]]


def _heads(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [pod for pod in pods if labels_of(pod).get(ROLE_LABEL) == "head"]
