"""Kairay's controller on the one-machine cluster: `kubectl apply -k kuberay/install` with the cluster's own image."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from onebox.cluster import Cluster
from polling import eventually
from ray_manifests import Manifest

INSTALL = Path(__file__).resolve().parents[2] / "kuberay" / "install"
SYSTEM = "kairay-system"
NAME = "kairay-controller"
PODS = f"/api/v1/namespaces/{SYSTEM}/pods"
_DEPLOYMENT = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{NAME}"
_NODE = "/api/v1/nodes/onebox"
T4 = {"app": "small-model", "node.kubernetes.io/instance-type": "Standard_NC4as_T4_v3"}


def install(cluster: Cluster) -> None:
    """CRD, policies, rights and a running controller; the node gets the labels of a T4 machine."""
    cluster.api.patch(_NODE, {"metadata": {"labels": T4}})
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.api.apply(settings(cluster))
    for manifest in manifests():
        cluster.api.apply(_on_this_cluster(manifest, cluster))
        if manifest["kind"] == "CustomResourceDefinition":
            eventually("the CRD is served", lambda: cluster.api.find("/apis/kaito.sh/v1beta1/workspaces"))
    eventually("the controller is available", lambda: len(controllers(cluster)) == 1, seconds=60)


def uninstall(cluster: Cluster) -> None:
    """The controller goes; the CRD stays for whoever looks at what failed."""
    cluster.api.delete(_DEPLOYMENT)
    cluster.api.patch(_NODE, {"metadata": {"labels": dict.fromkeys(T4)}})


def manifests() -> Iterator[Manifest]:
    """Everything that the kustomization lists, in its order."""
    listed = yaml.safe_load((INSTALL / "kustomization.yaml").read_text("utf-8"))["resources"]
    for name in listed:
        yield from (each for each in yaml.safe_load_all((INSTALL / name).read_text("utf-8")) if each)


def settings(cluster: Cluster) -> Manifest:
    """Small pods, short waits, and processors in the place of GPUs that the node only advertises."""
    data = {
        "KAIRAY_RAY_IMAGE": cluster.image,
        "KAIRAY_ADVERTISED_GPUS": "1",
        "KAIRAY_HEAD_SIZE": "0.2/1Gi-2/4Gi",
        "KAIRAY_WORKER_SIZE": "0.2/1Gi-2/8Gi",
        "KAIRAY_RUN_STORAGE": "1Gi",
        "KAIRAY_INSECURE_REGISTRIES": f"{cluster.registry},{cluster.private_registry}",
        "KAIRAY_WORKER_IDLE_SECONDS": "15",
        "KAIRAY_IDLE_SECONDS": "15",
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": SYSTEM},
        "data": data,
    }


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
    found = cluster.api.items(PODS, labelSelector=f"app.kubernetes.io/name={NAME}")
    return [pod for pod in found if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]


def kill_controllers(cluster: Cluster) -> None:
    """SIGKILL: no grace, nothing released."""
    for pod in cluster.api.items(PODS, labelSelector=f"app.kubernetes.io/name={NAME}"):
        cluster.api.delete(f"{PODS}/{pod['metadata']['name']}", grace_seconds=0)


def scale(cluster: Cluster, replicas: int) -> None:
    """So many controllers, of which one leads."""
    cluster.api.patch(_DEPLOYMENT, {"spec": {"replicas": replicas}})
    eventually("the controllers are there", lambda: len(controllers(cluster)) == replicas, seconds=60)


def leader(cluster: Cluster) -> str:
    """Who holds the Lease."""
    lease = cluster.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{NAME}")
    return str(lease["spec"].get("holderIdentity") or "")


def _on_this_cluster(manifest: Manifest, cluster: Cluster) -> Manifest:
    if manifest["kind"] != "Deployment":
        return manifest
    spec = manifest["spec"]["template"]["spec"]
    containers = [{**each, "image": cluster.image} for each in spec["containers"]]
    template = {**manifest["spec"]["template"], "spec": {**spec, "containers": containers}}
    return {**manifest, "spec": {**manifest["spec"], "replicas": 1, "template": template}}


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
