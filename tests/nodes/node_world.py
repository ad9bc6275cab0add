"""A cluster as scaling sees it: pods, a scheduler that spreads them, FakeProvider's nodes, and the controller's loop.

Time is a number that only `pass_time` moves. The memory goes through JSON at every pass, as it does at a restart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from kairay.nodes.actions import (
    CordonNode,
    DeletePool,
    EnsurePool,
    NodeAction,
    NodeDecision,
    NodesView,
    RemoveNodes,
    ScalePool,
    ScalingSettings,
    UncordonNode,
)
from kairay.nodes.demand import WorkerPod
from kairay.nodes.fake import Delays, FakeProvider
from kairay.nodes.groups import group_name, pool_name
from kairay.nodes.interface import GroupNode, NodeGroup, Offer, Pool, RefusedError
from kairay.nodes.remembered import Remembered
from kairay.nodes.scaling import decide_nodes, refused

T = TypeVar("T")
START = datetime(2026, 11, 25, 12, tzinfo=UTC)


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # StopIteration does not say what it carries
    raise RuntimeError("it waits")


def group_of(*offers: Offer, gpus: int = 1, tenant: str = "team", **sizes: int) -> NodeGroup:
    """A group whose nodes have `gpus` each, or what `sizes` says of an instance type."""
    return NodeGroup(
        name=group_name(tenant=tenant, primary=offers[0]), offers=offers, tenant=tenant,
        gpus_per_node={each.instance_type: sizes.get(each.instance_type, gpus) for each in offers},
    )  # fmt: skip


class World:
    """What tests look at and change."""

    def __init__(
        self, *groups: NodeGroup, settings: ScalingSettings | None = None,
        delays: Delays | Callable[[], Delays] | None = None, joins: Any = None, careful: bool = True,
    ) -> None:  # fmt: skip
        self.now = START
        self.settings = settings or ScalingSettings()
        self.provider = FakeProvider(lambda: self.now, delays=delays, joins=joins)
        self.groups = {group.name: group for group in groups}
        self.pods: dict[str, WorkerPod] = {}
        self.cordoned: set[str] = set()
        self.trouble: dict[str, str] = {}
        self.unready: set[str] = set()
        self.bare: set[str] = set()
        """Pools whose nodes never advertise GPUs."""
        self.memory = Remembered()
        self.careful = careful
        """The memory goes through JSON at every pass."""
        self.view: dict[str, Any] = {}
        """More for NodesView."""
        self.last: NodeDecision | None = None
        self.history: list[tuple[datetime, NodeAction]] = []
        self.passes = 0
        self.removed_at_work: list[str] = []
        """Nodes that were removed with a worker's pod on them."""
        self._numbers = itertools.count(1)

    # -- what users and Ray do -------------------------------------------------------------------------------------

    def need(
        self, workspace: str, *gpus: int, group: NodeGroup | None = None, namespace: str = "team"
    ) -> list[str]:
        """Worker pods that wait, one for each number of GPUs."""
        group = group or next(iter(self.groups.values()))
        return [self._add(namespace, workspace, group.name, each) for each in gpus or (1,)]

    def end(self, workspace: str) -> None:
        """The Workspace's worker pods go."""
        self.pods = {key: pod for key, pod in self.pods.items() if pod.workspace != workspace}

    # -- what there is ---------------------------------------------------------------------------------------------

    def nodes(self) -> tuple[GroupNode, ...]:
        """As Kubernetes has them."""
        return tuple(
            replace(
                node, cordoned=node.name in self.cordoned, trouble=self.trouble.get(node.name),
                ready=node.name not in self.unready, gpus=0 if node.pool in self.bare else node.gpus,
            )
            for node in self.provider.nodes()
        )  # fmt: skip

    def waiting(self) -> list[WorkerPod]:
        """Pods without a node."""
        return [pod for pod in self.pods.values() if pod.waits]

    def last_pools(self) -> tuple[Pool, ...]:
        """As the provider has them."""
        return done(self.provider.pools())

    def did(self, kind: type[T]) -> list[T]:
        """Actions of a kind, oldest first."""
        return [action for _, action in self.history if isinstance(action, kind)]

    def word(self, group: NodeGroup | None = None) -> str:
        """What the last pass said of a group."""
        assert self.last is not None
        name = (group or next(iter(self.groups.values()))).name
        return self.last.words[name].message if name in self.last.words else ""

    def pool(self, offer: Offer, group: NodeGroup | None = None) -> str:
        """The pool's name."""
        return pool_name((group or next(iter(self.groups.values()))).name, offer)

    # -- time ------------------------------------------------------------------------------------------------------

    def look(
        self, *, crash_before_actions: bool = False, crash_after_actions: bool = False,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> NodeDecision:  # fmt: skip
        """One pass of the controller; `meanwhile` happens between its decision and its actions."""
        self.passes += 1
        self.schedule()
        pools = done(self.provider.pools())
        seen = NodesView(
            groups=self.groups, pods=tuple(self.pods.values()), pools=pools, nodes=self.nodes(),
            **{"quotas": done(self.provider.quota(self._offers())), **self.view},
        )  # fmt: skip
        before = self.memory
        decision = decide_nodes(seen, before, self.settings, self.now)
        self.last, self.memory = decision, decision.memory
        if self.careful:
            self.memory = Remembered.from_json(decision.memory.to_json())
            assert self.memory == decision.memory
        meanwhile()
        if not crash_before_actions:
            for action in decision.actions:
                self._do(action)
        if crash_after_actions:
            self.memory = before
        return decision

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass; the controller looks whenever something happens or it wanted to."""
        until = self.now + timedelta(seconds=seconds)
        self.look()
        while True:
            assert self.last is not None
            times = [when for when in (self.last.again, self.provider.next_event()) if when is not None]
            later = min((when for when in times if when > self.now), default=until)
            if later >= until:
                break
            self.now = later
            self.look()
        self.now = until
        self.look()

    def schedule(self) -> None:
        """Kubernetes' scheduler, which spreads, and Ray, which replaces pods whose node is gone."""
        nodes = {node.name: node for node in self.nodes()}
        for pod in [pod for pod in self.pods.values() if pod.node is not None and pod.node not in nodes]:
            del self.pods[pod.key]
            self._add(pod.namespace, pod.workspace, pod.group, pod.gpus)
        free = {name: node.gpus for name, node in nodes.items()}
        for pod in self.pods.values():
            if pod.node is not None:
                free[pod.node] -= pod.gpus
        for pod in self.waiting():
            fitting = [
                name for name, node in nodes.items()
                if node.group == pod.group and node.ready and not node.cordoned and free[name] >= pod.gpus
            ]  # fmt: skip
            if fitting:
                best = max(fitting, key=lambda name: (free[name], name))
                free[best] -= pod.gpus
                self.pods[pod.key] = replace(pod, node=best)

    # -- how -------------------------------------------------------------------------------------------------------

    def _add(self, namespace: str, workspace: str, group: str, gpus: int) -> str:
        pod = WorkerPod(
            namespace=namespace, workspace=workspace, name=f"{workspace}-{next(self._numbers)}", group=group,
            gpus=gpus, node=None, created=self.now.replace(microsecond=0),
        )  # fmt: skip
        self.pods[pod.key] = pod
        return pod.key

    def _offers(self) -> list[Offer]:
        return [offer for group in self.groups.values() for offer in group.offers]

    def _do(self, action: NodeAction) -> None:
        self.history.append((self.now, action))
        try:
            match action:
                case CordonNode():
                    self.cordoned.add(action.node)
                case UncordonNode():
                    self.cordoned.discard(action.node)
                case EnsurePool():
                    done(self.provider.ensure(action.spec, action.count))
                case ScalePool():
                    done(self.provider.scale(action.target, action.count))
                case RemoveNodes():
                    held = {pod.node for pod in self.pods.values() if pod.holds}
                    self.removed_at_work += [name for name in action.nodes if name in held]
                    done(self.provider.remove(action.target, action.nodes))
                case DeletePool():
                    done(self.provider.delete(action.target))
        except RefusedError as error:
            assert isinstance(action, (EnsurePool, ScalePool, RemoveNodes, DeletePool))
            self.memory = refused(self.memory, action, error.refusal, self.now)


def asked(world: World) -> list[tuple[str, int]]:
    """(call, count) of what the provider accepted."""
    return [(call, count) for _, call, _, count in world.provider.log]


def writes(world: World) -> list[tuple[float, str, str, int]]:
    """(seconds since the start, call, pool, count)."""
    return [
        ((when - START).total_seconds(), call, pool, count) for when, call, pool, count in world.provider.log
    ]
