"""Azure for the one-machine cluster: the simulator's only machine is the real node.

A pool's machine that joins gives the node the pool's labels, and its GPUs a moment later; a machine that is deleted
takes all of it away again and opens the node, which would otherwise be gone. What else runs of the cluster was on the
node before it got the taint of GPU nodes, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from installed import configure
from onebox.cluster import Cluster
from onebox.kairay import LABELS
from onebox.layout import HOST_IP, NODE
from onebox.node import advertise_gpus
from simulator import Clock, Cloud, Simulator, Timings, node_manifest

TIMINGS = Timings(create=8, scale=6, update=2, delete=2, delete_machines=4, register=5, gpus=2)
"""Real seconds; Azure takes minutes, of which nothing would be learned."""
_NODE = f"/api/v1/nodes/{NODE}"
_OWN = ("kubernetes.io/hostname", "kubernetes.io/os")
_GPUS = 4


@contextmanager
def simulated_azure(cluster: Cluster, **settings: str) -> Iterator[Simulator]:
    """Kairay's controller against a simulator, on a cluster whose node has no GPU until a pool brings it."""
    cloud = Cloud(clock=Clock(1.0), timings=TIMINGS, machine_name=lambda pool, number: NODE)
    node = _RealNode(cluster, cloud)
    node.leave()
    with Simulator(cloud, host=HOST_IP, on_nodes=node.on_nodes, on_gpus=node.on_gpus) as simulator:
        configure(
            cluster,
            KAIRAY_NODES_PROVIDER="aks",
            KAIRAY_AKS_SUBSCRIPTION=cloud.names.subscription,
            KAIRAY_AKS_RESOURCE_GROUP=cloud.names.resource_group,
            KAIRAY_AKS_CLUSTER=cloud.names.cluster,
            KAIRAY_AKS_ENDPOINT=simulator.url,
            **settings,
        )
        try:
            yield simulator
        finally:
            configure(cluster)
            node.leave()
            cluster.api.patch(_NODE, {"metadata": {"labels": LABELS}})
            advertise_gpus(cluster.api, _GPUS)


class _RealNode:
    """The cluster's node in the part of a pool's machine."""

    def __init__(self, cluster: Cluster, cloud: Cloud) -> None:
        self._api, self._cloud = cluster.api, cloud
        self._given: set[str] = set(LABELS)

    def on_nodes(self, pool: str, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        """Called by the simulator."""
        if NODE in added and pool != "system":
            self._join(pool)
        if NODE in removed:
            self.leave()

    def on_gpus(self, pool: str, names: tuple[str, ...]) -> None:
        """Called by the simulator."""
        if NODE in names and pool != "system":
            advertise_gpus(self._api, _gpus_of(self._manifest(pool)))

    def leave(self) -> None:
        """No labels of a pool, no GPUs, open for pods."""
        labels = dict.fromkeys(sorted(self._given))
        self._api.patch(
            _NODE, {"metadata": {"labels": labels}, "spec": {"unschedulable": None, "taints": None}}
        )
        advertise_gpus(self._api, 0)

    def _join(self, pool: str) -> None:
        manifest = self._manifest(pool)
        given = manifest["metadata"]["labels"]
        labels = {key: value for key, value in given.items() if key not in _OWN}
        self._given |= set(labels)
        self._api.patch(
            _NODE, {"metadata": {"labels": labels}, "spec": {"taints": manifest["spec"]["taints"]}}
        )

    def _manifest(self, pool: str) -> dict[str, Any]:
        return node_manifest(pool, self._cloud.pools[pool].properties, NODE, gpus=True)


def _gpus_of(manifest: dict[str, Any]) -> int:
    return int(manifest["status"]["allocatable"].get("nvidia.com/gpu", 0))
