"""A pool of the cloud in memory: its machines, and the operation that runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from kairay.nodes.interface import GroupNode, Pool, PoolSpec, PoolState, Refusal


@dataclass(slots=True, kw_only=True)
class Machine:
    """One that was started; a node from `ready_at` on."""

    name: str
    ready_at: datetime
    gpus_at: datetime
    gone_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class KeptPool:
    """A pool as the cloud keeps it."""

    pool: Pool
    """As callers are shown it."""
    spec: PoolSpec | None
    """None: somebody else has made it."""
    rest_at: datetime | None = None
    fails: Refusal | None = None
    """How the running operation ends."""
    machines: list[Machine] = field(default_factory=list)
    deleted: bool = False

    def begin(self, phase: str, until: datetime) -> None:
        """An operation that runs until then."""
        self.rest_at = until
        self.pool = replace(self.pool, state=PoolState.BUSY, phase=phase)

    def end(self, version: str) -> None:
        """The running operation has ended."""
        failed, self.fails, self.rest_at = self.fails, None, None
        state, phase = (PoolState.FAILED, "Failed") if failed else (PoolState.READY, "Succeeded")
        self.pool = replace(self.pool, state=state, phase=phase, refusal=failed, version=version)

    def moments(self) -> Iterator[datetime]:
        """When something of it happens by itself, past and to come."""
        machines = [(each.ready_at, each.gpus_at, each.gone_at) for each in self.machines]
        return (when for times in [(self.rest_at,), *machines] for when in times if when is not None)

    def node(self, machine: Machine, now: datetime) -> GroupNode:
        """A machine that has joined, as Kubernetes would have it."""
        group = self.spec.group if self.spec is not None else None
        gpus = group.gpus_per_node[self.pool.offer.instance_type] if group is not None else 0
        return GroupNode(
            name=machine.name, group=group.name if group is not None else "", pool=self.pool.name,
            gpus=gpus if machine.gpus_at <= now else 0, ready=True, cordoned=False, created=machine.ready_at,
        )  # fmt: skip
