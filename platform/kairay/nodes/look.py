"""First steps of a pass: what has changed since the last one, and what of the past no longer counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from kairay.nodes.draft import Draft, clock
from kairay.nodes.interface import GroupNode, Pool, PoolState, Refusal, RefusalKind
from kairay.nodes.refusals import avoid
from kairay.nodes.remembered import Avoided, GroupMemory, NodeMemory, PoolMemory

_REMOVAL_SECONDS = 600.0
"""A node that is still there so long after its removal was accepted is looked at again."""


def forget(draft: Draft) -> None:
    """Drop what has expired, so that an unchanged world leaves an unchanged memory."""
    now = draft.now
    draft.memory = replace(
        draft.memory,
        avoided=tuple(each for each in draft.memory.avoided if each.until > now),
        held=tuple(each for each in draft.memory.held if each.until > now),
        next_call=_later(draft.memory.next_call, now),
    )
    for name, pool in draft.pools.items():
        draft.pools[name] = _without_past(draft, pool)
    for name, group in draft.groups.items():
        if group.evictions:
            recent = _recent(group.evictions, now, draft.settings.eviction_window)
            draft.groups[name] = replace(group, evictions=recent)
    for name, gang in draft.gangs.items():
        draft.gangs[name] = replace(gang, paused_until=_later(gang.paused_until, now))


def look_at_nodes(draft: Draft) -> None:
    """Which nodes stay, which came, which went: those that we did not remove are lost."""
    there = {node.name for node in draft.view.nodes}
    for name in [name for name in draft.nodes if name not in there]:
        gone = draft.nodes.pop(name)
        if gone.removed_at is None:
            _lose(draft, gone)
    for node in draft.view.nodes:
        draft.nodes[node.name] = _seen(draft, node)
    staying = (node for node in draft.view.nodes if draft.nodes[node.name].removed_at is None)
    draft.stay(_given_up(draft, node) for node in list(staying))
    for name, group in draft.groups.items():
        if len(group.evictions) >= draft.settings.evictions:
            _use_on_demand(draft, name, group)


def look_at_pools(draft: Draft) -> None:
    """Which pools are ours, whether somebody else changes them, and whether they keep what they promise."""
    for name in [name for name in draft.pools if name not in draft.live]:
        known = draft.pools[name]
        # What a refused or deleted pool has still to wait for outlives it.
        if not draft.believed(name):
            draft.pools[name] = PoolMemory(
                group=known.group, next_write=known.next_write, left_until=known.left_until,
                wait_until=known.wait_until, wait_reason=known.wait_reason, wait_kind=known.wait_kind,
            )  # fmt: skip
        if draft.pools[name] == PoolMemory(group=known.group):
            del draft.pools[name]
    for pool in draft.ours.values():
        known = draft.pools.get(pool.name) or PoolMemory(group=str(pool.group))
        draft.pools[pool.name] = known
        if pool.state is PoolState.READY and not draft.believed(pool.name):
            draft.pools[pool.name] = _compared(draft, pool, known)
            _await_missing(draft, pool)


def look_at_failures(draft: Draft) -> None:
    """A pool whose last operation failed: its refusal counts once, as a refused call's would."""
    for pool in draft.ours.values():
        known = draft.pools[pool.name]
        if pool.state is PoolState.READY and not draft.believed(pool.name):
            draft.pools[pool.name] = known = replace(known, deleted_at=None)
        if pool.state is not PoolState.FAILED:
            draft.pools[pool.name] = replace(known, failure="", failed_since=None)
        if pool.state is not PoolState.FAILED or draft.believed(pool.name):
            continue
        mark = pool.version or f"{pool.phase} {pool.count}"
        refusal = pool.refusal or _unexplained(draft, pool)
        if known.failure != mark:
            draft.pools[pool.name] = replace(
                known, failure=mark, failed_since=known.failed_since or draft.now
            )
            draft.blame(pool, refusal)


def _without_past(draft: Draft, pool: PoolMemory) -> PoolMemory:
    now, waits = draft.now, _later(pool.wait_until, draft.now)
    if (pool.next_write, pool.left_until, pool.wait_until, pool.changed) == (None, None, None, ()):
        return pool
    return replace(
        pool, next_write=_later(pool.next_write, now), left_until=_later(pool.left_until, now),
        wait_until=waits, wait_reason=pool.wait_reason if waits else "", wait_kind=pool.wait_kind if waits else None,
        changed=_recent(pool.changed, now, draft.settings.change_window),
    )  # fmt: skip


def _unexplained(draft: Draft, pool: Pool) -> Refusal:
    words = f"pool {pool.name}: {draft.view.provider} says {pool.phase} and not why"
    return Refusal(kind=RefusalKind.UNAVAILABLE, code=pool.phase, message=words)


