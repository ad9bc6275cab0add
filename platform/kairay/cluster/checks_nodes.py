"""Nodes with GPUs, what advertises them, and what a Workspace finds among them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kairay.cluster.checks_azure import check_offers
from kairay.cluster.findings import Finding, Unseen, missing, ok, unseen, warning
from kairay.cluster.observed import AzureSeen, Need, Objects, Observed
from kairay.kube.objects import Manifest, labels_of
from kairay.nodes.existing import GPU, INSTANCE_TYPE
from kairay.nodes.interface import GPU_TAINT_EFFECT, GPU_TAINT_KEY, GPU_TAINT_VALUE
from kairay.quantities import parse_bytes
from kairay.skus import find_sku, load_skus

GPU_RESOURCES: Final = (GPU, "amd.com/gpu")
_MIG: Final = "nvidia.com/mig-"
_GPU_LABELS: Final[Mapping[str, str | None]] = {
    "kubernetes.azure.com/accelerator": None,
    "accelerator": None,
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": None,
    "feature.node.kubernetes.io/pci-10de.present": "true",
    "cloud.google.com/gke-accelerator": None,
    "k8s.amazonaws.com/accelerator": None,
}
"""Labels of nodes with a GPU; None: with any value."""
_PLUGIN: Final = re.compile(r"(nvidia|amd|rocm|gpu|k8s).*device-plugin|device-plugin.*gpu", re.IGNORECASE)
_SKU_TAINT: Final = {"key": GPU_TAINT_KEY, "value": GPU_TAINT_VALUE, "effect": GPU_TAINT_EFFECT}
_SPOT_TAINT: Final = {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"}
TAINTS: Final[Mapping[str, tuple[Mapping[str, str], ...]]] = {
    "aks": (_SKU_TAINT, _SPOT_TAINT),
    "karpenter": (_SKU_TAINT,),
}
"""By provider: taints of the nodes that it will bring."""
_OWN_TAINTS: Final = "node.kubernetes.io/"
_PLUGIN_HELP: Final = "install NVIDIA's device plugin with tolerations, as docs/aks.md shows"
_ENGINES: Final = {
    "cilium": "Cilium",
    "calico": "Calico",
    "azure-npm": "Azure NPM",
    "antrea": "Antrea",
    "kube-router": "kube-router",
    "weave": "Weave Net",
    "ovnkube": "OVN-Kubernetes",
    "kindnet": "kindnet",
}
"""Part of a DaemonSet's name: who enforces NetworkPolicies there."""
_MOST_NAMES: Final = 5
_PLUGIN_TIME: Final = timedelta(minutes=10)
"""Drivers and the plugin's image come within it, on AKS too."""


def check_network(daemon_sets: Objects) -> Finding:
    """Who enforces NetworkPolicies, guessed from DaemonSets."""
    name = "network policies"
    if isinstance(daemon_sets, Unseen):
        return unseen(name, daemon_sets)
    names = [each["metadata"]["name"] for each in daemon_sets]
    found = sorted({title for part, title in _ENGINES.items() for each in names if part in each})
    if found:
        return ok(name, f"{' and '.join(found)}, by a DaemonSet's name")
    return warning(
        name,
        "no DaemonSet of an engine that is known (Cilium, Calico, Azure NPM): where none is, every pod of the cluster "
        "reaches a Workspace's service; set API keys, or turn an engine on",
    )


def check_nodes(seen: Observed) -> Iterator[Finding]:
    """The device plugin, and every node with GPUs by its labels or size that advertises none."""
    if isinstance(seen.nodes, Unseen):
        yield unseen("GPU nodes", seen.nodes)
        return
    gpu_nodes = [each for each in seen.nodes if has_gpus(each)]
    advertising = [each for each in gpu_nodes if _gpus(each)]
    yield _plugin(seen, advertising, bool(gpu_nodes))
    if advertising:
        total = sum(map(_gpus, advertising))
        yield ok("GPU nodes", f"{total} GPU(s) on {len(advertising)} node(s): {_names(advertising)}")
    elif seen.provider == "existing" and not gpu_nodes:
        yield missing(
            "GPU nodes",
            "no node has a GPU by its labels, size or resources, and the provider is `existing`: add some, or let "
            "Kairay bring them (docs/aks.md)",
        )
    elif not gpu_nodes:
        yield ok("GPU nodes", f"none now; the provider {seen.provider} brings them")
    causes: dict[tuple[bool, str], list[Manifest]] = {}
    for node in gpu_nodes:
        if not _gpus(node):
            key = _is_settled(node, seen.now), why_no_gpus(node, seen.daemon_sets)
            causes.setdefault(key, []).append(node)
    for (settled, cause), nodes in causes.items():
        say = missing if settled else warning
        yield say("GPU nodes", f"none is advertised on {_names(nodes)}: {cause}")


def check_need(need: Need, seen: Observed) -> Iterator[Finding]:
    """What one Workspace wants, against the nodes that are there and what can be had."""
    name = f"Workspace {need.workspace}"
    if need.unseen is not None:
        yield warning(name, f"planned with the preset's own settings: {need.unseen.why}")
    if not need.ready and not need.offers and isinstance(seen.nodes, Unseen):
        yield warning(name, f"{need.sentence} (nodes were not seen: {seen.nodes.why})")
    elif not need.ready or not need.offers or not isinstance(seen.azure, AzureSeen):
        yield (ok if need.ready else missing)(name, need.sentence)
    else:
        yield from check_offers(need, seen.azure, name)


