"""What the played Karpenter writes, and what it reads of NodePools, NodeClaims and pods."""

from __future__ import annotations

import re
from typing import Any

from onebox.api import Manifest

GPU = "nvidia.com/gpu"
POOL_OF_NODE, FINALIZER = "karpenter.sh/nodepool", "karpenter.sh/termination"
_UNITS = {"h": 3600, "m": 60, "s": 1}


def node_claim(pool: Manifest, name: str, gpus: int) -> Manifest:
    """A machine of a NodePool, as Karpenter asks the cloud for it."""
    metadata, template = pool["metadata"], pool["spec"]["template"]
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": name,
            "labels": {**template["metadata"]["labels"], POOL_OF_NODE: metadata["name"]},
            "finalizers": [FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": "karpenter.sh/v1",
                    "kind": "NodePool",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {**template["spec"], "resources": {"requests": {GPU: str(gpus)}}},
    }


def pretended_node(claim: Manifest, pool: Manifest, taints: list[Manifest]) -> Manifest:
    """As the gpu_node fixture makes them, with what Karpenter adds."""
    name = claim["metadata"]["name"]
    labels = {
        "type": "kwok",
        "kubernetes.io/hostname": name,
        **wanted(claim["spec"]["requirements"]),
        **claim["metadata"]["labels"],
        POOL_OF_NODE: pool["metadata"]["name"],
        "karpenter.sh/registered": "true",
        "karpenter.sh/initialized": "true",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": labels},
        "spec": {"taints": taints, "providerID": f"pretended://{name}"},
    }


def refused_event(claim: Manifest, words: str, stamp: str) -> Manifest:
    """The cloud has none: what Karpenter says of a NodeClaim before it deletes it."""
    name = claim["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.refused", "namespace": "default"},
        "involvedObject": {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "name": name},
        "type": "Warning",
        "reason": "InsufficientCapacityError",
        "message": f"NodeClaim {name} event: {words}",
        "source": {"component": "karpenter"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }


def condition(kind: str, reason: str, stamp: str) -> dict[str, Any]:
    """A true one."""
    return {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": stamp}


def wanted(requirements: list[Manifest]) -> dict[str, str]:
    """The one value that each requirement allows."""
    return {each["key"]: each["values"][0] for each in requirements if each["operator"] == "In"}


def fits(pod: Manifest, pool: Manifest) -> bool:
    """Whether the NodePool's nodes would take the pod."""
    template = pool["spec"]["template"]
    labels = {**template["metadata"]["labels"], **wanted(template["spec"]["requirements"])}
    selector = pod["spec"].get("nodeSelector") or {}
    # Without a selector it would fit anywhere; here only pods that ask for such nodes bring any.
    return (
        bool(selector)
        and all(labels.get(key) == value for key, value in selector.items())
        and all(_tolerates(pod, taint) for taint in template["spec"].get("taints", []))
    )


def _tolerates(pod: Manifest, taint: Manifest) -> bool:
    return any(
        each.get("key") in (None, taint["key"])
        and each.get("effect") in (None, taint["effect"])
        and (each.get("operator") == "Exists" or each.get("value", "") == taint.get("value", ""))
        for each in pod["spec"].get("tolerations") or ()
    )


def gpus_of(pod: Manifest) -> int:
    """GPUs that a pod asks for."""
    limits = [each.get("resources", {}).get("limits") or {} for each in pod["spec"]["containers"]]
    return sum(int(each.get(GPU, 0)) for each in limits)


def is_registered(claim: Manifest) -> bool:
    """Its node is there."""
    return bool(claim.get("status", {}).get("nodeName"))


def is_daemon(pod: Manifest) -> bool:
    """It keeps no node from being empty."""
    return any(each["kind"] == "DaemonSet" for each in pod["metadata"].get("ownerReferences") or ())


def is_done(pod: Manifest) -> bool:
    """It holds nothing any more."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_waiting(pod: Manifest) -> bool:
    """It has no node and wants one."""
    return not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]


def seconds(duration: str) -> float:
    """Of a duration such as `1h30m`."""
    return float(sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([hms])", duration)))
