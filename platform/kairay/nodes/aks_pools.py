"""Our pools as AKS writes agent pools, and back. Pure: Azure's own JSON on one side, frozen values on the other.

A pool is ours when a node label *and* a tag name the same group: the label alone may have been copied with a template.
Azure's tag names take no slash, so they differ from the labels.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kairay.mig import aks_profile, aks_size
from kairay.nodes.aks_complaint import Complaint
from kairay.nodes.aks_refusals import refusal_of
from kairay.nodes.groups import is_below
from kairay.nodes.interface import (
    GPU_TAINT_EFFECT,
    GPU_TAINT_KEY,
    GPU_TAINT_VALUE,
    GROUP_LABEL,
    MANAGED_LABEL,
    MANAGER,
    Offer,
    Pool,
    PoolSpec,
    PoolState,
    Refusal,
    RefusalKind,
    RefusedError,
)
from kairay.skus import Sku

AgentPool = dict[str, Any]
"""An agent pool as JSON, `name` and `properties` and what else there is."""

GROUP_TAG: Final = "kairay-pool"
MANAGED_TAG: Final = "kairay-managed-by"
TENANT_TAG: Final = "kairay-tenant"
GPU_TAINT: Final = f"{GPU_TAINT_KEY}={GPU_TAINT_VALUE}:{GPU_TAINT_EFFECT}"

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
_AT_REST: Final = ("Succeeded", "Failed", "Canceled")
_RESERVED: Final = ("kubernetes.azure.com", "kubernetes.io", "k8s.io")
_OS_SKUS: Final = {"ubuntu": "Ubuntu", "azurelinux": "AzureLinux"}
_NETWORK: Final = ("vnetSubnetID", "podSubnetID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Subnets of new nodes and of their pods, by ARM id; None: AKS's own."""

    nodes: str | None = None
    pods: str | None = None


def write_pool(spec: PoolSpec, count: int, size: Sku | None, network: Network) -> AgentPool:
    """A new agent pool's body. RefusedError names a label that AKS keeps for itself, or a name that it does not take.

    `size` is None for one that our table lacks: it is taken for an NVIDIA one.
    """
    _check_name(spec.name)
    return {
        "properties": {
            "mode": "User",
            "type": "VirtualMachineScaleSets",
            "osType": "Linux",
            "vmSize": spec.offer.instance_type,
            "count": count,
            "enableAutoScaling": False,
            "scaleDownMode": "Delete",
            "nodeLabels": node_labels(spec, size),
            "tags": _tags(spec),
            **_gpus(spec, size),
            **_priority(spec.offer),
            **_image(spec.group.image_family),
            **_subnets(network),
        }
    }


def node_labels(spec: PoolSpec, size: Sku | None = None) -> dict[str, str]:
    """What every node of the pool carries beside AKS's own; those that AKS sets to the wanted value are left to it."""
    given = _given_by_aks(spec, size)
    wanted = {key: value for key, value in spec.group.labels.items() if given.get(key) != value}
    for key in sorted(wanted):
        if is_below(key, _RESERVED) or key in given:
            raise RefusedError(
                _invalid(
                    "ReservedLabel",
                    f"no new node can carry the label {key}={wanted[key]}, AKS sets such labels itself; "
                    f"choose a label of your own in resource.labelSelector",
                )
            )
    return {**dict(sorted(wanted.items())), GROUP_LABEL: spec.group.name, MANAGED_LABEL: MANAGER}


def read_pool(body: Mapping[str, Any]) -> Pool:
    """An agent pool as we see it, whoever made it."""
    properties = body.get("properties") or {}
    phase, stopped = str(properties.get("provisioningState") or "Unknown"), _stopped(properties)
    offer = Offer(
        instance_type=str(properties.get("vmSize") or ""), spot=properties.get("scaleSetPriority") == "Spot"
    )
    state = PoolState.READY if phase in _AT_REST else PoolState.BUSY
    refusal = None
    if phase == "Failed" or (state is PoolState.READY and stopped):
        state = PoolState.FAILED
        refusal = _stopped_refusal(body["name"]) if stopped else _failure(properties, offer)
    return Pool(
        name=str(body["name"]),
        group=owner(body),
        offer=offer,
        count=_count(properties),
        state=state,
        phase="Stopped" if state is PoolState.FAILED and stopped else phase,
        bounds=_bounds(properties),
        mig=aks_size(properties.get("gpuInstanceProfile")),
        refusal=refusal,
        version=str(properties.get("eTag") or ""),
    )


def owner(body: Mapping[str, Any]) -> str | None:
    """The group that the pool belongs to, if label and tag agree that it is Kairay's."""
    properties = body.get("properties") or {}
    labels, tags = properties.get("nodeLabels") or {}, properties.get("tags") or {}
    ours = labels.get(MANAGED_LABEL) == MANAGER and tags.get(MANAGED_TAG) == MANAGER
    group = labels.get(GROUP_LABEL)
    return str(group) if ours and group and tags.get(GROUP_TAG) == group else None


