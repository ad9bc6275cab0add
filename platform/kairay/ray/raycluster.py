"""The RayCluster inside a RayJob or RayService: a head on a CPU node, GPU workers that Ray's demand brings. Pure.

Everything KubeRay would default differently from one version to the next is written out: an edit of this spec
rebuilds a RayService's cluster and doubles its GPUs for a while.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from kairay.ray.pods import (
    Manifest,
    Placement,
    PodParts,
    PodSize,
    autoscaler_mounts,
    head_template,
    worker_template,
)

GROUP = "gpu"
"""The one worker group."""

ROLE_LABEL = "kairay.dev/role"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayImage:
    """What Ray pods run."""

    name: str
    ray_version: str
    """Of the Ray inside; KubeRay decides by it what a cluster can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPods:
    """The pods of one cluster."""

    image: RayImage
    labels: dict[str, str]
    head: PodSize
    head_parts: PodParts
    worker: PodSize
    worker_parts: PodParts
    worker_cpus: int
    """CPUs that Ray may give out on a worker; its own figure, not the container's limit."""
    most_workers: int
    placement: Placement
    idle_seconds: int
    """Until a worker without work goes."""
    resources: dict[str, int]
    """Ray resources that mark a worker."""


def cluster_spec(pods: RayPods) -> Manifest:
    """`rayClusterSpec` of a RayJob, `rayClusterConfig` of a RayService."""
    return {
        "rayVersion": pods.image.ray_version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "upscalingMode": "Default",
            "idleTimeoutSeconds": pods.idle_seconds,
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "768Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": autoscaler_mounts(),
        },
        "headGroupSpec": {
            # No CPUs for Ray: what asks for any belongs on a worker.
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"},  # noqa: S104
            "template": head_template(pods.image.name, pods.head, pods.head_parts, _labels(pods, "head")),
        },
        "workerGroupSpecs": [{
            "groupName": GROUP,
            "replicas": 0,
            "minReplicas": 0,
            "maxReplicas": pods.most_workers,
            "numOfHosts": 1,
            "rayStartParams": _start_parameters(pods),
            "template": worker_template(
                pods.image.name, pods.worker, pods.worker_parts, _labels(pods, "worker"), pods.placement
            ),
        }],
    }  # fmt: skip


def _labels(pods: RayPods, role: str) -> dict[str, str]:
    return {**pods.labels, ROLE_LABEL: role}


def _start_parameters(pods: RayPods) -> dict[str, str]:
    parameters = {"num-cpus": str(pods.worker_cpus), "num-gpus": str(pods.worker.gpus)}
    if pods.resources:
        # The operator puts the value into a shell line, hence the second pair of quotes.
        parameters["resources"] = json.dumps(json.dumps(pods.resources, sort_keys=True))
    return parameters
