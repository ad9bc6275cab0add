"""What follows from a provider's refusal: an offer is avoided, growth is held, or the pool waits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from kairay.nodes.actions import DeletePool, EnsurePool, PoolAction, RemoveNodes
from kairay.nodes.interface import Offer, Quota, Refusal, RefusalKind
from kairay.nodes.remembered import Avoided, Held, PoolMemory, Remembered

_AVOIDS: Final[Mapping[RefusalKind, float]] = {
    RefusalKind.QUOTA: 600,
    RefusalKind.SPOT_QUOTA: 3600,
    RefusalKind.CAPACITY: 3600,
    RefusalKind.RESTRICTED: 82800,
    RefusalKind.CONSTRAINT: 3600,
    RefusalKind.NODE: 600,
    RefusalKind.INVALID: 600,
}
"""Another offer may do; seconds, where the refusal does not say (those of Karpenter's Azure provider)."""
_HOLDS: Final[Mapping[RefusalKind, float]] = {
    RefusalKind.REGION_QUOTA: 300,
    RefusalKind.DENIED: 120,
    RefusalKind.POLICY: 300,
    RefusalKind.NETWORK: 300,
    RefusalKind.LIMIT: 120,
}
"""No offer helps; one attempt after so many seconds finds out whether a person has."""
_WAITS: Final[Mapping[RefusalKind, float]] = {
    RefusalKind.BUSY: 10,
    RefusalKind.THROTTLED: 60,
    RefusalKind.CONFLICT: 1,
    RefusalKind.AUTOSCALED: 2,
    RefusalKind.GONE: 1,
    RefusalKind.UNAVAILABLE: 15,
}
"""The same call may do; seconds, where the refusal does not say."""
_OF_ONE_GROUP: Final = frozenset({RefusalKind.POLICY, RefusalKind.INVALID})
"""They judge what is asked for (labels, names), which differs from group to group."""
_CLEAN_UP_WAIT: Final = 60.0
_NUMBER: Final = re.compile(r"(?<=[A-Z])\d+")


def refused(memory: Remembered, action: PoolAction, refusal: Refusal, now: datetime) -> Remembered:
    """The memory after the provider refused an action of a decision: as if it was not done, and why."""
    pool = memory.pools.get(action.pool) or PoolMemory(group=_group(action))
    memory = replace(memory, pools={**memory.pools, action.pool: _not_written(pool, action)})
    if isinstance(action, RemoveNodes):
        known = {name: memory.nodes[name] for name in action.nodes if name in memory.nodes}
        back = {name: replace(node, removed_at=None) for name, node in known.items()}
        memory = replace(memory, nodes={**memory.nodes, **back})
    if isinstance(action, (RemoveNodes, DeletePool)):
        seconds = refusal.retry_after or _WAITS.get(refusal.kind, _CLEAN_UP_WAIT)
        return _waits(memory, action.pool, refusal, now + timedelta(seconds=seconds))
    return blame(memory, action.pool, _group(action), _offer(action), refusal, now)


def blame(
    memory: Remembered, pool: str, group: str, offer: Offer, refusal: Refusal, now: datetime
) -> Remembered:
    """What is remembered of a refusal to bring nodes of `offer` for `group`."""
    kind = refusal.kind
    whom = group if kind in _OF_ONE_GROUP else None
    if kind in _WAITS:
        seconds = refusal.retry_after or _WAITS[kind]
        return _waits(memory, pool, refusal, now + timedelta(seconds=seconds))
    if kind in _HOLDS:
        until = now + timedelta(seconds=max(refusal.avoid_seconds, refusal.retry_after) or _HOLDS[kind])
        held = Held(kind=kind, group=whom, until=until, message=refusal.message)
        return replace(memory, held=(*(each for each in memory.held if not _same_hold(each, held)), held))
    until = now + timedelta(seconds=refusal.avoid_seconds or _AVOIDS[kind])
    avoided = Avoided(
        kind=kind, offer=offer, group=whom, until=until, code=refusal.code, message=refusal.message
    )
    return avoid(memory, avoided)


def avoid(memory: Remembered, entry: Avoided) -> Remembered:
    """With one more offer to avoid; an earlier word on the same is replaced."""
    same = (entry.kind, entry.offer, entry.group)
    kept = (each for each in memory.avoided if (each.kind, each.offer, each.group) != same)
    return replace(memory, avoided=(*kept, entry))


def covers(entry: Avoided, offer: Offer, group: str, quotas: Mapping[Offer, Quota]) -> bool:
    """Whether `offer` is not asked for because of `entry`: itself, all of its family, or all spot."""
    if entry.group not in (None, group):
        return False
    if entry.kind is RefusalKind.SPOT_QUOTA:
        return offer.spot
    if entry.kind is RefusalKind.QUOTA:
        return offer.spot == entry.offer.spot and _one_family(offer, entry.offer, quotas)
    return offer == entry.offer


def may_pass(refusal: Refusal | None) -> bool:
    """The same pool may do when it is tried again, so that it need not go."""
    return refusal is None or refusal.kind in _WAITS


def _one_family(one: Offer, other: Offer, quotas: Mapping[Offer, Quota]) -> bool:
    """Of one quota; where that is unknown, of one name but for the number of cores."""
    known = [quotas[offer].family or quotas[offer].name for offer in (one, other) if offer in quotas]
    names = [_NUMBER.sub("", offer.instance_type, count=1) for offer in (one, other)]
    return len(set(known if len(known) == len(names) else names)) == 1


def _waits(memory: Remembered, pool: str, refusal: Refusal, until: datetime) -> Remembered:
    waiting = replace(
        memory.pools[pool], wait_until=until, wait_reason=refusal.message, wait_kind=refusal.kind
    )
    return replace(memory, pools={**memory.pools, pool: waiting})


def _not_written(known: PoolMemory, action: PoolAction) -> PoolMemory:
    if isinstance(action, EnsurePool):
        return replace(known, written=None, written_at=None)
    known = replace(known, deleted_at=None)
    bounds = action.target.bounds
    count = action.target.count if bounds is None else bounds[1]
    return replace(known, written=count, bounded=bounds is not None)


def _same_hold(one: Held, other: Held) -> bool:
    return (one.kind, one.group) == (other.kind, other.group)


def _group(action: PoolAction) -> str:
    return action.spec.group.name if isinstance(action, EnsurePool) else str(action.target.group)


def _offer(action: PoolAction) -> Offer:
    return action.spec.offer if isinstance(action, EnsurePool) else action.target.offer
