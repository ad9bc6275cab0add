"""The controller's keeper of nodes with the real SDK, against the simulator and an API server in memory.

Time is the simulator's; the stage plays the scheduler, and Ray, which replaces worker pods whose node is gone.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aks_scenario import A100, H100, provider_of
from kairay.controller.board import NodeBoard
from kairay.controller.groups import NodeWish
from kairay.controller.keeper import NodeKeeper
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import NODE, POD, Key, Manifest
from kairay.nodes.aks import AksProvider
from kairay.nodes.interface import GROUP_LABEL, NodeGroup, Offer
from memory_cluster import node_tools, worker_pod
from simulator import Simulator

GROUP = "g1"
START = datetime(2026, 11, 1, tzinfo=UTC)
MINE = ("team", "mine")
_GPU = "nvidia.com/gpu"


class Keeper(NodeKeeper):
    """One that tells whether it wants to look again at once."""

    woken = False

    def wake(self) -> None:
        self.woken = True


class Stage:
    """A cluster on the simulated Azure, and one Workspace that wants nodes of a group."""

    def __init__(
        self, azure: Simulator, *sizes: str, spot: bool = False, group: NodeGroup | None = None
    ) -> None:
        self.azure = azure
        self.cluster = FakeCluster(now=self.now)
        self.words: list[str] = []
        """Every sentence that was said, once for each change."""
        self.log = io.StringIO()
        offers = [Offer(instance_type=size, spot=spot) for size in sizes or (A100, H100)]
        offers += [Offer(instance_type=size) for size in sizes or (A100, H100) if spot]
        self.group = group or NodeGroup(
            name=GROUP, offers=tuple(offers), gpus_per_node={each.instance_type: 1 for each in offers}
        )
        self._pods = 0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.azure.cloud.clock.now())

    def need(self, count: int = 1) -> None:
        """Worker pods that wait for a GPU each."""
        for _ in range(count):
            self._pods += 1
            self._put_pod(f"worker-{self._pods}", None)

    def end(self) -> None:
        """The work is done."""
        for pod in self.cluster.all(POD):
            self.cluster.remove(Key(POD, "team", pod["metadata"]["name"]))

    def pods(self) -> int:
        return len(self.cluster.all(POD))

    def running(self) -> int:
        return sum(1 for pod in self.cluster.all(POD) if pod["spec"].get("nodeName"))

    def machines(self) -> int:
        """That are paid for, of our pools."""
        pools = self.azure.cloud.pools.values()
        return sum(
            len(pool.machines) for pool in pools if GROUP_LABEL in (pool.properties.get("nodeLabels") or {})
        )

    def until(self, done: Callable[[], bool], *, within: float, passes: int = 400) -> None:
        """Passes of one controller process until it is so; AssertionError when it is not in time."""
        asyncio.run(self._until(done, self.azure.cloud.clock.now() + within, passes))
        assert done(), f"not within {within:.0f} s; said {self.words[-3:]}\n{self.log.getvalue()[-3000:]}"

    def go_on(self, seconds: float) -> None:
        """Passes for so long."""
        end = self.azure.cloud.clock.now() + seconds
        self.until(lambda: self.azure.cloud.clock.now() >= end, within=seconds + 1)

    async def _until(self, done: Callable[[], bool], end: float, passes: int) -> None:
        clock = self.azure.cloud.clock
        async with provider_of(self.azure) as provider:
            keeper = self._keeper(provider)
            await keeper.recall()
            for _ in range(passes):
                if done() or clock.now() >= end:
                    return
                keeper.woken = False
                wait = await keeper.look_safely()
                self.azure.advance(self._step(0.5 if keeper.woken else wait, end))
                self._show_nodes()
                self._schedule()

    def _step(self, wait: float, end: float) -> float:
        """As the controller looks again: when it wants to, or when a node comes or changes."""
        now, event = self.azure.cloud.clock.now(), self.azure.next_event()
        return max(0.5, min(wait, end - now, wait if event is None else event - now))

    def _keeper(self, provider: AksProvider) -> Keeper:
        board = NodeBoard(lambda name: self._hear(board))
        board.want(MINE, NodeWish(group=self.group))
        return Keeper(node_tools(self.cluster, provider, board, self.now, self.log))

    def _hear(self, board: NodeBoard) -> None:
        said = board.words.get(self.group.name)
        if said is not None:
            self.words.append(said.message)

    def _show_nodes(self) -> None:
        """Machines that have joined, as the API server has them."""
        there = {node["metadata"]["name"]: node for node in self.azure.nodes()}
        for node in self.cluster.all(NODE):
            if node["metadata"]["name"] not in there:
                self.cluster.remove(Key(NODE, "", node["metadata"]["name"]))
        for name, node in there.items():
            old = self.cluster.find(NODE, "", name) or {}
            created = old.get("metadata", {}).get("creationTimestamp") or self.now().isoformat()
            cordoned = old.get("spec", {}).get("unschedulable", False)
            self.cluster.put({
                **node,
                "metadata": {**node["metadata"], "creationTimestamp": created},
                "spec": {**node["spec"], **({"unschedulable": True} if cordoned else {})},
            })  # fmt: skip

    def _schedule(self) -> None:
        nodes = {node["metadata"]["name"]: node for node in self.cluster.all(NODE)}
        pods = self.cluster.all(POD)
        for pod in pods:
            if pod["spec"].get("nodeName", "") not in ("", *nodes):
                self.cluster.remove(Key(POD, "team", pod["metadata"]["name"]))
                self.need()
        used = Counter(pod["spec"].get("nodeName") for pod in self.cluster.all(POD))
        free = [
            name
            for name, node in sorted(nodes.items())
            for _ in range(_gpus(node, self.group.name) - used[name])
        ]
        waiting = [pod for pod in self.cluster.all(POD) if not pod["spec"].get("nodeName")]
        for pod, name in zip(waiting, free, strict=False):
            self._put_pod(pod["metadata"]["name"], name)

    def _put_pod(self, name: str, node: str | None) -> None:
        old = self.cluster.find(POD, "team", name)
        created = self.now() if old is None else datetime.fromisoformat(old["metadata"]["creationTimestamp"])
        self.cluster.put(worker_pod(name, self.group.name, created=created, node=node))


def _gpus(node: Manifest, group: str) -> int:
    """Pods that the node takes."""
    ours = node["metadata"]["labels"].get(GROUP_LABEL) == group
    return (
        int(node["status"]["allocatable"].get(_GPU, 0))
        if ours and not node["spec"].get("unschedulable")
        else 0
    )
