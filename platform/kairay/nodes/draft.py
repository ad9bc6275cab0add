"""One pass of scaling while it is made: what is there, what is remembered, and what has been decided so far.

Steps (look, recover, grow, shrink, tidy) work on one Draft, one after the other; `decide_nodes` makes values of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from kairay.nodes.actions import (
    DeletePool,
    EnsurePool,
    NodeAction,
    NodesView,
    NodeWord,
    PoolAction,
    RemoveNodes,
    ScalingSettings,
)
from kairay.nodes.demand import Coming, Demand, WorkerPod, nodes_wanted
from kairay.nodes.interface import GroupNode, NodeGroup, Offer, Pool, PoolState, Refusal, RefusalKind
from kairay.nodes.refusals import blame
from kairay.nodes.remembered import GangMemory, GroupMemory, NodeMemory, PoolMemory, Remembered

_FRESH = timedelta(seconds=60)
"""So long our own write is believed rather than a list of pools that may be older."""


class Draft:
    """What steps read and change; nothing of it leaves a pass."""

    def __init__(self, view: NodesView, memory: Remembered, settings: ScalingSettings, now: datetime) -> None:
        self.view, self.settings, self.now = view, settings, now
        self.memory = memory
        self.pools: dict[str, PoolMemory] = dict(memory.pools)
        self.nodes: dict[str, NodeMemory] = dict(memory.nodes)
        self.groups: dict[str, GroupMemory] = dict(memory.groups)
        self.gangs: dict[str, GangMemory] = dict(memory.gangs)
        self.actions: list[NodeAction] = []
        self.written: set[str] = set()
        self.taken: dict[str, int] = {}
        """Units of quotas, by name, that this pass has given away."""
        self.notes: dict[str, list[NodeWord]] = {}
        """By group: what is wrong or worth saying."""
        self.skipped: dict[str, list[NodeWord]] = {}
        """By group: why offers are not asked for."""
        self.again: datetime | None = None
        self.live = {pool.name: pool for pool in view.pools}
        self.ours = {pool.name: pool for pool in view.pools if pool.group is not None}
        self.alive: tuple[GroupNode, ...] = ()
        """Nodes that were not asked to go, with their trouble (`stay`)."""
        self.holding: dict[str, list[WorkerPod]] = {}
        """By node: worker pods that hold it."""
        self._joined: Counter[str] = Counter()
        self._pods: dict[str, list[WorkerPod]] = {}
        for pod in view.pods:
            self._pods.setdefault(pod.group, []).append(pod)
            if pod.holds:
                self.holding.setdefault(str(pod.node), []).append(pod)
        self._demands: dict[str, Demand] = {}

    # -- what is there -------------------------------------------------------------------------------------------

    def stay(self, nodes: Iterable[GroupNode]) -> None:
        """These nodes were not asked to go."""
        self.alive = tuple(nodes)
        self._joined = Counter(node.pool for node in self.alive)

    def joined(self, pool: str) -> int:
        """Nodes of a pool that Kubernetes has and that stay."""
        return self._joined[pool]

    def expected(self, pool: Pool) -> int:
        """The count that a pool has or will have: our own last word while it is younger than the list."""
        known = self.pools.get(pool.name)
        if known is None or known.written is None or pool.bounds is not None or known.bounded:
            return pool.count
        return known.written if self.believed(pool.name) or pool.state is PoolState.BUSY else pool.count

    def believed(self, pool: str) -> bool:
        """Our last write is so young that a list of pools may not know of it."""
        known = self.pools.get(pool)
        return known is not None and known.written_at is not None and self.now - known.written_at < _FRESH

    def coming(self, pool: Pool) -> int:
        """Nodes of a pool that will join by themselves."""
        known = self.pools.get(pool.name)
        if pool.state is PoolState.FAILED and not self.believed(pool.name):
            return 0
        return max(0, self.expected(pool) - self.joined(pool.name) - (known.lost if known else 0))

    def gpus_of(self, pool: Pool) -> int:
        """GPUs that a node of the pool has, once its device plugin runs."""
        group = self.view.groups.get(str(pool.group))
        told = group.gpus_per_node.get(pool.offer.instance_type, 0) if group else 0
        return told or max((node.gpus for node in self.alive if node.pool == pool.name), default=0)

    def pods_of(self, group: str) -> tuple[WorkerPod, ...]:
        """A group's worker pods, but those that wait for a set that pauses."""
        return tuple(pod for pod in self._pods.get(group, ()) if not self._pauses(pod))

    def demand(self, group: str) -> Demand:
        """What a group's pods need, once for a pass."""
        if group not in self._demands:
            pools = [pool for pool in self.ours.values() if pool.group == group]
            self._demands[group] = nodes_wanted(
                group, self.pods_of(group), self.alive,
                coming=[
                    Coming(pool=pool.name, gpus=self.gpus_of(pool), count=self.coming(pool)) for pool in pools
                ],
                sizes={pool.name: self.gpus_of(pool) for pool in pools},
                ours=frozenset(name for name, known in self.nodes.items() if known.closed_at is not None),
            )  # fmt: skip
        return self._demands[group]

    def count_again(self) -> None:
        """Demand is not as it was: a set pauses."""
        self._demands.clear()

    # -- what is decided -----------------------------------------------------------------------------------------

    def note(self, group: str, sentence: str, kind: RefusalKind | None = None) -> None:
        """Say something in the group's status, once."""
        notes, word = self.notes.setdefault(group, []), NodeWord(message=sentence, refusal=kind)
        if word not in notes:
            notes.append(word)

    def look_at(self, when: datetime) -> None:
        """Look again then, if not earlier."""
        if when > self.now and (self.again is None or when < self.again):
            self.again = when

    def look_in(self, seconds: float) -> None:
        """Look again after so long, if not earlier."""
        self.look_at(self.now + timedelta(seconds=seconds))

    def blocked(self, pool: str, *, put: bool = True) -> str | None:
        """Why a pool cannot be written now; None: it can. `put` writes count against AKS' limit of them."""
        live, known = self.live.get(pool), self.pools.get(pool)
        if pool in self.written:
            return f"pool {pool} is written already"
        if live is not None and live.state is PoolState.BUSY:
            self.look_in(self.settings.busy_seconds)
            return f"pool {pool} is busy ({self.view.provider}: {live.phase})"
        if known is not None and known.left_until is not None:
            self.look_at(known.left_until)
            return left_alone(pool, known.left_until)
        if known is not None and known.wait_until is not None:
            self.look_at(known.wait_until)
            return f"pool {pool} waits until {clock(known.wait_until)}: {known.wait_reason}"
        return self._out_of_calls(known, put=put)

    def write(self, action: PoolAction) -> None:
        """Add a write to the provider that is not blocked; it is remembered as done."""
        assert action.pool not in self.written
        known = self.pools.get(action.pool) or PoolMemory(group=_group_of(action))
        written = dict[str, Any](written_at=self.now, empty_since=None, short_since=None, removed=0)
        if isinstance(action, EnsurePool):
            written |= {"written": action.count, "bounded": False, "lost": 0, "absent": False}
        elif isinstance(action, RemoveNodes):
            count = len(action.nodes)
            written |= {"written": self.expected(action.target) - count, "removed": count}
        elif isinstance(action, DeletePool):
            # A refused deletion is tried again soon, not when the pool has been empty for another hour.
            written |= {"deleted_at": self.now, "empty_since": known.empty_since}
        else:
            bounded = action.target.bounds is not None
            written |= {"written": action.count, "bounded": bounded, "lost": 0, "absent": False}
        if not isinstance(action, (RemoveNodes, DeletePool)):
            written["next_write"] = _paid(known.next_write, self.now, self.settings.pool_interval)
        paid = _paid(self.memory.next_call, self.now, self.settings.call_interval)
        self.memory = replace(self.memory, next_call=paid)
        self.pools[action.pool] = replace(known, **written)
        self.written.add(action.pool)
        self.actions.append(action)
        self.look_in(self.settings.busy_seconds)

    def blame(self, pool: Pool, refusal: Refusal) -> None:
        """Remember why a pool's last operation failed, as if its call had been refused."""
        self.memory = blame(
            replace(self.memory, pools=self.pools), pool.name, str(pool.group), pool.offer, refusal, self.now
        )
        self.pools = dict(self.memory.pools)

    def remembered(self) -> Remembered:
        """All that is remembered of this pass."""
        return replace(
            self.memory,
            pools=_sorted(self.pools),
            nodes=_sorted(self.nodes),
            groups=_sorted({name: known for name, known in self.groups.items() if known != GroupMemory()}),
            gangs=_sorted({name: known for name, known in self.gangs.items() if known != GangMemory()}),
        )

    def price(self, offer: Offer) -> str:
        """` ($3.67 per hour)`, or nothing when it is not known."""
        dollars = self.view.prices.get(offer)
        return "" if dollars is None else f" (${dollars:.2f} per hour)"

    def offers(self) -> Iterable[tuple[NodeGroup, Offer]]:
        """Every offer of every group."""
        return ((group, offer) for group in self.view.groups.values() for offer in group.offers)

    def _pauses(self, pod: WorkerPod) -> bool:
        gang = self.gangs.get(pod.gang) if pod.gang is not None else None
        return pod.waits and gang is not None and gang.paused_until is not None

    def _out_of_calls(self, known: PoolMemory | None, *, put: bool) -> str | None:
        settings, now = self.settings, self.now
        free = [_free_at(self.memory.next_call, settings.call_burst, settings.call_interval)]
        if put and known is not None:
            free.append(_free_at(known.next_write, settings.pool_burst, settings.pool_interval))
        late = max((when for when in free if when is not None and when > now), default=None)
        if late is None:
            return None
        self.look_at(late)
        return f"{self.view.provider} takes no more writes until {clock(late)}"


def clock(when: datetime) -> str:
    """A moment in a sentence."""
    return f"{when:%H:%M:%S} UTC"


def left_alone(pool: str, until: datetime) -> str:
    """Why a pool is not written, in a sentence."""
    return f"pool {pool} is left alone until {clock(until)}: somebody else changes it too"


def _group_of(action: PoolAction) -> str:
    return action.spec.group.name if isinstance(action, EnsurePool) else str(action.target.group)


def _paid(paid: datetime | None, now: datetime, interval: float) -> datetime:
    """A token bucket kept as the moment at which it is full again: each write moves that on by one interval."""
    return max(paid or now, now) + timedelta(seconds=interval)


def _free_at(paid: datetime | None, burst: int, interval: float) -> datetime | None:
    return None if paid is None else paid - timedelta(seconds=(burst - 1) * interval)


def _sorted(table: dict[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in sorted(table)}
