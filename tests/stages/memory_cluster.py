"""The API server in memory as parts of the controller see it: caches, worker pods, what the keeper of nodes needs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kairay.controller.board import NodeBoard
from kairay.controller.keeper import NodeTools
from kairay.controller.log import Log
from kairay.controller.look import WATCHED, Views
from kairay.controller.metrics import Metrics
from kairay.controller.triggers import TRIMS
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import Kind, Manifest, labels_of
from kairay.nodes.actions import ScalingSettings
from kairay.nodes.interface import GROUP_LABEL, NodeProvider
from kairay.objects.metadata import WORKSPACE_LABEL
from kairay.skus import Sku, load_skus


class LiveView:
    """A cache that is never behind, and keeps of an object what the controller's caches keep."""

    def __init__(self, cluster: FakeCluster, kind: Kind) -> None:
        self._cluster, self._kind = cluster, kind

    def get(self, namespace: str, name: str) -> Manifest | None:
        found = self._cluster.find(self._kind, namespace, name)
        return None if found is None else TRIMS[self._kind](found)

    def by_label(self, namespace: str, value: str) -> Iterable[Manifest]:
        here = (each for each in self.all() if each["metadata"].get("namespace", "") == namespace)
        return [each for each in here if labels_of(each).get(WORKSPACE_LABEL) == value]

    def all(self) -> Iterable[Manifest]:
        return [TRIMS[self._kind](each) for each in self._cluster.all(self._kind)]


def live_views(cluster: FakeCluster) -> Views:
    """Of everything that the controller watches."""
    return {kind: LiveView(cluster, kind) for kind in WATCHED}


def node_tools(
    cluster: FakeCluster, provider: NodeProvider, board: NodeBoard, now: Callable[[], datetime], log: io.StringIO,
    *, skus: Mapping[str, Sku] | None = None,
) -> NodeTools:  # fmt: skip
    """For a keeper of nodes, with the settings that a user has who sets nothing; None: the shipped sizes and prices."""
    return NodeTools(
        provider=provider, provider_name="Azure", cluster=cluster, views=live_views(cluster), board=board,
        skus=load_skus() if skus is None else skus, scaling=ScalingSettings(), namespace="kairay-system", now=now,
        log=Log(log), metrics=Metrics(),
    )  # fmt: skip


def worker_pod(
    name: str, group: str, *, created: datetime, node: str | None = None, workspace: str = "mine", gpus: int = 1
) -> Manifest:  # fmt: skip
    """A Ray worker's pod of a Workspace in the namespace `team`: it waits, or runs on a node."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "team", "creationTimestamp": created.isoformat(),
            "labels": {WORKSPACE_LABEL: workspace, "kairay.dev/role": "worker"},
        },
        "spec": {
            "nodeSelector": {GROUP_LABEL: group}, **({"nodeName": node} if node else {}),
            "containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}],
        },
        "status": {"phase": "Running" if node else "Pending"},
    }  # fmt: skip
