"""The keeper of GPU nodes: observe pods, nodes and pools, decide, apply, and leave word on the board.

One pass follows each change of a worker pod or of a node, and whenever a decision asks for it. What is remembered is in
a ConfigMap before anything is done, so a controller that dies in the middle of a pass loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from kairay.controller.board import NodeBoard
from kairay.controller.log import Log
from kairay.controller.look import Views
from kairay.controller.metrics import Metrics
from kairay.controller.occupants import nodes_in_use
from kairay.errors import InputError, KairayError, TransientError
from kairay.kube.interface import Cluster
from kairay.kube.objects import CONFIG_MAP, NODE, POD, Key, uid_of
from kairay.nodes.actions import (
    CordonNode,
    DeletePool,
    EnsurePool,
    NodeAction,
    NodesView,
    NodeWord,
    RemoveNodes,
    ScalePool,
    ScalingSettings,
    UncordonNode,
)
from kairay.nodes.demand import WorkerPod, view_group_node, view_worker
from kairay.nodes.interface import (
    NodeGroup,
    NodeProvider,
    Offer,
    Refusal,
    RefusedError,
)
from kairay.nodes.remembered import Remembered
from kairay.nodes.scaling import decide_nodes, refused
from kairay.skus import Sku, find_sku

MEMORY: Final = "kairay-nodes"
"""The ConfigMap, in the controller's namespace."""
_MEMORY_KEY = "memory.json"
_BREATH = 0.5
"""Seconds between two passes at the least: changes come in bunches."""
_BURST, _PACE = 15, 3.0
"""So many passes in a bunch, then one every three seconds: each lists the pools, and AKS takes one call a second."""
_IDLE = 60.0
"""Seconds until a look though nothing has changed: somebody may have changed a pool."""
_OTHERS = 10.0
"""Seconds until a look at a node that only others' pods keep: those are not watched, so nothing tells when they go."""
_AFTER_FAILURE, _LONGEST = 5.0, 300.0
"""Seconds until the pass after one that failed, at the least and at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTools:
    """Everything that a pass over nodes talks to."""

    provider: NodeProvider
    provider_name: str
    """In sentences: `Azure`."""
    cluster: Cluster
    views: Views
    board: NodeBoard
    skus: Mapping[str, Sku]
    scaling: ScalingSettings
    namespace: str
    """The controller's own."""
    now: Callable[[], datetime]
    log: Log
    metrics: Metrics


