"""How many nodes a group's worker pods need. Pure: pods and nodes in, packing out.

Pods that are placed hold their node. Pods that wait are packed, largest first, on what is free of the nodes that are
there, then of those on their way; what is left needs new nodes. A pod is never split over nodes. The scheduler may
place them otherwise than here; then the next look sees where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kairay.nodes.existing import GPU
from kairay.nodes.interface import GROUP_LABEL, GroupNode
from kairay.quantities import parse_bytes

WORKSPACE_LABEL, ROLE_LABEL, WORKER = "kairay.dev/workspace", "kairay.dev/role", "worker"
REVISION_LABEL = "kairay.dev/revision"
"""Of worker pods, as kairay.objects and kairay.ray write them; the revision only on those of a tuning job."""
POOL_LABELS = ("kubernetes.azure.com/agentpool", "karpenter.sh/nodepool")
"""A node's pool, by AKS and by Karpenter."""

_EVICTED = {
    "VMEventScheduled": "Azure has scheduled an event for the machine",
    "PreemptScheduled": "Azure takes the spot machine back",
    "PreemptionScheduled": "Azure takes the spot machine back",
}
_BROKEN = {
    "GPUMissing": "a GPU is missing",
    "XIDErrors": "its GPU driver reports errors (XID)",
    "NVLinkStatusInactive": "NVLink is inactive",
    "IBLinkFlapping": "InfiniBand comes and goes",
    "UnhealthyNvidiaDevicePlugin": "the NVIDIA device plugin is not healthy",
    "UnhealthyNvidiaDCGMServices": "NVIDIA's DCGM is not healthy",
}
"""Conditions of AKS' node problem detector that cost a node its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPod:
    """What matters of a Ray worker's pod."""

    namespace: str
    workspace: str
    name: str
    group: str
    """Of the nodes that it may use."""
    gpus: int
    node: str | None
    created: datetime
    going: bool = False
    """Being deleted; until it is gone it holds its node."""
    finished: bool = False
    """Its containers have ended for good; it holds nothing."""
    serves: bool = False
    """A service's, which works without its neighbours; else a job's."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def gang(self) -> str | None:
        """`namespace/workspace` of the job whose workers may be of no use without one another; None: of none."""
        return None if self.serves else f"{self.namespace}/{self.workspace}"

    @property
    def waits(self) -> bool:
        """It needs a place."""
        return self.node is None and not self.going and not self.finished

    @property
    def holds(self) -> bool:
        """Its node may not go."""
        return self.node is not None and not self.finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """Nodes that a pool will have and Kubernetes does not know yet."""

    pool: str
    gpus: int
    """Of each."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a group's pods need."""

    held: frozenset[str] = frozenset()
    """Nodes with a worker pod."""
    useful: frozenset[str] = frozenset()
    """Nodes that a waiting pod was packed on."""
    expected: int = 0
    """Waiting pods that nodes on their way will take."""
    placed: int = 0
    """Waiting pods that fit on nodes that are there."""
    missing: tuple[WorkerPod, ...] = ()
    """Waiting pods without a place, largest first."""

    @property
    def waiting(self) -> int:
        """Pods that wait."""
        return self.expected + self.placed + len(self.missing)


def view_worker(pod: Mapping[str, Any]) -> WorkerPod | None:
    """A pod as the API server writes it; None when it is no worker of ours that selects a group's nodes."""
    metadata, spec = pod["metadata"], pod.get("spec", {})
    labels, group = metadata.get("labels") or {}, (spec.get("nodeSelector") or {}).get(GROUP_LABEL)
    if not group or labels.get(ROLE_LABEL) != WORKER or not labels.get(WORKSPACE_LABEL):
        return None
    limits = [each.get("resources", {}).get("limits") or {} for each in spec.get("containers", ())]
    return WorkerPod(
        namespace=metadata["namespace"],
        workspace=labels[WORKSPACE_LABEL],
        name=metadata["name"],
        group=group,
        gpus=sum(parse_bytes(str(limit.get(GPU, 0))) for limit in limits),
        node=spec.get("nodeName") or None,
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        going="deletionTimestamp" in metadata,
        finished=pod.get("status", {}).get("phase") in ("Succeeded", "Failed"),
        serves=REVISION_LABEL not in labels,
    )


