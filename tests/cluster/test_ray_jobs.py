"""RayJobs on the real operator: both ways of submission, tokens, and an operator that dies in between."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests

from onebox.addons import OPERATOR_NAMESPACE
from onebox.api import Manifest
from onebox.cluster import Cluster
from polling import eventually
from ray_manifests import cluster_spec, ray_job, with_workers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300, func_only=True)]

WHERE_TASKS_RUN = """
import ray, socket, time
ray.init()
@ray.remote(num_cpus=1)
def where(i):
    time.sleep(2)
    return socket.gethostname()
print('RESULT', *sorted(set(ray.get([where.remote(i) for i in range(4)]))))
"""
SLOW = """
import ray, time
ray.init()
print('BEGIN')
time.sleep(15)
print('RESULT', ray.get(ray.remote(lambda: 6 * 7).remote()))
"""


def test_a_ray_job_submitted_by_the_operator_succeeds_and_its_dashboard_demands_the_token(
    cluster: Cluster, namespace: str
) -> None:
    spec = with_workers(cluster_spec(cluster.image), cluster.image)
    job = finished(cluster, namespace, ray_job("http", spec, WHERE_TASKS_RUN, mode="HTTPMode"))
    assert job["status"]["jobStatus"] == "SUCCEEDED", job["status"]

    dashboard, token = dashboard_of(cluster, namespace, job["status"]["rayClusterName"])
    places = result_of(dashboard, token, job["status"]["jobId"])
    assert len(places) == 2
    assert any("head" in place for place in places)
    assert any("worker" in place for place in places)

    version = f"{dashboard}/api/version"
    assert requests.get(version, timeout=10).status_code == 401
    assert requests.get(version, headers=bearer("wrong"), timeout=10).status_code == 403
    assert requests.get(version, headers=bearer(token), timeout=10).json()["ray_version"] == "2.60.0"


def test_a_ray_job_submitted_by_a_pod_succeeds(cluster: Cluster, namespace: str) -> None:
    job = finished(cluster, namespace, ray_job("pod", cluster_spec(cluster.image), SLOW, mode="K8sJobMode"))
    assert job["status"]["jobStatus"] == "SUCCEEDED", job["status"]
    submitters = cluster.api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector="job-name=pod")
    log = cluster.api.text(f"/api/v1/namespaces/{namespace}/pods/{submitters[0]['metadata']['name']}/log")
    assert "RESULT 42" in log


def test_a_ray_job_goes_on_when_the_operator_restarts(cluster: Cluster, namespace: str) -> None:
    cluster.api.apply(ray_job("lasting", cluster_spec(cluster.image), SLOW, mode="HTTPMode"), namespace)
    running = eventually(
        "the job runs",
        lambda: the_job(cluster, namespace, "lasting"),
        lambda job: status(job) == "RUNNING",
        seconds=120,
    )
    operators = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods"
    before = cluster.api.items(operators)
    assert len(before) == 1
    cluster.api.delete(f"{operators}/{before[0]['metadata']['name']}", grace_seconds=0)

    job = await_end(cluster, namespace, "lasting")
    assert status(job) == "SUCCEEDED", job["status"]
    assert job["status"]["rayClusterName"] == running["status"]["rayClusterName"]
    assert job["status"]["jobId"] == running["status"]["jobId"]
    assert len(cluster.api.items(f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters")) == 1
    assert {pod["metadata"]["uid"] for pod in cluster.api.items(operators)}.isdisjoint(
        {before[0]["metadata"]["uid"]}
    )
    dashboard, token = dashboard_of(cluster, namespace, job["status"]["rayClusterName"])
    submissions = requests.get(f"{dashboard}/api/jobs/", headers=bearer(token), timeout=10).json()
    assert [s["submission_id"] for s in submissions if s["type"] == "SUBMISSION"] == [job["status"]["jobId"]]


def finished(cluster: Cluster, namespace: str, manifest: Manifest) -> Manifest:
    cluster.api.apply(manifest, namespace)
    return await_end(cluster, namespace, manifest["metadata"]["name"])


def await_end(cluster: Cluster, namespace: str, name: str) -> Manifest:
    return eventually(
        f"RayJob {name} ends", lambda: the_job(cluster, namespace, name),
        lambda job: job.get("status", {}).get("jobDeploymentStatus") in ("Complete", "Failed"), seconds=180,
    )  # fmt: skip


def the_job(cluster: Cluster, namespace: str, name: str) -> Manifest:
    return cluster.api.get(f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs/{name}")


def status(job: Manifest) -> Any:
    return job.get("status", {}).get("jobStatus")


def dashboard_of(cluster: Cluster, namespace: str, ray_cluster: str) -> tuple[str, str]:
    """(URL, token) of a RayCluster's dashboard, as the host reaches it."""
    path = f"/api/v1/namespaces/{namespace}"
    heads = cluster.api.items(
        f"{path}/pods", labelSelector=f"ray.io/cluster={ray_cluster},ray.io/node-type=head"
    )
    secret = cluster.api.get(f"{path}/secrets/{ray_cluster}")
    return f"http://{heads[0]['status']['podIP']}:8265", base64.b64decode(
        secret["data"]["auth_token"]
    ).decode()


def result_of(dashboard: str, token: str, job: str) -> list[str]:
    """Words after RESULT in the job's log."""
    logs = requests.get(f"{dashboard}/api/jobs/{job}/logs", headers=bearer(token), timeout=10).json()["logs"]
    return next(line for line in str(logs).splitlines() if line.startswith("RESULT")).split()[1:]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
