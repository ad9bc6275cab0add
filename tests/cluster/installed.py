"""Kairay's controllers on the one-machine cluster, as tests handle them."""

from __future__ import annotations

import base64
import json

from onebox.cluster import Cluster
from onebox.kairay import CONTROLLER, DEPLOYMENT, settings
from onebox.layout import SYSTEM_NAMESPACE
from polling import eventually
from ray_manifests import Manifest

PODS = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods"


def push_secret(cluster: Cluster, name: str) -> Manifest:
    """A login to the private registry, as `kubectl create secret docker-registry` makes it."""
    login = base64.b64encode(f"{cluster.registry_user}:{cluster.registry_password}".encode()).decode()
    config = json.dumps({"auths": {cluster.private_registry: {"auth": login}}})
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }  # fmt: skip


def controllers(cluster: Cluster) -> list[Manifest]:
    """Ready controller pods that are not going."""
    found = cluster.api.items(PODS, labelSelector=f"app.kubernetes.io/name={CONTROLLER}")
    return [pod for pod in found if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]


def kill_controllers(cluster: Cluster) -> None:
    """SIGKILL: no grace, nothing released."""
    for pod in cluster.api.items(PODS, labelSelector=f"app.kubernetes.io/name={CONTROLLER}"):
        cluster.api.delete(f"{PODS}/{pod['metadata']['name']}", grace_seconds=0)


def scale(cluster: Cluster, replicas: int) -> None:
    """So many controllers, of which one leads."""
    cluster.api.patch(DEPLOYMENT, {"spec": {"replicas": replicas}})
    eventually("the controllers are there", lambda: len(controllers(cluster)) == replicas, seconds=60)


def configure(cluster: Cluster, **variables: str | None) -> None:
    """Other settings (None: the default), read by controllers that are started anew, as an upgrade does."""
    data = {**settings(cluster)["data"], **variables}
    kept = {key: value for key, value in data.items() if value is not None}
    cluster.api.apply({**settings(cluster), "data": kept})
    kill_controllers(cluster)
    eventually("the controllers are back", lambda: len(controllers(cluster)) == 1, seconds=60)


def leader(cluster: Cluster) -> str:
    """Who holds the Lease."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{CONTROLLER}"
    return str(cluster.api.get(path)["spec"].get("holderIdentity") or "")


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
