"""What is missing on a cluster: from what was seen to findings. Pure.

The cluster itself is here; nodes are in checks_nodes, what brings them in checks_azure and checks_karpenter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kairay.cluster.checks_azure import check_azure
from kairay.cluster.checks_karpenter import check_karpenter
from kairay.cluster.checks_nodes import check_network, check_nodes
from kairay.cluster.checks_prices import check_prices
from kairay.cluster.findings import Finding, Unseen, missing, ok, unseen, warning
from kairay.cluster.observed import CONTROLLER, TABLES, Objects, Observed
from kairay.kube.interface import Right
from kairay.kube.objects import RAY_CLUSTER, RAY_JOB, RAY_SERVICE, WORKSPACE, Manifest

LOWEST_KUBERNETES: Final = (1, 31)
"""ValidatingAdmissionPolicies with parameters that may be absent, and CEL's functions that the rules use."""
LOWEST_KUBERAY: Final = (1, 6)
_INSTALL: Final = "kubectl apply --server-side -k kuberay/install"
_KUBERAY: Final = (
    "install KubeRay 1.6 or newer (Helm chart kuberay-operator of https://ray-project.github.io/kuberay-helm)"
)
_OPERATOR: Final = "kuberay-operator"
_OPERATOR_IMAGE: Final = re.compile(r"kuberay.*operator")
_STALE: Final = timedelta(seconds=60)
"""Four times the Lease's length: the clocks of two machines are compared here."""
_DEFAULT_CLASS: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
SHARED_STORAGE: Final = frozenset({
    "file.csi.azure.com", "blob.csi.azure.com", "azurelustre.csi.azure.com", "efs.csi.aws.com", "fsx.csi.aws.com",
    "filestore.csi.storage.gke.io", "nfs.csi.k8s.io", "smb.csi.k8s.io", "csi.trident.netapp.io",
    "cephfs.csi.ceph.com", "rook-ceph.cephfs.csi.ceph.com", "driver.longhorn.io", "beegfs.csi.netapp.com",
})  # fmt: skip
"""Provisioners of volumes that several nodes may write to (ReadWriteMany)."""
_NEEDED_FOR: Final[Mapping[tuple[str, str], str]] = {
    ("pods", ""): "kairay logs and kairay dashboard",
    ("pods", "proxy"): "kairay logs and kairay dashboard",
    ("services", "proxy"): "kairay chat --cluster",
    ("secrets", ""): "kairay logs and kairay dashboard, which need Ray's token",
}


def check(seen: Observed) -> list[Finding]:
    """Every finding, the cluster's first; only the first one where the API server does not answer."""
    version = check_version(seen.version, seen.server)
    if not seen.answers:
        return [version]
    found = [version, check_crd(seen), *check_kuberay(seen), *check_controller(seen)]
    found += [*check_tables(seen), *check_storage(seen), check_network(seen.daemon_sets), *check_rights(seen)]
    found += [check_prices(seen)]
    found += [*check_nodes(seen), *check_azure(seen), *check_karpenter(seen)]
    return found


def check_version(version: str | Unseen, server: str) -> Finding:
    """The API server's."""
    name = "Kubernetes"
    if isinstance(version, Unseen):
        return unseen(name, version) if version.denied else missing(name, version.why)
    numbers = _numbers(version)
    lowest = ".".join(map(str, LOWEST_KUBERNETES))
    if numbers is None:
        return warning(name, f"{server} calls its version {version!r}; Kairay needs {lowest} or newer")
    if numbers < LOWEST_KUBERNETES:
        return missing(name, f"{server} runs {version}; Kairay needs {lowest} or newer: upgrade the cluster")
    return ok(name, f"{version} at {server}")


def check_crd(seen: Observed) -> Finding:
    """Workspaces."""
    name, found = "Workspaces", seen.resources.get(WORKSPACE.api_version, frozenset())
    if isinstance(found, Unseen):
        return unseen(name, found)
    if WORKSPACE.plural not in found:
        return missing(name, f"the cluster knows no {WORKSPACE.resource}; install Kairay: {_INSTALL}")
    return ok(name, f"the cluster knows {WORKSPACE.resource} ({WORKSPACE.api_version})")


