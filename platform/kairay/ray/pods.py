"""Pod templates of Ray's head and workers: what every one of them has, and where a Workspace's things are mounted.

Pods run user code, so none of them gets a Kubernetes token but the autoscaler's container; none runs as root or
writes to its image. Everything a pod writes is below `ROOT`, which is a volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kairay.nodes.interface import GPU_TAINT_EFFECT, GPU_TAINT_KEY, GPU_TAINT_VALUE

Manifest = dict[str, Any]

DASHBOARD_PORT, METRICS_PORT, SERVE_PORT = 8265, 8080, 8000
"""Where Ray answers in a pod."""

ROOT = "/kairay"
CACHE = f"{ROOT}/cache"
TMP = f"{ROOT}/tmp"  # noqa: S108  a volume of the pod
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  a path

_TOKEN_VOLUME = "autoscaler-token"  # noqa: S105  a name
_PORTS = (
    ("gcs-server", 6379), ("dashboard", DASHBOARD_PORT), ("client", 10001), ("metrics", METRICS_PORT),
    ("serve", SERVE_PORT),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSize:
    """Requests and limits of a Ray container."""

    cpus: float
    memory: int
    """Bytes."""
    most_cpus: float
    most_memory: int
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume of Kubernetes at a path."""

    name: str
    path: str
    volume: Mapping[str, Any]
    """The volume without its name, as Kubernetes writes it."""
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodParts:
    """What one kind of pod of a Workspace has beside what every pod has."""

    environment: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Variable -> (secret, key); a secret that is missing leaves it out."""
    mounts: tuple[Mount, ...] = ()
    prepare: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name, command) of init containers, in their order, with the same environment and mounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Nodes that worker pods may use."""

    labels: Mapping[str, str] = field(default_factory=dict)
    any_of: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(label, values): one of the values."""
    spot: bool = False


def head_template(image: str, size: PodSize, parts: PodParts, labels: Mapping[str, str]) -> Manifest:
    """The head: no GPU, on a CPU node where there is one."""
    template = _template("ray-head", image, size, parts, labels)
    spec = template["spec"]
    spec["containers"][0]["ports"] = [{"name": name, "containerPort": port} for name, port in _PORTS]
    spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [
            {"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"},
        ]}},
    ]}}  # fmt: skip
    spec["volumes"].append({"name": _TOKEN_VOLUME, "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}})  # fmt: skip
    return template


def worker_template(
    image: str, size: PodSize, parts: PodParts, labels: Mapping[str, str], placement: Placement
) -> Manifest:
    """A worker with its GPUs, on the nodes that the Workspace chose."""
    template = _template("ray-worker", image, size, parts, labels)
    spec = template["spec"]
    spec["nodeSelector"] = dict(sorted(placement.labels.items()))
    spec["tolerations"] = [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": GPU_TAINT_KEY, "operator": "Equal", "value": GPU_TAINT_VALUE, "effect": GPU_TAINT_EFFECT},
    ]
    if placement.spot:
        key = "kubernetes.azure.com/scalesetpriority"
        spec["tolerations"].append({"key": key, "operator": "Equal", "value": "spot", "effect": "NoSchedule"})
    if placement.any_of:
        terms = [{"key": key, "operator": "In", "values": list(values)} for key, values in placement.any_of]
        required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return template


def autoscaler_mounts() -> list[Manifest]:
    """The only Kubernetes token of a head pod, for the autoscaler's container."""
    return [{"name": _TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True}]


def resources(size: PodSize) -> Manifest:
    """A container's `resources`."""
    gpus = {"nvidia.com/gpu": str(size.gpus)} if size.gpus else {}
    return {
        "requests": {"cpu": cpu_text(size.cpus), "memory": memory_text(size.memory), **gpus},
        "limits": {"cpu": cpu_text(size.most_cpus), "memory": memory_text(size.most_memory), **gpus},
    }


def cpu_text(cpus: float) -> str:
    """Cores as Kubernetes writes them."""
    return str(int(cpus)) if cpus == int(cpus) else f"{round(cpus * 1000)}m"


def memory_text(size: int) -> str:
    """Bytes in whole MiB."""
    return f"{size // 2**20}Mi"


def _template(name: str, image: str, size: PodSize, parts: PodParts, labels: Mapping[str, str]) -> Manifest:
    mounts = [
        {"name": "work", "mountPath": ROOT},
        {"name": "tmp", "mountPath": TMP},
        # KubeRay's own name: with autoscaling it mounts the volume into the autoscaler's container as well.
        {"name": "ray-logs", "mountPath": "/tmp/ray"},  # noqa: S108  a volume of the pod
        *({"name": m.name, "mountPath": m.path, "readOnly": m.read_only} for m in parts.mounts),
    ]
    common = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(parts),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    prepare = [
        {"name": step, "command": list(command), **common, "resources": resources(size)}
        for step, command in parts.prepare
    ]
    return {
        "metadata": {"labels": dict(sorted(labels.items()))},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 100, "fsGroup": 100,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"initContainers": prepare} if prepare else {}),
            "containers": [{"name": name, **common, "resources": resources(size)}],
            "volumes": [
                {"name": "work", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "ray-logs", "emptyDir": {}},
                *({"name": mount.name, **mount.volume} for mount in parts.mounts),
            ],
        },
    }  # fmt: skip


def _environment(parts: PodParts) -> list[Manifest]:
    plain = {
        "HOME": f"{ROOT}/home",
        "HF_HOME": f"{CACHE}/huggingface",
        "RAY_TMPDIR": "/tmp",  # noqa: S108  Ray would follow TMPDIR, where the autoscaler's container does not see it
        "RAY_USAGE_STATS_ENABLED": "0",
        "TMPDIR": TMP,
        "XDG_CACHE_HOME": CACHE,
        **parts.environment,
    }
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
        for name, (secret, key) in sorted(parts.secret_environment.items())
    ]
    return [{"name": name, "value": plain[name]} for name in sorted(plain)] + secret
