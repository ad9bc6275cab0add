"""What Kubernetes objects are to us: plain data with a kind, a namespace and a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Manifest = dict[str, Any]
"""An object as the API server writes it."""

Trim = Callable[[Manifest], Manifest]
"""What is kept of an object; may change its argument."""

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation in which `kubectl apply` keeps a copy of the whole object."""


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of object, with what its URL needs."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """As rights name it: `rayjobs.ray.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL's path: one object, or all of the kind (in one namespace, or everywhere without one)."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{place}/{self.plural}" + (f"/{name}" if name else "")


WORKSPACE: Final = Kind("kaito.sh/v1beta1", "Workspace", "workspaces")
RAY_JOB: Final = Kind("ray.io/v1", "RayJob", "rayjobs")
RAY_SERVICE: Final = Kind("ray.io/v1", "RayService", "rayservices")
RAY_CLUSTER: Final = Kind("ray.io/v1", "RayCluster", "rayclusters")
POD: Final = Kind("v1", "Pod", "pods")
SERVICE: Final = Kind("v1", "Service", "services")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SECRET: Final = Kind("v1", "Secret", "secrets")
CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
EVENT: Final = Kind("v1", "Event", "events")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
STATEFUL_SET: Final = Kind("apps/v1", "StatefulSet", "statefulsets")
JOB: Final = Kind("batch/v1", "Job", "jobs")
DAEMON_SET: Final = Kind("apps/v1", "DaemonSet", "daemonsets")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
STORAGE_CLASS: Final = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
VALIDATING_WEBHOOK: Final = Kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    namespaced=False,
)
NODE_POOL: Final = Kind("karpenter.sh/v1", "NodePool", "nodepools", namespaced=False)
NODE_CLAIM: Final = Kind("karpenter.sh/v1", "NodeClaim", "nodeclaims", namespaced=False)

KINDS: Final[Mapping[tuple[str, str], Kind]] = {
    (kind.api_version, kind.kind): kind
    for kind in (
        WORKSPACE, RAY_JOB, RAY_SERVICE, RAY_CLUSTER, POD, SERVICE, CONFIG_MAP, SECRET, CLAIM, EVENT, NODE,
        DEPLOYMENT, STATEFUL_SET, DAEMON_SET, JOB, NETWORK_POLICY, LEASE, VALIDATING_WEBHOOK, NODE_POOL,
        NODE_CLAIM, SERVICE_ACCOUNT, STORAGE_CLASS,
    )
}  # fmt: skip
"""By (apiVersion, kind)."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which object: `namespace` is empty for kinds without one."""

    kind: Kind
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """The URL's path."""
        return self.kind.path(self.namespace, self.name)

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.kind} {place}{self.name}"


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """Its kind; KeyError for one that is not in KINDS, since that is our own mistake."""
    return KINDS[manifest["apiVersion"], manifest["kind"]]


def key_of(manifest: Mapping[str, Any]) -> Key:
    """Where it is."""
    metadata = manifest["metadata"]
    return Key(kind_of(manifest), metadata.get("namespace", ""), metadata["name"])


def version_of(manifest: Mapping[str, Any]) -> str:
    """Its resourceVersion; empty when it never was in a cluster."""
    return str(manifest["metadata"].get("resourceVersion", ""))


def uid_of(manifest: Mapping[str, Any]) -> str:
    """Its UID; empty when it never was in a cluster."""
    return str(manifest["metadata"].get("uid", ""))


def labels_of(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """Its labels, perhaps none."""
    found: Mapping[str, str] = manifest["metadata"].get("labels") or {}
    return found


def drop_bookkeeping(manifest: Manifest) -> Manifest:
    """The object less managedFields and kubectl's copy of it: half its size, and nothing that we read."""
    metadata = manifest["metadata"]
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED, None)
    return manifest