def check_kuberay(seen: Observed) -> Iterator[Finding]:
    """Its kinds, and its operator's version."""
    found = seen.resources.get(RAY_JOB.api_version, frozenset())
    wanted = {kind.plural: kind.kind for kind in (RAY_CLUSTER, RAY_JOB, RAY_SERVICE)}
    if isinstance(found, Unseen):
        yield unseen("KubeRay's kinds", found)
    elif lacking := [kind for plural, kind in wanted.items() if plural not in found]:
        yield missing("KubeRay's kinds", f"the cluster knows no {' and no '.join(lacking)}; {_KUBERAY}")
    else:
        yield ok("KubeRay's kinds", f"{', '.join(wanted.values())} ({RAY_JOB.api_version})")
    yield _operator(seen.deployments)


def _operator(deployments: Objects) -> Finding:
    name = "KubeRay's operator"
    if isinstance(deployments, Unseen):
        return unseen(name, deployments)
    # A registry of one's own may have renamed the image; the chart and KubeRay's manifests name the Deployment alike.
    found = [
        (each, image)
        for each in deployments
        for image in _images(each)
        if _OPERATOR_IMAGE.search(image) or each["metadata"]["name"] == _OPERATOR
    ]
    if not found:
        return missing(name, f"no Deployment runs it; {_KUBERAY}")
    deployment, image = found[0]
    place, numbers = _place(deployment), _numbers(_tag(image))
    if not _available(deployment):
        return missing(name, f"{place} has no pod that is ready: {_trouble(deployment)}")
    if numbers is None:
        return warning(
            name, f"{place} runs {image}, whose version is not in its name; 1.6 or newer is needed"
        )
    if numbers < LOWEST_KUBERAY:
        return missing(name, f"{place} runs {image}; Kairay needs 1.6 or newer: {_KUBERAY}")
    return ok(name, f"{_tag(image)} in {place}")


def check_controller(seen: Observed) -> Iterator[Finding]:
    """The Deployment and who of its pods leads."""
    name, deployment = "controller", seen.controller
    if isinstance(seen.deployments, Unseen):
        yield unseen(name, seen.deployments)
    elif deployment is None:
        yield missing(name, f"there is no Deployment {CONTROLLER}; install Kairay: {_INSTALL}")
        return
    elif not _available(deployment):
        yield missing(
            name,
            f"{_place(deployment)} has no pod that is ready: {_trouble(deployment)}; look at "
            f"kubectl -n {seen.namespace} describe pods -l app.kubernetes.io/name={CONTROLLER}",
        )
    else:
        yield ok(name, f"{_place(deployment)} runs {', '.join(_images(deployment))}")
    yield _leader(seen.lease, seen.now, seen.namespace)


def _leader(lease: Manifest | Unseen | None, now: datetime, namespace: str) -> Finding:
    name = "controller's leader"
    if isinstance(lease, Unseen):
        return unseen(name, lease)
    spec = (lease or {}).get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    logs = f"kubectl -n {namespace} logs deployment/{CONTROLLER}"
    if not holder or not renewed:
        return missing(name, f"no controller leads (Lease {namespace}/{CONTROLLER}); {logs} says why")
    age = now - datetime.fromisoformat(renewed)
    if age > _STALE:
        return missing(
            name, f"{holder} led until {age.total_seconds():.0f} s ago, nobody since; {logs} says why"
        )
    return ok(name, str(holder))


def check_tables(seen: Observed) -> Iterator[Finding]:
    """What the admission policies read; without them everything is admitted, and refused later."""
    name = "admission tables"
    found = {each: seen.tables.get(each, False) for each in TABLES}
    if hidden := next((each for each in found.values() if isinstance(each, Unseen)), None):
        yield unseen(name, hidden)
    elif absent := [each for each, there in found.items() if not there]:
        yield warning(
            name,
            f"no ConfigMap {' and '.join(absent)} in {seen.namespace}: a wrong preset or size is told in status, not "
            f"at once; {_INSTALL}",
        )
    else:
        yield ok(name, f"{' and '.join(TABLES)} are in {seen.namespace}")