def _seen(draft: Draft, node: GroupNode) -> NodeMemory:
    pool = draft.live.get(node.pool)
    spot = pool.offer.spot if pool is not None else False
    fresh = NodeMemory(pool=node.pool, group=node.group, spot=spot)
    known = draft.nodes.get(node.name, fresh)
    if any(when is not None and when < node.created for when in (known.closed_at, known.removed_at)):
        known = fresh  # Another machine by the same name.
    bare = node.ready and node.gpus == 0 and node.trouble is None
    stuck = known.removed_at is not None and draft.now - known.removed_at > timedelta(
        seconds=_REMOVAL_SECONDS
    )
    return replace(
        known,
        bare_since=(known.bare_since or draft.now) if bare else None,
        unready_since=None if node.ready else known.unready_since or draft.now,
        removed_at=None if stuck else known.removed_at,
    )


def _given_up(draft: Draft, node: GroupNode) -> GroupNode:
    """The node, with our own word of trouble when it has not been ready for too long."""
    since = draft.nodes[node.name].unready_since
    if since is None or node.trouble is not None:
        return node
    until = since + timedelta(seconds=draft.settings.not_ready_seconds)
    draft.look_at(until)
    if until > draft.now:
        return node
    return replace(node, trouble=f"node {node.name} is not ready since {clock(since)}")


def _lose(draft: Draft, gone: NodeMemory) -> None:
    pool = draft.pools.get(gone.pool)
    if pool is not None:
        draft.pools[gone.pool] = replace(pool, lost=pool.lost + 1)
    if gone.spot:
        group = draft.groups.get(gone.group, GroupMemory())
        draft.groups[gone.group] = replace(group, evictions=(*group.evictions, draft.now))


def _use_on_demand(draft: Draft, name: str, known: GroupMemory) -> None:
    group, seconds = draft.view.groups.get(name), draft.settings.on_demand_seconds
    offer = next((offer for offer in group.offers if offer.spot), None) if group else None
    if offer is None:
        return
    until = draft.now + timedelta(seconds=seconds)
    words = f"{len(known.evictions)} spot nodes were taken back in {_minutes(draft.settings.eviction_window)}"
    entry = Avoided(
        kind=RefusalKind.SPOT_QUOTA, offer=offer, group=name, until=until, code="SpotEvicted",
        message=f"{words}: on demand until {clock(until)}",
    )  # fmt: skip
    draft.memory = avoid(draft.memory, entry)
    draft.groups[name] = replace(known, evictions=())


def _compared(draft: Draft, pool: Pool, known: PoolMemory) -> PoolMemory:
    """The pool's memory after a look at whether it is as we left it."""
    bounded = pool.bounds is not None
    count = pool.count if pool.bounds is None else pool.bounds[1]
    gone = known.lost + _counted(known, count)
    lost = min(gone, max(0, pool.count - draft.joined(pool.name)))
    settled = replace(known, written=count, bounded=bounded, lost=lost, removed=0)
    if known.written is None or known.bounded is not bounded or count == known.written:
        return settled
    lowered = known.written - known.lost <= count < known.written
    if not bounded and (lowered or _counted(known, count)):
        return settled  # The provider has counted lost nodes, or has not counted removed ones.
    changed = (*known.changed, draft.now)
    if len(changed) < draft.settings.changes:
        return replace(settled, changed=changed)
    until = draft.now + timedelta(seconds=draft.settings.change_window)
    return replace(settled, changed=(), left_until=until)


def _counted(known: PoolMemory, count: int) -> int:
    """Removed nodes that the provider still counts: they were gone before it could remove them."""
    more = count - known.written if known.written is not None else 0
    return more if 0 < more <= known.removed else 0


def _await_missing(draft: Draft, pool: Pool) -> None:
    """Nodes that a pool at rest has not brought in time do not come."""
    known, short = draft.pools[pool.name], draft.coming(pool)
    if not short or pool.bounds is not None:
        draft.pools[pool.name] = replace(known, short_since=None)
        return
    since = known.short_since or draft.now
    until = since + timedelta(seconds=draft.settings.start_seconds)
    draft.look_at(until)
    if until > draft.now:
        draft.pools[pool.name] = replace(known, short_since=since)
        return
    draft.pools[pool.name] = replace(known, short_since=None, lost=known.lost + short, absent=True)
    minutes = _minutes(draft.settings.start_seconds)
    words = f"{short} of {pool.count} nodes of pool {pool.name} did not join within {minutes}"
    draft.blame(pool, Refusal(kind=RefusalKind.NODE, code="NodeDidNotJoin", message=words))


def _later(when: datetime | None, now: datetime) -> datetime | None:
    return when if when is not None and when > now else None


def _recent(times: tuple[datetime, ...], now: datetime, seconds: float) -> tuple[datetime, ...]:
    return tuple(when for when in times if now - when < timedelta(seconds=seconds))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"