def view_group_node(node: Mapping[str, Any]) -> GroupNode | None:
    """A node as the API server writes it; None when it is in no group of ours or no provider's pool."""
    metadata, status = node["metadata"], node.get("status", {})
    labels = metadata.get("labels") or {}
    group, pool = labels.get(GROUP_LABEL), next((labels[key] for key in POOL_LABELS if key in labels), None)
    if not group or not pool:
        return None
    true = {c["type"]: c for c in status.get("conditions", ()) if c.get("status") == "True"}
    return GroupNode(
        name=metadata["name"],
        group=group,
        pool=pool,
        gpus=parse_bytes(str((status.get("allocatable") or {}).get(GPU, 0))),
        ready="Ready" in true,
        cordoned=bool(node.get("spec", {}).get("unschedulable", False)),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        trouble=_trouble(metadata, true),
    )


def nodes_wanted(
    group: str,
    pods: Iterable[WorkerPod],
    nodes: Iterable[GroupNode],
    *,
    coming: Iterable[Coming] = (),
    sizes: Mapping[str, int] | None = None,
    ours: frozenset[str] = frozenset(),
) -> Demand:
    """What the pods of `group` need.

    `sizes` has the GPUs that a node of a pool will advertise once its device plugin runs. Cordoned nodes take no pods
    but those in `ours`, which we have cordoned and would open again; they come last.
    """
    pods = [pod for pod in pods if pod.group == group]
    nodes = [node for node in nodes if node.group == group]
    held = frozenset(pod.node for pod in pods if pod.holds and pod.node is not None)
    rooms = _rooms(pods, nodes, sizes or {}, ours)
    soon = [[each.gpus] for each in coming for _ in range(each.count)]
    useful, expected, placed, missing = set[str](), 0, 0, []
    for pod in _largest_first(pod for pod in pods if pod.waits):
        if (name := _place(pod.gpus, rooms)) is not None:
            useful.add(name)
            placed += 1
        elif _place_soon(pod.gpus, soon):
            expected += 1
        else:
            missing.append(pod)
    return Demand(
        held=held, useful=frozenset(useful), expected=expected, placed=placed, missing=tuple(missing)
    )


def nodes_for(pods: Iterable[WorkerPod], gpus: int) -> tuple[int, tuple[WorkerPod, ...]]:
    """(new nodes with so many GPUs each that carry the pods, the pods that are larger than such a node)."""
    bins: list[list[int]] = []
    larger = []
    for pod in _largest_first(pods):
        if pod.gpus > gpus:
            larger.append(pod)
        elif not _place_soon(pod.gpus, bins):
            bins.append([gpus - pod.gpus])
    return len(bins), tuple(larger)


def fill(pods: Iterable[WorkerPod], gpus: int, count: int) -> tuple[WorkerPod, ...]:
    """The pods that do not fit on `count` new nodes with so many GPUs each."""
    bins = [[gpus] for _ in range(count)]
    return tuple(pod for pod in _largest_first(pods) if not _place_soon(pod.gpus, bins))


def _trouble(metadata: Mapping[str, Any], true: Mapping[str, Mapping[str, Any]]) -> str | None:
    if "deletionTimestamp" in metadata:
        return f"node {metadata['name']} is being deleted"
    for kind, words in {**_EVICTED, **_BROKEN}.items():
        if kind in true:
            said = true[kind].get("message") or true[kind].get("reason") or ""
            return f"node {metadata['name']}: {words}" + (f" ({said})" if said else "")
    return None


def _rooms(
    pods: list[WorkerPod], nodes: list[GroupNode], sizes: Mapping[str, int], ours: frozenset[str]
) -> list[tuple[str, list[int]]]:
    """(node, [free GPUs]); used ones first, so that others can go; cordoned ones of ours last."""
    taken: dict[str, int] = {}
    for pod in pods:
        if pod.holds and pod.node is not None:
            taken[pod.node] = taken.get(pod.node, 0) + pod.gpus
    usable = [node for node in nodes if node.trouble is None and (not node.cordoned or node.name in ours)]
    usable.sort(key=lambda node: (node.cordoned, node.name not in taken, node.created, node.name))
    return [
        (node.name, [(node.gpus or sizes.get(node.pool, 0)) - taken.get(node.name, 0)]) for node in usable
    ]


def _largest_first(pods: Iterable[WorkerPod]) -> list[WorkerPod]:
    return sorted(pods, key=lambda pod: (-pod.gpus, pod.created, pod.key))


def _place(gpus: int, rooms: list[tuple[str, list[int]]]) -> str | None:
    for name, free in rooms:
        if free[0] >= gpus:
            free[0] -= gpus
            return name
    return None


def _place_soon(gpus: int, bins: list[list[int]]) -> bool:
    for free in bins:
        if free[0] >= gpus:
            free[0] -= gpus
            return True
    return False
