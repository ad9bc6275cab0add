"""Who is on a node besides our own workers. The caches hold only our pods, so the API server is asked, node by node."""

from __future__ import annotations

from collections.abc import Iterable

from kairay.controller.look import View
from kairay.kube.interface import Cluster
from kairay.kube.objects import POD, Manifest
from kairay.nodes.demand import WorkerPod
from kairay.nodes.interface import GPU_TAINT_KEY, GPU_TAINT_VALUE, GroupNode


async def nodes_in_use(
    nodes: Iterable[GroupNode], pods: Iterable[WorkerPod], *, live: View, cluster: Cluster
) -> frozenset[str]:
    """Names of the nodes without a worker of ours that other people's pods are on; `live` are the nodes as they are."""
    busy = {pod.node for pod in pods if pod.holds}
    idle = [node.name for node in nodes if node.name not in busy]
    found = []
    for name in idle:
        node = live.get("", name) or {}
        taints = [each["key"] for each in (node.get("spec") or {}).get("taints", ())]
        on_it, _ = await cluster.list(POD, fields={"spec.nodeName": name})
        if any(_keeps_a_node(pod, tainted=GPU_TAINT_KEY in taints) for pod in on_it):
            found.append(name)
    return frozenset(found)


def _keeps_a_node(pod: Manifest, *, tainted: bool) -> bool:
    """Somebody's work: not a DaemonSet's, not the kubelet's own, and not at its end.

    What does not tolerate the taint of GPU nodes was there before it, and is no reason to keep a node that has it.
    """
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    if {each.get("kind") for each in pod["metadata"].get("ownerReferences", ())} & {"DaemonSet", "Node"}:
        return False
    tolerations = (pod.get("spec") or {}).get("tolerations", ())
    return not tainted or any(
        each.get("key", GPU_TAINT_KEY) == GPU_TAINT_KEY
        and each.get("value", GPU_TAINT_VALUE) == GPU_TAINT_VALUE
        for each in tolerations
    )
