"""Ray objects as a user would write them for a small machine: one literal each, with token authentication."""

from __future__ import annotations

from onebox.api import Manifest
from onebox.layout import RAY_VERSION

HEAD_PORTS = [
    {"containerPort": 6379, "name": "gcs-server"},
    {"containerPort": 8265, "name": "dashboard"},
    {"containerPort": 10001, "name": "client"},
    {"containerPort": 8000, "name": "serve"},
]


def cluster_spec(image: str, *, head_cpus: int = 1) -> Manifest:
    """A head and nothing else."""
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": str(head_cpus)},
            "template": {"spec": {"containers": [{
                "name": "ray-head",
                "image": image,
                "ports": HEAD_PORTS,
                "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
            }]}},
        },
    }  # fmt: skip


def with_workers(spec: Manifest, image: str, *, replicas: int = 1) -> Manifest:
    """Add CPU workers."""
    return spec | {"workerGroupSpecs": [{
        "groupName": "cpu", "replicas": replicas, "minReplicas": replicas, "maxReplicas": replicas,
        "rayStartParams": {"num-cpus": "1"},
        "template": _worker(image, {}),
    }]}  # fmt: skip


def with_gpu_workers_from_zero(spec: Manifest, image: str, *, idle_seconds: int) -> Manifest:
    """Add a GPU group that Ray's demand brings and idleness takes away (autoscaler v2)."""
    return spec | {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": idle_seconds,
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "768Mi"}},
        },
        "workerGroupSpecs": [{
            "groupName": "gpu", "replicas": 0, "minReplicas": 0, "maxReplicas": 1,
            "rayStartParams": {"num-cpus": "1", "num-gpus": "1"},
            "template": _worker(image, {"nvidia.com/gpu": "1"}),
        }],
    }  # fmt: skip


def ray_cluster(name: str, spec: Manifest) -> Manifest:
    """A RayCluster."""
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name}, "spec": spec}


def ray_job(name: str, spec: Manifest, program: str, *, mode: str) -> Manifest:
    """A RayJob that runs a Python program on the head and keeps its cluster."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name},
        "spec": {
            "submissionMode": mode,
            "shutdownAfterJobFinishes": False,
            "entrypoint": f'python -c "\n{program}"',
            "rayClusterSpec": spec,
        },
    }


def ray_service(name: str, spec: Manifest, serve_config: str) -> Manifest:
    """A RayService."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name},
        "spec": {"serveConfigV2": serve_config, "rayClusterConfig": spec},
    }


def pod(name: str, image: str, *command: str) -> Manifest:
    """A pod of one container that ends when its command ends."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "command": list(command)}],
        },
    }


def _worker(image: str, gpus: dict[str, str]) -> Manifest:
    requests = {"cpu": "200m", "memory": "1Gi", **gpus}
    limits = {"cpu": "1", "memory": "3Gi", **gpus}
    container = {"name": "ray-worker", "image": image, "resources": {"requests": requests, "limits": limits}}
    return {"spec": {"containers": [container]}}
