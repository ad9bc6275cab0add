"""Ray's demand brings a GPU worker, idleness takes it away: autoscaler v2, 0 → 1 → 0."""

from __future__ import annotations

import pytest

from fixture_types import Kubectl
from onebox.api import Manifest
from onebox.cluster import Cluster
from polling import eventually
from ray_manifests import cluster_spec, ray_cluster, with_gpu_workers_from_zero

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300, func_only=True)]

DEMAND = """
import os, ray
ray.init()
@ray.remote(num_gpus=1, num_cpus=0)
def task():
    return os.environ['CUDA_VISIBLE_DEVICES'], ray.get_gpu_ids()
print('RESULT', ray.get(task.remote()))
"""


def test_a_gpu_worker_comes_for_a_task_and_leaves_after_it(
    cluster: Cluster, namespace: str, kubectl: Kubectl
) -> None:
    spec = with_gpu_workers_from_zero(
        cluster_spec(cluster.image, head_cpus=0), cluster.image, idle_seconds=10
    )
    cluster.api.apply(ray_cluster("auto", spec), namespace)

    def pods(kind: str) -> list[Manifest]:
        return cluster.api.items(
            f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"ray.io/node-type={kind}"
        )

    heads = eventually(
        "the head is ready", lambda: pods("head"), lambda found: bool(found) and ready(found[0]), seconds=120
    )
    assert pods("worker") == []
    head = heads[0]["metadata"]["name"]
    said = kubectl("exec", "-n", namespace, head, "-c", "ray-head", "--", "python", "-c", DEMAND)
    assert "RESULT ('0', [0])" in said
    workers = pods("worker")
    assert len(workers) == 1
    assert workers[0]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    eventually("the idle worker is gone", lambda: pods("worker"), lambda found: not found, seconds=90)


def ready(pod: Manifest) -> bool:
    """Every container of it."""
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all(container["ready"] for container in statuses)