def has_gpus(node: Manifest) -> bool:
    """By what it advertises, its labels, or its size."""
    labels = labels_of(node)
    if _gpus(node) or any(
        key in labels and value in (None, labels[key]) for key, value in _GPU_LABELS.items()
    ):
        return True
    size = find_sku(labels.get(INSTANCE_TYPE, ""), load_skus())
    return size is not None and size.gpus > 0


def why_no_gpus(node: Manifest, daemon_sets: Objects) -> str:
    """The likely cause, with the remedy."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    if (conditions.get("Ready") or {}).get("status") != "True":
        return "the node is not Ready (kubectl describe node says why)"
    if isinstance(daemon_sets, Unseen):
        return f"the DaemonSets could not be seen ({daemon_sets.why})"
    plugins = [each for each in daemon_sets if is_plugin(each)]
    if not plugins:
        return f"no device plugin runs in the cluster; {_PLUGIN_HELP}"
    willing = [each for each in plugins if selects_node(each, node)]
    if not willing:
        return f"{_names(plugins)} does not select it (nodeSelector, affinity); label the node or widen the selector"
    # The DaemonSet controller itself tolerates Kubernetes' own for its pods.
    taints = [each for each in spec.get("taints") or () if not each["key"].startswith(_OWN_TAINTS)]
    refused = {
        _taint(taint) for each in willing for taint in taints if not tolerates(_tolerations(each), taint)
    }
    if all(any(not tolerates(_tolerations(each), taint) for taint in taints) for each in willing):
        return f"{_names(willing)} does not tolerate its taint {' and '.join(sorted(refused))}; add the toleration"
    if any(parse_bytes(str((status.get("capacity") or {}).get(key, 0))) for key in GPU_RESOURCES):
        return "its device plugin calls every GPU unhealthy; see its log and the node's driver (XID errors)"
    return (
        f"{_names(willing)} should run there and finds none: see its pod's log; the driver may be missing (AKS: "
        "gpuProfile.driver None without a GPU operator), or the node is a few minutes old"
    )


def is_plugin(daemon_set: Manifest) -> bool:
    """It advertises GPUs."""
    containers = _pod(daemon_set).get("containers") or ()
    words = [daemon_set["metadata"]["name"], *(str(each.get("image", "")) for each in containers)]
    return any(_PLUGIN.search(each) for each in words)


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """As the scheduler reads them; a taint that only prefers keeps nothing off."""
    if taint.get("effect") == "PreferNoSchedule":
        return True
    return any(
        each.get("key") in (None, "", taint["key"])
        and (each.get("operator") == "Exists" or (each.get("value") or "") == (taint.get("value") or ""))
        and (each.get("key") or each.get("operator") == "Exists")
        and each.get("effect") in (None, "", taint.get("effect"))
        for each in tolerations
    )


def selects_node(daemon_set: Manifest, node: Manifest) -> bool:
    """By nodeSelector and required affinity; fields of a node are taken to fit."""
    pod, labels = _pod(daemon_set), labels_of(node)
    if any(labels.get(key) != value for key, value in (pod.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms")
    if not terms:
        return True
    return any(all(_fits(each, labels) for each in term.get("matchExpressions") or ()) for term in terms)


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return True


def _plugin(seen: Observed, advertising: list[Manifest], any_gpus: bool) -> Finding:
    name = "device plugin"
    if isinstance(seen.daemon_sets, Unseen):
        return unseen(name, seen.daemon_sets)
    plugins = [each for each in seen.daemon_sets if is_plugin(each)]
    coming = TAINTS.get(seen.provider, ())
    if not plugins and advertising:
        return ok(
            name, "no DaemonSet is known for one, yet nodes advertise GPUs (AKS's managed GPU pools do)"
        )
    if not plugins:
        return (
            missing(name, f"no DaemonSet advertises GPUs; {_PLUGIN_HELP}")
            if coming or any_gpus
            else warning(name, f"no DaemonSet advertises GPUs; before nodes with GPUs come, {_PLUGIN_HELP}")
        )
    refused = [taint for taint in coming if not any(tolerates(_tolerations(each), taint) for each in plugins)]
    if refused:
        taints = " and ".join(map(_taint, refused))
        return missing(
            name,
            f"{_names(plugins)} does not tolerate {taints}: new nodes would advertise no GPU; {_PLUGIN_HELP}",
        )
    return ok(
        name, f"DaemonSet {_names(plugins)}" + (", tolerates the taints of new nodes" if coming else "")
    )


def _is_settled(node: Manifest, now: datetime) -> bool:
    """It is Ready, and its plugin has had its time."""
    conditions = {each["type"]: each["status"] for each in (node.get("status") or {}).get("conditions") or ()}
    created = node["metadata"].get("creationTimestamp")
    young = created is not None and now - datetime.fromisoformat(created) < _PLUGIN_TIME
    return conditions.get("Ready") == "True" and not young


def _gpus(node: Manifest) -> int:
    room = (node.get("status") or {}).get("allocatable") or {}
    return sum(
        parse_bytes(str(count)) for key, count in room.items() if key in GPU_RESOURCES or key.startswith(_MIG)
    )


def _pod(daemon_set: Manifest) -> Mapping[str, Any]:
    template = (daemon_set.get("spec") or {}).get("template") or {}
    found: Mapping[str, Any] = template.get("spec") or {}
    return found


def _tolerations(daemon_set: Manifest) -> Iterable[Mapping[str, Any]]:
    found: Iterable[Mapping[str, Any]] = _pod(daemon_set).get("tolerations") or ()
    return found


def _taint(taint: Mapping[str, Any]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint.get('effect', '')}"


def _names(manifests: Iterable[Manifest]) -> str:
    names = sorted(each["metadata"]["name"] for each in manifests)
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + rest