class NodeKeeper:
    """Brings nodes for worker pods that wait, and removes those that nobody needs."""

    def __init__(self, tools: NodeTools) -> None:
        self._tools = tools
        self._memory = Remembered()
        self._recalled = False
        self._failed = False
        self._paid = tools.now()
        """A token bucket of passes: the moment at which it is full again."""
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Something has changed: look soon."""
        self._awake.set()

    async def run(self) -> None:
        """Until cancelled. The API server's faults and the provider's are waited out, whatever changes meanwhile."""
        while True:
            self._awake.clear()
            wait = await self.look_safely()
            if self._failed:
                await asyncio.sleep(min(max(wait, _BREATH), _LONGEST))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._awake.wait()
            await asyncio.sleep(self.breath())

    def breath(self) -> float:
        """Seconds from the end of a pass until the next may begin, however much changes."""
        spare = timedelta(seconds=_BURST * _PACE)
        return max(_BREATH, (self._paid - spare - self._tools.now()).total_seconds())

    async def recall(self) -> None:
        """Take up what an earlier process remembered."""
        found = await self._tools.cluster.get(Key(CONFIG_MAP, self._tools.namespace, MEMORY))
        text = ((found or {}).get("data") or {}).get(_MEMORY_KEY)
        try:
            self._memory = Remembered() if text is None else Remembered.from_json(text)
        except InputError as error:
            self._tools.log.fault("memory of nodes dropped", message=error.message)
        self._recalled = True

    async def look_once(self) -> float:
        """One pass; seconds until the next. RefusedError and the API client's errors."""
        if not self._recalled:
            await self.recall()
        tools, now = self._tools, self._tools.now()
        view = await self._observe()
        decision = decide_nodes(view, self._memory, tools.scaling, now)
        await self._remember(decision.memory)
        tools.board.say(decision.words, view.groups)
        for action in decision.actions:
            await self._do(action)
        self._measure(view)
        longest = _OTHERS if view.in_use else _IDLE
        again = longest if decision.again is None else (decision.again - now).total_seconds()
        return min(longest, max(0.0, again))

    async def look_safely(self) -> float:
        """One pass whatever happens; seconds until the next."""
        tools, self._failed = self._tools, True
        self._paid = max(self._paid, tools.now()) + timedelta(seconds=_PACE)
        try:
            wait = await self.look_once()
        except RefusedError as error:
            tools.log.fault("nodes not looked at", reason=error.reason, message=error.message)
            self._say_to_waiting(error.refusal)
            return max(_AFTER_FAILURE, error.refusal.retry_after)
        except KairayError as error:
            tools.log.fault("nodes not looked at", reason=error.reason, message=error.message)
            return error.retry_after if isinstance(error, TransientError) else _AFTER_FAILURE
        except Exception as error:  # noqa: BLE001  a surprise here must not end passes over Workspaces
            tools.log.fault("pass over nodes crashed", error=repr(error))
            return _AFTER_FAILURE
        self._failed = False
        return wait

    async def _observe(self) -> NodesView:
        tools = self._tools
        pods = tuple(pod for each in tools.views[POD].all() if (pod := view_worker(each)) is not None)
        nodes = tuple(node for each in tools.views[NODE].all() if (node := view_group_node(each)) is not None)
        groups = tools.board.groups()
        return NodesView(
            groups=groups,
            pods=pods,
            pools=await tools.provider.pools(),
            nodes=nodes,
            quotas=await tools.provider.quota(_offers_wanted(groups, pods)),
            prices=self._prices(groups.values(), tools.board.suggestions().values()),
            in_use=await nodes_in_use(nodes, pods, live=tools.views[NODE], cluster=tools.cluster),
            gangs=tools.board.gangs(),
            suggestions=tools.board.suggestions(),
            provider=tools.provider_name,
        )

    def _prices(
        self, groups: Iterable[NodeGroup], others: Iterable[tuple[Offer, ...]]
    ) -> dict[Offer, float | None]:
        prices: dict[Offer, float | None] = {}
        for offer in chain(*(group.offers for group in groups), *others):
            sku = find_sku(offer.instance_type, self._tools.skus)
            prices[offer] = None if sku is None else sku.spot_usd_per_hour if offer.spot else sku.usd_per_hour
        return prices

    async def _do(self, action: NodeAction) -> None:
        tools = self._tools
        tools.log.info("nodes", action=type(action).__name__, on=_on(action), reason=action.reason)
        match action:
            case CordonNode() | UncordonNode():
                await self._set_schedulable(action.node, schedulable=isinstance(action, UncordonNode))
            case EnsurePool():
                await self._call(action, tools.provider.ensure(action.spec, action.count))
            case ScalePool():
                await self._call(action, tools.provider.scale(action.target, action.count))
            case RemoveNodes():
                await self._call(action, tools.provider.remove(action.target, action.nodes))
            case DeletePool():
                await self._call(action, tools.provider.delete(action.target))

    async def _call(
        self, action: EnsurePool | ScalePool | RemoveNodes | DeletePool, call: Awaitable[None]
    ) -> None:
        tools, name = self._tools, type(action).__name__
        try:
            await call
        except RefusedError as error:
            tools.metrics.provider_calls.labels(name, str(error.refusal.kind)).inc()
            tools.log.fault(
                "nodes refused", action=name, on=action.pool, reason=error.reason, code=error.refusal.code,
                message=error.message,
            )  # fmt: skip
            await self._remember(refused(self._memory, action, error.refusal, tools.now()))
            self.wake()
        else:
            tools.metrics.provider_calls.labels(name, "done").inc()

    async def _set_schedulable(self, name: str, *, schedulable: bool) -> None:
        live = self._tools.views[NODE].get("", name)
        if live is None:
            return
        spec = {} if schedulable else {"unschedulable": True}
        try:
            await self._tools.cluster.apply({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": uid_of(live)}, "spec": spec,
            })  # fmt: skip
        except KairayError as error:
            # A node that has gone meanwhile must not keep others from coming.
            self._tools.log.fault("node not changed", on=name, reason=error.reason, message=error.message)
            known = self._memory.nodes.get(name)
            if schedulable and known is not None:
                closed = replace(known, closed_at=self._tools.now())
                nodes = {**self._memory.nodes, name: closed}
                await self._remember(replace(self._memory, nodes=nodes))

    async def _remember(self, memory: Remembered) -> None:
        if memory == self._memory:
            return
        await self._tools.cluster.apply({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": MEMORY, "namespace": self._tools.namespace},
            "data": {_MEMORY_KEY: memory.to_json()},
        })  # fmt: skip
        self._memory = memory

    def _say_to_waiting(self, refusal: Refusal) -> None:
        """Only where a pod waits: a cloud that is away for a moment is no news for a thousand Workspaces at rest."""
        groups = self._tools.board.groups()
        pods = (view_worker(each) for each in self._tools.views[POD].all())
        waiting = {pod.group for pod in pods if pod is not None and pod.waits} & set(groups)
        word = NodeWord(message=refusal.message, refusal=refusal.kind)
        self._tools.board.say(dict.fromkeys(waiting, word), groups)

    def _measure(self, view: NodesView) -> None:
        gauge = self._tools.metrics.pool_nodes
        gauge.clear()
        for pool in view.pools:
            if pool.group is not None:
                gauge.labels(pool.name, pool.offer.instance_type, str(pool.offer.spot).lower()).set(
                    pool.count
                )


def _offers_wanted(groups: Mapping[str, NodeGroup], pods: Iterable[WorkerPod]) -> list[Offer]:
    """Of groups with a pod that waits, without repetition."""
    names = {pod.group for pod in pods if pod.waits}
    return sorted({offer for name in names if name in groups for offer in groups[name].offers})


def _on(action: NodeAction) -> str:
    return action.node if isinstance(action, CordonNode | UncordonNode) else action.pool
