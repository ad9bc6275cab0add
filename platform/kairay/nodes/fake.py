"""A cloud in memory, on a given clock: it keeps the contract of kairay.nodes.interface, for tests and simulations.

Operations take time: a pool is BUSY until its machines are there, and a machine joins as a node later. `advance` moves
both; nothing happens by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kairay.nodes.fake_pool import KeptPool, Machine
from kairay.nodes.interface import (
    GroupNode,
    Offer,
    Pool,
    PoolSpec,
    PoolState,
    Quota,
    Refusal,
    RefusalKind,
    RefusedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Seconds from an accepted write until it shows."""

    pool: float = 210.0
    """Until the pool is at rest again: AKS waits for its machines to become nodes."""
    join: float = 180.0
    """Until a machine is a node that is ready."""
    gpus: float = 60.0
    """From then until its device plugin advertises GPUs."""
    removal: float = 60.0
    """Until removed nodes are gone."""


class FakeProvider:
    """A cloud, with the handles that tests need.

    `calls` counts every call by its name. `refuse_next` makes calls refuse, `fail_next` makes accepted operations end
    in failure after some machines came, `capacity` limits machines of an offer, `evict` takes spot machines back,
    `put_foreign` and `change` act as others do. `joins` is told of every machine that becomes a node. `delays` may be a
    function that draws them for each operation.
    """

    def __init__(
        self, now: Callable[[], datetime], *, delays: Delays | Callable[[], Delays] | None = None,
        joins: Callable[[GroupNode], None] | None = None,
    ) -> None:  # fmt: skip
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[datetime, str, str, int]] = []
        """(when, call, pool, count) of every write that was accepted."""
        self.made: Counter[str] = Counter()
        """Machines by pool, over all its lives: no name comes twice."""
        self.mistakes: Counter[RefusalKind] = Counter()
        """Refusals that nobody ordered: what the caller should have known."""
        self.capacity: dict[Offer, int] = {}
        self.quotas: dict[Offer, Quota] = {}
        self._now, self._joins = now, joins
        self._draw = delays if callable(delays) else (lambda: delays or Delays())
        self._kept: dict[str, KeptPool] = {}
        self._refusals: list[tuple[str, Offer | None, Refusal]] = []
        self._failures: list[tuple[Offer, int, Refusal]] = []
        self._told: set[str] = set()
        self._changes = 0

    # -- the contract --------------------------------------------------------------------------------------------

    async def pools(self) -> tuple[Pool, ...]:
        """See NodeProvider."""
        self._called("pools", None)
        self.advance()
        return tuple(self._kept[name].pool for name in sorted(self._kept))

    async def ensure(self, spec: PoolSpec, count: int) -> None:
        """See NodeProvider."""
        self._called("ensure", spec.offer)
        self.advance()
        if spec.name in self._kept:
            raise self._mistake(RefusalKind.CONFLICT, f"pool {spec.name} is there already")
        pool = Pool(
            name=spec.name,
            group=spec.group.name,
            offer=spec.offer,
            count=0,
            state=PoolState.READY,
            phase="Succeeded",
            mig=spec.group.mig,
        )
        self._kept[spec.name] = KeptPool(pool=pool, spec=spec)
        self._start(spec.name, "ensure", count, "Creating")

    async def scale(self, pool: Pool, count: int) -> None:
        """See NodeProvider."""
        self._called("scale", pool.offer)
        kept = self._writable(pool)
        if kept.pool.bounds is not None:
            bounds = (kept.pool.bounds[0], max(count, kept.pool.bounds[1]))
            self._write(pool.name, "scale", count, bounds=bounds)
            return
        if count < kept.pool.count:
            raise self._mistake(RefusalKind.INVALID, f"pool {pool.name} would lose any of its nodes")
        self._start(pool.name, "scale", count, "Scaling")

    async def remove(self, pool: Pool, nodes: Iterable[str]) -> None:
        """See NodeProvider."""
        self._called("remove", pool.offer)
        kept, names = self._writable(pool), set(nodes)
        gone_at = self._now() + timedelta(seconds=self._draw().removal)
        leaving = [each for each in kept.machines if each.name in names and each.gone_at is None]
        for machine in leaving:
            machine.gone_at = gone_at
        self._write(pool.name, "remove", len(leaving), count=max(0, kept.pool.count - len(leaving)))
        kept.begin("DeletingMachines", gone_at)

    async def delete(self, pool: Pool) -> None:
        """See NodeProvider."""
        self._called("delete", pool.offer)
        self.advance()
        if pool.name not in self._kept:
            return
        kept = self._writable(pool)
        self._write(pool.name, "delete", 0)
        kept.deleted = True
        kept.begin("Deleting", self._now() + timedelta(seconds=self._draw().removal))

    async def quota(self, offers: Iterable[Offer]) -> Mapping[Offer, Quota]:
        """See NodeProvider."""
        self._called("quota", None)
        return {offer: self.quotas[offer] for offer in offers if offer in self.quotas}

    # -- what tests do -------------------------------------------------------------------------------------------

    def nodes(self) -> tuple[GroupNode, ...]:
        """Machines that have joined, as Kubernetes would have them: not ready for a moment, then without GPUs."""
        self.advance()
        return tuple(
            kept.node(machine, self._now())
            for _, kept in sorted(self._kept.items())
            for machine in kept.machines
            if machine.ready_at <= self._now()
        )

    def next_event(self) -> datetime | None:
        """When something happens by itself next."""
        moments = (when for kept in self._kept.values() for when in kept.moments())
        return min((when for when in moments if when > self._now()), default=None)

    def machines(self) -> Counter[Offer]:
        """Machines that are paid for now, joined or not."""
        self.advance()
        return Counter(kept.pool.offer for kept in self._kept.values() for _ in kept.machines)

    def refuse_next(self, call: str, refusal: Refusal, *, offer: Offer | None = None, times: int = 1) -> None:
        """The next `times` calls of that name (for the offer, or any) are refused."""
        self._refusals += [(call, offer, refusal)] * times

    def fail_next(self, offer: Offer, refusal: Refusal, *, come: int = 0) -> None:
        """The next operation that adds machines of `offer` is accepted, brings only `come`, and ends in failure."""
        self._failures.append((offer, come, refusal))

    def calm(self) -> None:
        """Forget all that was ordered to go wrong and has not yet."""
        self._refusals.clear()
        self._failures.clear()

    def put_foreign(self, pool: Pool) -> None:
        """A pool that somebody else has made."""
        self._kept[pool.name] = KeptPool(pool=pool, spec=None)

    def change(self, name: str, **changes: object) -> None:
        """Somebody else changes a pool: its count, bounds, state."""
        kept = self._kept[name]
        kept.pool = replace(kept.pool, **changes, version=self._version())  # type: ignore[arg-type]  # of Pool's own

    def lose_pool(self, name: str) -> None:
        """Somebody deletes a pool with all that is in it."""
        del self._kept[name]

    def evict(self, *names: str) -> None:
        """Machines are taken back at once; the pool's count stays as it is."""
        for kept in self._kept.values():
            kept.machines = [machine for machine in kept.machines if machine.name not in names]

    def advance(self) -> None:
        """Bring everything to the clock's time."""
        now = self._now()
        for name, kept in list(self._kept.items()):
            kept.machines = [each for each in kept.machines if each.gone_at is None or each.gone_at > now]
            if kept.rest_at is not None and kept.rest_at <= now:
                self._rest(name, kept)
            for machine in kept.machines:
                if machine.ready_at <= now and machine.name not in self._told:
                    self._told.add(machine.name)
                    if self._joins is not None:
                        self._joins(kept.node(machine, now))

    # -- how ----------------------------------------------------------------------------------------------------

    def _called(self, call: str, offer: Offer | None) -> None:
        self.calls[call] += 1
        for index, (name, only, refusal) in enumerate(self._refusals):
            if name == call and only in (None, offer):
                del self._refusals[index]
                raise RefusedError(refusal)

    def _writable(self, pool: Pool) -> KeptPool:
        self.advance()
        kept = self._kept.get(pool.name)
        if kept is None:
            raise self._mistake(RefusalKind.GONE, f"pool {pool.name} is gone")
        if kept.spec is None:
            raise self._mistake(RefusalKind.DENIED, f"pool {pool.name} is somebody else's")
        if kept.pool.state is PoolState.BUSY:
            raise self._mistake(RefusalKind.BUSY, f"pool {pool.name} is {kept.pool.phase}")
        if kept.pool.version != pool.version:
            raise self._mistake(RefusalKind.CONFLICT, f"pool {pool.name} was changed since")
        return kept

    def _start(self, name: str, call: str, count: int, phase: str) -> None:
        """An accepted write of a count: machines start, and join when their time has come."""
        kept, now, delays = self._kept[name], self._now(), self._draw()
        come, kept.fails = self._outcome(kept, count - len(kept.machines))
        ready_at = now + timedelta(seconds=delays.join)
        for _ in range(come):
            machine = f"{name}-{self.made[name]:06d}"
            gpus_at = ready_at + timedelta(seconds=delays.gpus)
            kept.machines.append(Machine(name=machine, ready_at=ready_at, gpus_at=gpus_at))
            self.made[name] += 1
        self._write(name, call, count, count=count)
        kept.begin(phase, now + timedelta(seconds=delays.pool))

    def _outcome(self, kept: KeptPool, wanted: int) -> tuple[int, Refusal | None]:
        offer = kept.pool.offer
        for index, (failing, come, refusal) in enumerate(self._failures):
            if failing == offer:
                del self._failures[index]
                return min(come, wanted), refusal
        there = sum(len(each.machines) for each in self._kept.values() if each.pool.offer == offer)
        room = self.capacity.get(offer, there + wanted) - there
        if room < wanted:
            return max(0, room), _refusal(
                RefusalKind.CAPACITY, f"the region has no more {offer}", avoid=3600.0
            )
        return max(0, wanted), None

    def _write(self, name: str, call: str, amount: int, **changes: object) -> None:
        self.change(name, refusal=None, **changes)
        self.log.append((self._now(), call, name, amount))

    def _rest(self, name: str, kept: KeptPool) -> None:
        if kept.deleted:
            del self._kept[name]
            return
        kept.end(self._version())

    def _mistake(self, kind: RefusalKind, message: str) -> RefusedError:
        self.mistakes[kind] += 1
        return RefusedError(_refusal(kind, message))

    def _version(self) -> str:
        self._changes += 1
        return str(self._changes)


def _refusal(kind: RefusalKind, message: str, *, avoid: float = 0.0) -> Refusal:
    return Refusal(kind=kind, code=kind.value, message=message, avoid_seconds=avoid)
