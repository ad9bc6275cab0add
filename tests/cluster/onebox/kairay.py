"""Kairay itself on the cluster: `kubectl apply -k kuberay/install` with the cluster's image and small pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import yaml

from onebox.api import Manifest
from onebox.errors import Report
from onebox.layout import CLONE, NODE, SYSTEM_NAMESPACE
from onebox.waiting import wait_for

if TYPE_CHECKING:
    from onebox.cluster import Cluster

INSTALL = CLONE / "kuberay" / "install"
CONTROLLER = "kairay-controller"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{CONTROLLER}"
LABELS = {"app": "small-model", "node.kubernetes.io/instance-type": "Standard_NC4as_T4_v3"}
"""The node passes for a machine with a T4, and for those that examples/cluster asks for."""
_NODE = f"/api/v1/nodes/{NODE}"
_SECONDS = 60.0


def install(cluster: Cluster, report: Report) -> None:
    """CRD, policies, rights and a running controller. OneboxError when it does not get ready."""
    cluster.api.patch(_NODE, {"metadata": {"labels": LABELS}})
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
    cluster.api.apply(settings(cluster))
    for manifest in manifests():
        cluster.api.apply(_on_this_cluster(manifest, cluster))
        if manifest["kind"] == "CustomResourceDefinition":
            _wait("CRD", cluster, lambda: cluster.api.find("/apis/kaito.sh/v1beta1/workspaces") is not None)
    _wait("controller", cluster, lambda: _available(cluster))
    report("Kairay is installed; node onebox passes for a machine with a T4")


def uninstall(cluster: Cluster) -> None:
    """The controller and the labels go; the CRD stays for whoever looks at what failed."""
    cluster.api.delete(DEPLOYMENT)
    cluster.api.patch(_NODE, {"metadata": {"labels": dict.fromkeys(LABELS)}})


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
    metadata = {"name": CONTROLLER, "namespace": SYSTEM_NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _on_this_cluster(manifest: Manifest, cluster: Cluster) -> Manifest:
    if manifest["kind"] != "Deployment":
        return manifest
    spec = manifest["spec"]["template"]["spec"]
    containers = [{**each, "image": cluster.image} for each in spec["containers"]]
    template = {**manifest["spec"]["template"], "spec": {**spec, "containers": containers}}
    return {**manifest, "spec": {**manifest["spec"], "replicas": 1, "template": template}}


def _available(cluster: Cluster) -> bool:
    found = cluster.api.find(DEPLOYMENT) or {}
    status = found.get("status", {})
    return bool(status.get("availableReplicas") == 1 and status.get("replicas") == 1)


def _wait(what: str, cluster: Cluster, holds: Callable[[], bool]) -> None:
    wait_for(what, holds, seconds=_SECONDS, parts={}, logs=cluster.logs)
