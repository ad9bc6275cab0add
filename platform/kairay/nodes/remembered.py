"""What scaling remembers from one pass to the next: one frozen value that survives a restart as JSON.

All of it is about time and blame, which no object of Kubernetes or Azure tells. Losing it costs repeated
attempts and longer waits, never a node too many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from kairay.errors import InputError
from kairay.nodes.interface import Offer, RefusalKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoided:
    """An offer that is not asked for; how much more than it is meant depends on the kind."""

    kind: RefusalKind
    offer: Offer
    group: str | None
    """Only for this group; None: for all."""
    until: datetime
    code: str
    """The provider's own word."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Nothing grows: no other size would help."""

    kind: RefusalKind
    group: str | None
    """Only this group; None: all."""
    until: datetime
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMemory:
    """One pool."""

    group: str
    written: int | None = None
    """Count (or upper bound) that we set last."""
    written_at: datetime | None = None
    next_write: datetime | None = None
    """Of the token bucket: the moment by which all writes so far are paid for."""
    wait_until: datetime | None = None
    """Before this the provider does not want to be asked."""
    wait_reason: str = ""
    wait_kind: RefusalKind | None = None
    removed: int = 0
    """Nodes of our last removal; the provider may go on counting those that were gone already."""
    lost: int = 0
    """Nodes that were there and are not, which the provider may still count."""
    short_since: datetime | None = None
    """At rest with fewer nodes than its count."""
    absent: bool = False
    """Machines that were to come have not become nodes; they may be paid for all the same."""
    empty_since: datetime | None = None
    changed: tuple[datetime, ...] = ()
    """When somebody else set another count."""
    bounded: bool = False
    """`written` is an upper bound."""
    left_until: datetime | None = None
    """Left alone: somebody else changes it again and again."""
    failure: str = ""
    """Version of the failed pool whose refusal is noted."""
    failed_since: datetime | None = None
    deleted_at: datetime | None = None
    """When we asked to delete it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMemory:
    """One node."""

    pool: str
    group: str
    spot: bool = False
    idle_since: datetime | None = None
    closed_at: datetime | None = None
    """When we cordoned it."""
    removed_at: datetime | None = None
    """When we asked to remove it."""
    bare_since: datetime | None = None
    """Ready without GPUs."""
    unready_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMemory:
    """One group."""

    settling_since: datetime | None = None
    newest: datetime | None = None
    """When the last of `seen` came."""
    seen: tuple[str, ...] = ()
    """Pods without a place at the last look, sorted."""
    evictions: tuple[datetime, ...] = ()
    replaced_at: datetime | None = None
    """When a node that got no GPUs was replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GangMemory:
    """One Workspace whose workers are of no use unless all are there."""

    partial_since: datetime | None = None
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """All that scaling remembers."""

    avoided: tuple[Avoided, ...] = ()
    held: tuple[Held, ...] = ()
    pools: Mapping[str, PoolMemory] = field(default_factory=dict)
    nodes: Mapping[str, NodeMemory] = field(default_factory=dict)
    groups: Mapping[str, GroupMemory] = field(default_factory=dict)
    gangs: Mapping[str, GangMemory] = field(default_factory=dict)
    next_call: datetime | None = None
    """Of the subscription's token bucket."""

    def to_json(self) -> str:
        """For a ConfigMap; same value, same bytes."""
        return _ADAPTER.dump_json(self, exclude_defaults=True).decode()

    @classmethod
    def from_json(cls, text: str) -> Remembered:
        """InputError: this is not what `to_json` wrote; starting with an empty memory is safe."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"the memory of node scaling cannot be read at {where}: {first['msg']}"
            ) from error


_ADAPTER = TypeAdapter(Remembered)
