"""Which Workspaces a change concerns, and what is kept of each kind of object. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from kairay.config_maps import INFERENCE_KEY, TRAINING_KEY
from kairay.controller.unmade import keep_failure
from kairay.kube.objects import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    NODE,
    POD,
    RAY_JOB,
    RAY_SERVICE,
    SERVICE,
    WORKSPACE,
    Kind,
    Manifest,
    Trim,
    drop_bookkeeping,
)
from kairay.nodes.demand import view_group_node, view_worker
from kairay.nodes.existing import GPU, view_node
from kairay.objects.metadata import WORKSPACE_LABEL

WorkspaceName = tuple[str, str]
"""Namespace and name."""

_METADATA = (
    "name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations", "ownerReferences",
    "deletionTimestamp", "creationTimestamp",
)  # fmt: skip


def concerned(
    kind: Kind, old: Manifest | None, new: Manifest | None, all_of: Callable[[], Iterable[Manifest]]
) -> set[WorkspaceName]:
    """Workspaces to look at after `old` became `new`; `all_of` gives those that there are."""
    if kind == WORKSPACE:
        return {_name(each) for each in (old, new) if each is not None}
    if kind == NODE:
        return set(map(_name, all_of())) if _node_changed(old, new) else set()
    found = set(_labelled(old, new))
    if kind == CONFIG_MAP and not found:
        changed = new or old
        assert changed is not None
        metadata = changed["metadata"]
        found = {
            _name(each) for each in all_of() if _names_config(each, metadata["namespace"], metadata["name"])
        }
    return found


def concerns_nodes(kind: Kind, old: Manifest | None, new: Manifest | None) -> bool:
    """A worker pod or a node of a group is not as it was."""
    view = {POD: view_worker, NODE: view_group_node}.get(kind)
    return view is not None and (old and view(old)) != (new and view(new))


def _labelled(*versions: Manifest | None) -> Iterator[WorkspaceName]:
    for each in versions:
        name = None if each is None else (each["metadata"].get("labels") or {}).get(WORKSPACE_LABEL)
        if each is not None and name is not None:
            yield each["metadata"].get("namespace", ""), name


def _node_changed(old: Manifest | None, new: Manifest | None) -> bool:
    """The kubelet writes a node's status every few seconds; what we look at hardly ever changes."""
    return (None if old is None else view_node(old)) != (None if new is None else view_node(new))


def _names_config(workspace: Manifest, namespace: str, name: str) -> bool:
    if workspace["metadata"]["namespace"] != namespace:
        return False
    data = (((workspace.get("tuning") or {}).get("input") or {}).get("volumeSource") or {}).get(
        "configMap"
    ) or {}
    configs = [(workspace.get(part) or {}).get("config") for part in ("tuning", "inference")]
    return name in (*configs, data.get("name"))


def _name(manifest: Manifest) -> WorkspaceName:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


# -- what is kept ----------------------------------------------------------------------------------------------------


def _bare(manifest: Manifest, **parts: Any) -> Manifest:
    """Metadata without its bookkeeping, and these parts."""
    metadata = manifest["metadata"]
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": kept, **parts}


def _trim_plain(manifest: Manifest) -> Manifest:
    return _bare(manifest)


def _trim_claim(manifest: Manifest) -> Manifest:
    return _bare(manifest, status={"phase": (manifest.get("status") or {}).get("phase", "")})


def _trim_service(manifest: Manifest) -> Manifest:
    spec = manifest.get("spec") or {}
    return _bare(manifest, spec={"type": spec.get("type", ""), "selector": spec.get("selector") or {}})


def _trim_status(manifest: Manifest) -> Manifest:
    """Of Ray's objects the specs are ours and known by their hash; their clusters' pods are seen as pods, and what
    their clusters say counts where no pod can be made."""
    status = dict(manifest.get("status") or {})
    if failure := keep_failure(status.pop("rayClusterStatus", None) or {}):
        status["rayClusterStatus"] = failure
    return _bare(manifest, status=status)


def _trim_config_map(manifest: Manifest) -> Manifest:
    data: Mapping[str, str] = manifest.get("data") or {}
    return _bare(manifest, data={key: data[key] for key in (TRAINING_KEY, INFERENCE_KEY) if key in data})


def _trim_pod(manifest: Manifest) -> Manifest:
    status, spec = manifest.get("status") or {}, manifest.get("spec") or {}
    keys = (
        "phase", "podIP", "conditions", "initContainerStatuses", "containerStatuses", "reason", "message",
    )  # fmt: skip
    placed = {key: spec[key] for key in ("nodeName", "nodeSelector") if key in spec}
    if claims := [each for each in spec.get("volumes", ()) if "persistentVolumeClaim" in each]:
        placed["volumes"] = claims
    limits = [{"resources": {"limits": _gpu_limits(each)}} for each in spec.get("containers", ())]
    return _bare(
        manifest,
        spec={**placed, "containers": limits},
        status={key: status[key] for key in keys if key in status},
    )


def _gpu_limits(container: Mapping[str, Any]) -> dict[str, str]:
    limits = (container.get("resources") or {}).get("limits") or {}
    return {GPU: limits[GPU]} if GPU in limits else {}


def _trim_node(manifest: Manifest) -> Manifest:
    status = manifest.get("status") or {}
    kept = {
        "allocatable": status.get("allocatable") or {},
        "conditions": [
            {key: each[key] for key in ("type", "status", "reason", "message") if key in each}
            for each in status.get("conditions", ())
            if each["status"] == "True"
        ],
    }
    spec = manifest.get("spec") or {}
    taints = [{"key": each["key"]} for each in spec.get("taints", ())]
    return _bare(
        manifest, status=kept, spec={"unschedulable": bool(spec.get("unschedulable")), "taints": taints}
    )


TRIMS: Final[Mapping[Kind, Trim]] = {
    WORKSPACE: drop_bookkeeping,
    RAY_JOB: _trim_status,
    RAY_SERVICE: _trim_status,
    DEPLOYMENT: _trim_status,
    POD: _trim_pod,
    SERVICE: _trim_service,
    CONFIG_MAP: _trim_config_map,
    CLAIM: _trim_claim,
    NETWORK_POLICY: _trim_plain,
    NODE: _trim_node,
}
"""What is kept of each kind in memory."""