def check_storage(seen: Observed) -> Iterator[Finding]:
    """Where checkpoints go: the claim of a tuning run, and of one on several nodes."""
    name, classes = "storage", seen.storage_classes
    if isinstance(classes, Unseen):
        yield unseen(name, classes)
        return
    names = sorted(each["metadata"]["name"] for each in classes)
    default = next((each["metadata"]["name"] for each in classes if _is_default(each)), None)
    wanted = seen.settings.get("KAIRAY_STORAGE_CLASS", "").strip() or default
    there = f"there are: {', '.join(names) or 'none'}"
    if seen.settings.get("KAIRAY_RUN_STORAGE", "").strip() in ("0", "0Gi"):
        yield ok(name, "none is wanted (KAIRAY_RUN_STORAGE=0): checkpoints last as long as the worker's pod")
    elif wanted is None:
        yield missing(
            name,
            f"no default StorageClass, so a tuning run's claim stays Pending; mark one as default or name it in "
            f"KAIRAY_STORAGE_CLASS, or set KAIRAY_RUN_STORAGE=0 ({there})",
        )
    elif wanted not in names:
        yield missing(name, f"KAIRAY_STORAGE_CLASS names {wanted}, which is not there; {there}")
    else:
        yield ok(name, f"StorageClass {wanted}")
    shared = sorted(each["metadata"]["name"] for each in classes if each.get("provisioner") in SHARED_STORAGE)
    if shared:
        yield ok("shared storage", f"StorageClass {', '.join(shared)}")
    else:
        yield warning(
            "shared storage",
            "no StorageClass is known to give ReadWriteMany; tuning on more than one node needs one",
        )


def check_rights(seen: Observed) -> Iterator[Finding]:
    """One finding for all that are there, one for each that is not."""
    name, held = "your rights", []
    for right, allowed in seen.rights.items():
        if isinstance(allowed, Unseen):
            yield unseen(name, allowed)
            return
        if allowed:
            held.append(right)
        else:
            yield _lacking(name, right)
    if held:
        where = next(iter(seen.rights)).namespace
        yield ok(name, f"{_grouped(held)} in namespace {where}")


def _lacking(name: str, right: Right) -> Finding:
    wish = f"you may not {right} in namespace {right.namespace}; ask its administrator for a Role with it"
    needed = _NEEDED_FOR.get((right.resource, right.subresource))
    if needed is None:
        return missing(name, wish)
    return warning(name, f"{wish} ({needed})")


def _grouped(rights: Iterable[Right]) -> str:
    """`create, list pods; get secrets`."""
    verbs: dict[str, list[str]] = {}
    for right in rights:
        verb, _, what = str(right).partition(" ")
        verbs.setdefault(what, []).append(verb)
    return "; ".join(f"{', '.join(each)} {what}" for what, each in verbs.items())


def _is_default(storage_class: Manifest) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)


def _images(workload: Manifest) -> list[str]:
    return [str(each.get("image", "")) for each in _containers(workload)]


def _containers(workload: Manifest) -> Iterable[Mapping[str, Any]]:
    spec = (workload.get("spec") or {}).get("template", {}).get("spec") or {}
    return spec.get("containers") or ()


def _available(deployment: Manifest) -> bool:
    return bool((deployment.get("status") or {}).get("availableReplicas"))


def _trouble(deployment: Manifest) -> str:
    """Its own words."""
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    said = [str(each.get("message", "")) for each in conditions if each.get("status") == "False"]
    return next((each.rstrip(".") for each in said if each), "it is starting, or scaled to 0")


def _place(workload: Manifest) -> str:
    metadata = workload["metadata"]
    return f"Deployment {metadata.get('namespace', '')}/{metadata['name']}"


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def _numbers(version: str) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
