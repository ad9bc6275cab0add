"""Our pools as Karpenter's NodePools, and back. Pure: manifests on one side, frozen values on the other.

Karpenter brings a node when a pod waits that only a NodePool's nodes can take, and removes it when it is empty; so a
pool here is what nodes may be like and how many. A NodePool is ours when its label and its nodes' label name the same
group and a second label says Kairay: a copy for other purposes would have changed one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kairay.errors import InputError
from kairay.nodes.existing import GPU, INSTANCE_TYPE
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
from kairay.nodes.karpenter_complaints import Manifest, find_complaint, has_registered
from kairay.nodes.karpenter_refusals import refusal_of
from kairay.nodes.karpenter_settings import KarpenterSettings
from kairay.quantities import parse_bytes
from kairay.skus import Sku

POOL_OF_NODE: Final = "karpenter.sh/nodepool"
"""Karpenter's label on NodeClaims and nodes: the NodePool's name."""
GPUS_ANNOTATION: Final = "kairay.dev/gpus-per-node"
"""On our NodePools; makes nodes of a limit that counts GPUs."""
TENANT_ANNOTATION: Final = "kairay.dev/tenant"
UNLIMITED: Final = 5000
"""Nodes of a pool whose limit somebody took away: as many as Kubernetes supports in a cluster."""

_CAPACITY_TYPE: Final = "karpenter.sh/capacity-type"
_ARCHITECTURE, _SYSTEM = "kubernetes.io/arch", "kubernetes.io/os"
_ZONES: Final = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_RESERVED: Final = ("karpenter.sh", "kubernetes.io", "k8s.io", "kubernetes.azure.com")
_ARCHITECTURES: Final = {"x64": "amd64", "arm64": "arm64"}
_MOST_PRIORITY: Final = 100


def write_pool(
    spec: PoolSpec, count: int, size: Sku | None, settings: KarpenterSettings, idle_seconds: float
) -> Manifest:
    """A new NodePool for at most `count` nodes, empty ones of which go after `idle_seconds`.

    `size` is None for one that our table lacks: it is taken for an amd64 one. RefusedError names a label that nodes
    cannot be given.
    """
    gpus = spec.group.gpus_per_node.get(spec.offer.instance_type, 0) or 1
    tenant = {TENANT_ANNOTATION: spec.group.tenant} if spec.group.tenant else {}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {
            "name": spec.name,
            "labels": {GROUP_LABEL: spec.group.name, MANAGED_LABEL: MANAGER},
            "annotations": {GPUS_ANNOTATION: str(gpus), **tenant},
        },
        "spec": {
            "template": _node_template(spec, size, settings),
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": f"{max(0, round(idle_seconds))}s",
                # A node with work stays until that has ended: tuning and loaded models are not moved.
                "budgets": [{"nodes": "0", "reasons": ["Drifted", "Underutilized"]}],
            },
            "limits": {GPU: str(count * gpus)},
            "weight": _weight(spec),
        },
    }


def with_limit(body: Manifest, count: int) -> Manifest | None:
    """The NodePool with room for `count` nodes; None when it has that already."""
    if count <= _most(body):
        return None
    limits = {name: value for name, value in (body["spec"].get("limits") or {}).items() if name != "nodes"}
    limits[GPU] = str(count * _gpus_per_node(body))
    return {**body, "spec": {**body["spec"], "limits": limits}}


def read_pools(
    bodies: Iterable[Manifest], claims: Iterable[Manifest], events: Iterable[Manifest], now: datetime
) -> tuple[Pool, ...]:
    """All NodePools, by name, with what their NodeClaims and Karpenter's events say of them."""
    claims, events = list(claims), list(events)
    return tuple(
        _read_pool(body, claims_of(body["metadata"]["name"], claims), events, now)
        for body in sorted(bodies, key=lambda body: str(body["metadata"]["name"]))
    )


def claims_of(pool: str, claims: Iterable[Manifest]) -> list[Manifest]:
    """A NodePool's NodeClaims that are not on their way out."""
    return [
        claim
        for claim in claims
        if (claim["metadata"].get("labels") or {}).get(POOL_OF_NODE) == pool
        and "deletionTimestamp" not in claim["metadata"]
    ]


def owner(body: Manifest) -> str | None:
    """The group that the NodePool belongs to, if both its labels say that it is Kairay's."""
    labels = body["metadata"].get("labels") or {}
    template = (body["spec"]["template"].get("metadata") or {}).get("labels") or {}
    group = labels.get(GROUP_LABEL)
    ours = labels.get(MANAGED_LABEL) == MANAGER and template.get(GROUP_LABEL) == group
    return str(group) if ours and group else None


def generation_of(version: str) -> int:
    """The NodePool's generation in a `Pool.version`."""
    return int(version.partition("@")[0] or 0)


