"""A cluster that lacks nothing, and small changes to it: manifests as an API server writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kairay.cluster.doctor import rights_wanted
from kairay.cluster.observed import Observed
from kairay.kube.objects import Manifest

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SKU_TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
SPOT_TAINT = {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"}
TOLERATIONS = (
    {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Exists"},
)


def workload(kind: str, name: str, image: str, namespace: str = "kube-system", **pod: Any) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "image": image}], **pod}}
        },
        "status": {"availableReplicas": 1} if kind == "Deployment" else {},
    }


def operator(image: str = "quay.io/kuberay/operator:v1.6.0") -> Manifest:
    return workload("Deployment", "kuberay-operator", image, "kuberay-system")


def controller() -> Manifest:
    return workload("Deployment", "kairay-controller", "contoso.azurecr.io/controller:0.1.0", "kairay-system")


def unavailable(deployment: Manifest, message: str) -> Manifest:
    conditions = [{"type": "Available", "status": "False", "message": message}]
    return {**deployment, "status": {"conditions": conditions}}


def plugin(*tolerations: dict[str, str], **pod: Any) -> Manifest:
    image = "nvcr.io/nvidia/k8s-device-plugin:v0.18.0"
    return workload("DaemonSet", "nvdp", image, "gpu", tolerations=list(tolerations or TOLERATIONS), **pod)


def engine() -> Manifest:
    return workload("DaemonSet", "cilium", "mcr.microsoft.com/cilium:1")


def node(
    name: str = "gpu-1",
    *,
    gpus: int = 1,
    ready: bool = True,
    labels: dict[str, str] | None = None,
    taints: tuple[dict[str, str], ...] = (),
    capacity: int | None = None,
    created: str = "2026-11-24T12:00:00Z",
) -> Manifest:
    room = {"nvidia.com/gpu": str(gpus), "cpu": "24", "memory": "200Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"accelerator": "nvidia"} if labels is None else labels,
            "creationTimestamp": created,
        },
        "spec": {"taints": list(taints)},
        "status": {
            "allocatable": room,
            "capacity": room if capacity is None else {**room, "nvidia.com/gpu": str(capacity)},
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def storage(
    name: str = "managed", provisioner: str = "disk.csi.azure.com", *, default: bool = True
) -> Manifest:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner,
    }


def lease(renewed: str = "2026-11-25T11:59:57.000000Z", holder: str = "kairay-controller-abc") -> Manifest:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "kairay-controller", "namespace": "kairay-system"},
        "spec": {"holderIdentity": holder, "renewTime": renewed},
    }


def account(**annotations: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "kairay-controller",
            "namespace": "kairay-system",
            "annotations": dict(annotations),
        },
    }


def config_map(name: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "kairay-system"},
        "data": data,
    }


def resource_list(*names: str, kind: str = "") -> Manifest:
    return {"kind": "APIResourceList", "resources": [{"name": name, "kind": kind} for name in names]}


def whole(**changes: Any) -> Observed:
    """A cluster where everything is as it should be, but for the changes."""
    given: dict[str, Any] = {
        "server": "https://ml",
        "now": NOW,
        "version": "v1.34.1",
        "resources": {
            "kaito.sh/v1beta1": frozenset({"workspaces"}),
            "ray.io/v1": frozenset({"rayclusters", "rayjobs", "rayservices"}),
        },
        "deployments": (controller(), operator()),
        "daemon_sets": (plugin(), engine()),
        "nodes": (node(),),
        "storage_classes": (storage(), storage("files", "file.csi.azure.com", default=False)),
        "lease": lease(),
        "account": account(),
        "tables": {"kairay-presets": True, "kairay-sizes": True},
        "rights": dict.fromkeys(rights_wanted("team"), True),
    }
    return Observed(**{**given, **changes})


SAYS: dict[str, Manifest] = {
    "/version": {"gitVersion": "v1.34.1"},
    "/apis/kaito.sh/v1beta1": resource_list("workspaces", "workspaces/status"),
    "/apis/ray.io/v1": resource_list("rayclusters", "rayjobs", "rayservices"),
}
"""What the API server of a whole cluster says of itself,"""
OBJECTS = (
    controller(), operator(), plugin(), engine(), node(), storage(),
    storage("files", "file.csi.azure.com", default=False), lease(), account(),
    config_map("kairay-presets"), config_map("kairay-sizes"),
)  # fmt: skip
"""and what stands in it."""
