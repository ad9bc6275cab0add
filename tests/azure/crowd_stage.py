"""Many Workspaces' worker pods at once: the keeper with the real SDK, the simulated AKS and its token buckets.

The API server is the one in memory: 200 pods on a real one would only cost time. Every change of a pod or of a node
wakes the keeper, as the controller's caches do, and it takes breath between two passes, as its own loop does.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from aks_scenario import provider_of
from kairay.controller.board import NodeBoard
from kairay.controller.groups import NodeWish
from kairay.controller.keeper import NodeKeeper
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import NODE, POD, Key, Kind, Manifest
from kairay.nodes.groups import group_name
from kairay.nodes.interface import GROUP_LABEL, NodeGroup, NodeProvider, Offer
from kairay.skus import load_skus
from memory_cluster import node_tools, worker_pod
from simulator import Simulator

SIZES = (
    "Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3", "Standard_NC16as_T4_v3", "Standard_NC64as_T4_v3",
    "Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4", "Standard_NC96ads_A100_v4",
    "Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5", "Standard_ND96isr_H100_v5",
)  # fmt: skip
_INSTANT = 1e-6
"""Seconds that rounding may lose."""
_START = datetime(2026, 11, 1, tzinfo=UTC)


def shape(number: int) -> NodeGroup:
    """One of 20: ten sizes, each with two sets of labels."""
    size = Offer(instance_type=SIZES[number % 10])
    labels = {"team": "ab"[number // 10 % 2]}
    gpus = load_skus()[size.instance_type].gpus
    return NodeGroup(
        name=group_name(tenant="team", primary=size, labels=labels), offers=(size,), labels=labels, tenant="team",
        gpus_per_node={size.instance_type: gpus},
    )  # fmt: skip


class _Cluster(FakeCluster):
    """Nobody else's pods are on any node, which saves copying all of ours for each node that is looked at."""

    async def list(self, *_: Any, **__: Any) -> tuple[list[Manifest], str]:
        return [], "1"

    def kept(self, kind: Kind) -> list[Manifest]:
        """Every object of a kind, by name, to be looked at and not changed: copies would cost most of the time."""
        return [self._objects[key] for key in sorted(self._objects) if key.kind == kind]


class Crowd:
    """Workspaces by number; each has one worker that takes all GPUs of a node."""

    def __init__(self, azure: Simulator, workspaces: int = 200) -> None:
        self.azure = azure
        self.cluster = _Cluster(now=self.now)
        self.log = io.StringIO()
        self.groups = [shape(number) for number in range(workspaces)]
        self.asked: dict[str, float] = {}
        self.waited: dict[str, float] = {}
        """Virtual seconds from a pod's coming to its place on a node."""
        self.passes = 0
        self._changed = False

    @property
    def clock(self) -> float:
        return self.azure.cloud.clock.now()

    @property
    def calls(self) -> Counter[str]:
        return self.azure.arm.calls

    @property
    def machines(self) -> int:
        return sum(len(pool.machines) for name, pool in self.azure.cloud.pools.items() if name != "system")

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.clock)

    def refused(self) -> list[str]:
        """Calls that Azure would not take."""
        return [f"{each['call']} {each['status']}" for each in self.azure.arm.log if each["status"] >= 400]

    def need(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.asked[f"worker-{number}"] = self.clock
            self._put_pod(number, None)
        self._changed = True

    def end(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.cluster.remove(Key(POD, "team", f"worker-{number}"))
        self._changed = True

    def play(
        self,
        done: Callable[[], bool],
        *,
        within: float,
        then: Iterable[tuple[float, Callable[[], None]]] = (),
    ) -> None:
        """The controller's loop until it is so; `then` happens at its moments from now."""
        began = self.clock
        events = sorted(((began + at, step) for at, step in then), key=lambda each: each[0])
        asyncio.run(self._play(done, began + within, events))
        assert not events, "all of it has happened"
        assert done(), f"not within {within:.0f} s; {dict(self.calls)}\n{self.log.getvalue()[-2000:]}"

    async def _play(
        self, done: Callable[[], bool], end: float, events: list[tuple[float, Callable[[], None]]]
    ) -> None:
        async with provider_of(self.azure) as provider:
            keeper = self._keeper(provider)
            await keeper.recall()
            while self.clock < end and (events or not done()):
                self._changed = False
                wait = await keeper.look_safely()
                self.passes += 1
                until = self.clock + wait
                while self.clock < min(until, end) - _INSTANT and not self._changed:
                    self._pass_time(min(until, end), events)
                until = self.clock + keeper.breath()
                while self.clock < until - _INSTANT:
                    self._pass_time(until, events)

    def _keeper(self, provider: NodeProvider) -> NodeKeeper:
        board = NodeBoard(lambda name: None)
        for number, group in enumerate(self.groups):
            board.want(("team", f"mine-{number}"), NodeWish(group=group))
        return NodeKeeper(node_tools(self.cluster, provider, board, self.now, self.log))

    def _pass_time(self, until: float, events: list[tuple[float, Callable[[], None]]]) -> None:
        """To the next thing that happens, if it is before `until`."""
        event = self.azure.next_event()
        happens = [moment for moment, _ in events[:1]] + ([] if event is None else [event])
        self.azure.advance(max(0.0, min([until, *happens]) - self.clock))
        while events and events[0][0] <= self.clock + _INSTANT:
            events.pop(0)[1]()
        self._show_nodes()
        self._schedule()

    def _show_nodes(self) -> None:
        there = {each["metadata"]["name"]: each for each in self.azure.nodes()}
        known = {each["metadata"]["name"]: each for each in self.cluster.kept(NODE)}
        for name in known.keys() - there.keys():
            self.cluster.remove(Key(NODE, "", name))
            self._changed = True
        for name, node in there.items():
            old = known.get(name)
            if old is not None and old["status"] == node["status"]:
                continue
            created = old["metadata"]["creationTimestamp"] if old else self.now().isoformat()
            spec = {
                **node["spec"],
                **({"unschedulable": True} if old and old["spec"].get("unschedulable") else {}),
            }
            self.cluster.put({
                **node, "metadata": {**node["metadata"], "creationTimestamp": created}, "spec": spec,
            })  # fmt: skip
            self._changed = True

    def _schedule(self) -> None:
        pods = self.cluster.kept(POD)
        taken = {pod["spec"].get("nodeName") for pod in pods}
        free: dict[str, list[str]] = {}
        for node in self.cluster.kept(NODE):
            name, group = node["metadata"]["name"], node["metadata"]["labels"].get(GROUP_LABEL, "")
            if name not in taken and not node["spec"].get("unschedulable") and _advertises(node):
                free.setdefault(group, []).append(name)
        for pod in pods:
            names = free.get(pod["spec"]["nodeSelector"][GROUP_LABEL])
            if not pod["spec"].get("nodeName") and names:
                name = pod["metadata"]["name"]
                self._put_pod(int(name.rpartition("-")[2]), names.pop(0))
                self.waited[name] = self.clock - self.asked[name]
                self._changed = True

    def _put_pod(self, number: int, node: str | None) -> None:
        group, name = self.groups[number], f"worker-{number}"
        gpus = group.gpus_per_node[group.offers[0].instance_type]
        created = _START + timedelta(seconds=self.asked[name])
        self.cluster.put(
            worker_pod(name, group.name, created=created, node=node, workspace=f"mine-{number}", gpus=gpus)
        )


def _advertises(node: Manifest) -> bool:
    return "nvidia.com/gpu" in node["status"]["allocatable"]