def with_count(body: Mapping[str, Any], count: int) -> AgentPool | None:
    """The same pool with `count` nodes; where an autoscaler decides, with room for `count`, or None if it has that.

    Everything else stays as it is, what others set and what we do not know included. RefusedError when the count
    would go down: which nodes go would be Azure's choice.
    """
    changed = copy.deepcopy(dict(body))
    properties = changed["properties"]
    if (bounds := _bounds(properties)) is not None:
        if count <= bounds[1]:
            return None
        properties["maxCount"] = count
        return changed
    if count < _count(properties):
        raise RefusedError(
            _invalid(
                "WouldRemoveNodes",
                f"pool {body['name']} has {_count(properties)} nodes; a smaller count would remove any of them",
            )
        )
    properties["count"] = count
    return changed


def network_of(bodies: Mapping[str, Mapping[str, Any]]) -> Network:
    """The subnets that the cluster's system pool uses: all pools of a cluster share a virtual network."""
    system = [
        body["properties"] for _, body in sorted(bodies.items()) if body["properties"].get("mode") == "System"
    ]
    nodes, pods = (next((p[key] for p in system if p.get(key)), None) for key in _NETWORK)
    return Network(nodes=nodes, pods=pods)


def _given_by_aks(spec: PoolSpec, size: Sku | None) -> dict[str, str]:
    """Labels that every node of the pool gets from AKS, as far as a Workspace may reasonably select by them."""
    nvidia = size is not None and size.vendor == "nvidia"
    return {
        "node.kubernetes.io/instance-type": spec.offer.instance_type,
        "kubernetes.io/os": "linux",
        "kubernetes.azure.com/agentpool": spec.name,
        "agentpool": spec.name,
        "kubernetes.azure.com/mode": "user",
        **({"kubernetes.azure.com/accelerator": "nvidia"} if nvidia else {}),
        **({"kubernetes.azure.com/scalesetpriority": "spot"} if spec.offer.spot else {}),
    }


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RefusedError(
            _invalid("InvalidName", f"{name!r} is no agent pool's name: [a-z][a-z0-9]{{0,11}}")
        )


def _gpus(spec: PoolSpec, size: Sku | None) -> dict[str, Any]:
    """What only a pool of GPUs has; slices are cut when the pool is made, and never anew."""
    if not spec.group.gpus_per_node.get(spec.offer.instance_type, 1):
        return {}
    slices = {} if spec.group.mig is None else {"gpuInstanceProfile": aks_profile(spec.group.mig)}
    return {"nodeTaints": [GPU_TAINT], "gpuProfile": {"driver": _driver(size)}, **slices}


def _subnets(network: Network) -> dict[str, str]:
    return {
        key: subnet for key, subnet in zip(_NETWORK, (network.nodes, network.pods), strict=True) if subnet
    }


def _tags(spec: PoolSpec) -> dict[str, str]:
    tenant = {TENANT_TAG: spec.group.tenant} if spec.group.tenant else {}
    return {MANAGED_TAG: MANAGER, GROUP_TAG: spec.group.name, **tenant}


def _driver(size: Sku | None) -> str:
    # AKS installs NVIDIA's driver only; AMD's comes with the operator's own image or plugin.
    return "None" if size is not None and size.vendor not in (None, "nvidia") else "Install"


def _priority(offer: Offer) -> dict[str, Any]:
    if not offer.spot:
        return {"scaleSetPriority": "Regular"}
    # Deallocated machines would go on counting against the quota; -1: up to the price on demand.
    return {"scaleSetPriority": "Spot", "scaleSetEvictionPolicy": "Delete", "spotMaxPrice": -1}


def _image(family: str | None) -> dict[str, str]:
    if family is None:
        return {}
    if (sku := _OS_SKUS.get(family.lower())) is None:
        known = " or ".join(sorted(_OS_SKUS))
        raise RefusedError(
            _invalid("UnknownImageFamily", f"node image family {family!r} is unknown; give {known}")
        )
    return {"osSKU": sku}


def _count(properties: Mapping[str, Any]) -> int:
    if properties.get("type") == "VirtualMachines":
        return sum(int(each.get("count") or 0) for each in properties.get("virtualMachineNodesStatus") or ())
    return int(properties.get("count") or 0)


def _bounds(properties: Mapping[str, Any]) -> tuple[int, int] | None:
    if not properties.get("enableAutoScaling"):
        return None
    return int(properties.get("minCount") or 0), int(properties.get("maxCount") or 0)


def _stopped(properties: Mapping[str, Any]) -> bool:
    return (properties.get("powerState") or {}).get("code") == "Stopped"


def _stopped_refusal(name: str) -> Refusal:
    return _invalid(
        "PoolStopped", f"pool {name} was stopped; start it with `az aks nodepool start`, or delete it"
    )


def _failure(properties: Mapping[str, Any], offer: Offer) -> Refusal:
    said = (properties.get("status") or {}).get("provisioningError") or {}
    return refusal_of(Complaint.read(said, default="ProvisioningFailed"), offer)


def _invalid(code: str, message: str) -> Refusal:
    return Refusal(kind=RefusalKind.INVALID, code=code, message=message)