def _read_pool(body: Manifest, claims: list[Manifest], events: list[Manifest], now: datetime) -> Pool:
    metadata, group, offer = body["metadata"], owner(body), _offer(body)
    complaint = None if group is None else find_complaint(body, claims, events, now)
    state, phase = PoolState.READY, "Ready"
    if "deletionTimestamp" in metadata:
        state, phase, complaint = PoolState.BUSY, "Deleting", None
    elif complaint is not None:
        state, phase = PoolState.FAILED, complaint.reason
    elif any(not has_registered(claim) for claim in claims):
        phase = "Launching"
    return Pool(
        name=str(metadata["name"]),
        group=group,
        offer=offer,
        count=len(claims),
        state=state,
        phase=phase,
        bounds=(0, _most(body)),
        refusal=None if complaint is None else refusal_of(complaint, metadata["name"], offer),
        # Status writes count no generation, so that they do not make a decision old; another failure is news.
        version=f"{metadata.get('generation', 0)}"
        + (f"@{complaint.when.isoformat()}" if complaint is not None else ""),
    )


def _node_template(spec: PoolSpec, size: Sku | None, settings: KarpenterSettings) -> Manifest:
    """What each of the pool's nodes is like."""
    return {
        "metadata": {"labels": _node_labels(spec, size)},
        "spec": {
            "nodeClassRef": {
                "group": settings.node_class_group,
                "kind": settings.node_class_kind,
                "name": settings.node_class_of(spec.group.image_family),
            },
            "requirements": [
                {"key": key, "operator": "In", "values": [value]} for key, value in _given(spec, size).items()
            ],
            "taints": [{"key": GPU_TAINT_KEY, "value": GPU_TAINT_VALUE, "effect": GPU_TAINT_EFFECT}],
            # Expiry drains a node whatever runs on it; no budget stops that.
            "expireAfter": "Never",
        },
    }


def _node_labels(spec: PoolSpec, size: Sku | None) -> dict[str, str]:
    """What every node carries beside Karpenter's own labels; those that it sets to the wanted value are left to it."""
    given = _given(spec, size) | {POOL_OF_NODE: spec.name}
    wanted = {key: value for key, value in sorted(spec.group.labels.items()) if given.get(key) != value}
    for key, value in wanted.items():
        if key in given or (is_below(key, _RESERVED) and key not in _ZONES):
            raise RefusedError(
                Refusal(
                    kind=RefusalKind.INVALID,
                    code="ReservedLabel",
                    message=f"no new node can carry the label {key}={value}, Kubernetes and Karpenter set such labels "
                    "themselves; choose a label of your own in resource.labelSelector",
                )
            )
    return {**wanted, GROUP_LABEL: spec.group.name, MANAGED_LABEL: MANAGER}


def _given(spec: PoolSpec, size: Sku | None) -> dict[str, str]:
    """What nodes must be; Karpenter labels them with it."""
    architecture = _ARCHITECTURES.get(size.architecture, "amd64") if size is not None else "amd64"
    return {
        INSTANCE_TYPE: spec.offer.instance_type,
        _CAPACITY_TYPE: "spot" if spec.offer.spot else "on-demand",
        _ARCHITECTURE: architecture,
        _SYSTEM: "linux",
    }


def _weight(spec: PoolSpec) -> int:
    """Karpenter asks the heaviest pool first: the group's first offer, then what stands in for it."""
    offers = spec.group.offers
    place = offers.index(spec.offer) if spec.offer in offers else len(offers)
    return max(1, _MOST_PRIORITY - place)


def _offer(body: Manifest) -> Offer:
    """The offer that a NodePool is limited to; of one that allows several sizes, which is not ours, the first."""
    values = {
        each["key"]: each.get("values") or [""] for each in body["spec"]["template"]["spec"]["requirements"]
    }
    return Offer(
        instance_type=str(values.get(INSTANCE_TYPE, [""])[0]), spot=values.get(_CAPACITY_TYPE) == ["spot"]
    )


def _most(body: Manifest) -> int:
    """Nodes that the limits allow; a limit of something else than GPUs and nodes is Karpenter's to keep."""
    limits = body["spec"].get("limits") or {}
    rooms = [
        _number(limits[name]) // per_node
        for name, per_node in ((GPU, _gpus_per_node(body)), ("nodes", 1))
        if name in limits
    ]
    return min([UNLIMITED, *rooms])


def _gpus_per_node(body: Manifest) -> int:
    said = (body["metadata"].get("annotations") or {}).get(GPUS_ANNOTATION, "")
    return max(1, int(said)) if said.isdecimal() else 1


def _number(quantity: int | str) -> int:
    try:
        return parse_bytes(str(quantity))
    except InputError:
        return 0
