"""The steps that take nodes away: by name, closed first and looked at again, and never one that a pod could use."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from kairay.nodes.actions import CordonNode, DeletePool, RemoveNodes, UncordonNode
from kairay.nodes.draft import Draft
from kairay.nodes.interface import GroupNode, Pool, PoolState, RefusalKind
from kairay.nodes.remembered import GangMemory, NodeMemory, PoolMemory

_RETRY_CORDON = 60.0
"""A node that we closed and that is still open is closed again."""


def release_partial_sets(draft: Draft) -> None:
    """Workers that are of no use unless all are there: what came is given back when the rest does not come."""
    for gang in sorted(draft.view.gangs | set(draft.gangs)):
        known = draft.gangs.get(gang, GangMemory())
        if known.paused_until is not None:
            draft.look_at(known.paused_until)
            _say(draft, gang, f"{gang} pauses: not all of its nodes could be had at once")
            continue
        if not _partial(draft, gang):
            draft.gangs[gang] = GangMemory()
            continue
        since = known.partial_since or draft.now
        until = since + timedelta(seconds=draft.settings.gang_seconds)
        draft.gangs[gang] = replace(known, partial_since=since)
        draft.look_at(until)
        if until <= draft.now:
            _release(draft, gang)


def remove_idle(draft: Draft) -> None:
    """Nodes without work: closed in one pass, removed in a later one if they are still without work."""
    leaving: dict[str, list[str]] = {}
    for node in draft.alive:
        pool = draft.ours.get(node.pool)
        if pool is None or draft.nodes[node.name].removed_at is not None:
            continue
        if _works(draft, node):
            _reopen(draft, node)
        elif pool.bounds is None and _may_leave(draft, node):
            leaving.setdefault(pool.name, []).append(node.name)
    for name, nodes in sorted(leaving.items()):
        if draft.blocked(name, put=False) is None:
            seconds = f"{draft.settings.idle_seconds:.0f} s"
            _remove(draft, draft.ours[name], sorted(nodes), f"no work for {seconds}")


def delete_unused(draft: Draft) -> None:
    """Empty pools that nobody uses go after an hour; at the limit of pools the oldest go at once.

    One whose machines did not become nodes goes after a minute: they are paid for.
    """
    empty: list[tuple[datetime, Pool]] = []
    settings = draft.settings
    for pool in draft.ours.values():
        known = draft.pools[pool.name]
        vain = _in_vain(draft, pool)
        since = (known.empty_since or draft.now) if vain or _unused(draft, pool) else None
        draft.pools[pool.name] = replace(known, empty_since=since)
        if since is not None and known.deleted_at is None and draft.blocked(pool.name, put=False) is None:
            patience = settings.failed_seconds if vain else settings.empty_pool_seconds
            empty.append((since + timedelta(seconds=patience), pool))
    leaving = sum(draft.pools[name].deleted_at is not None for name in draft.ours)
    excess = len(draft.live) - leaving - settings.pool_limit + 1
    for index, (until, pool) in enumerate(sorted(empty, key=lambda each: (each[0], each[1].name))):
        draft.look_at(until)
        if (until <= draft.now or index < excess) and draft.blocked(pool.name, put=False) is None:
            draft.write(DeletePool(target=pool, reason="empty, and nobody uses it"))


def _works(draft: Draft, node: GroupNode) -> bool:
    """A pod of ours or of anybody but a DaemonSet is on it, or one that waits could use it."""
    if node.name in draft.view.in_use or node.name in draft.demand(node.group).useful:
        return True
    holding = draft.holding.get(node.name, ())
    # The kubelet of a machine that is gone never ends its pods.
    return any(not (pod.going and not node.ready and node.trouble) for pod in holding)


def _reopen(draft: Draft, node: GroupNode) -> None:
    known = draft.nodes[node.name]
    if known.closed_at is not None and node.trouble is None:
        draft.actions.append(UncordonNode(node=node.name, reason=f"there is work for {node.name} again"))
        known = replace(known, closed_at=None)
    draft.nodes[node.name] = replace(known, idle_since=None)


def _may_leave(draft: Draft, node: GroupNode) -> bool:
    """Whether an idle node was closed in an earlier pass; if it is time, close it."""
    known = draft.nodes[node.name]
    since = known.idle_since or draft.now
    until = since if node.trouble else since + timedelta(seconds=draft.settings.idle_seconds)
    known = replace(known, idle_since=since)
    if until > draft.now:
        draft.look_at(until)
    elif not node.cordoned:
        known = _close(draft, node, known)
    draft.nodes[node.name] = known
    if until > draft.now or not node.cordoned:
        return False
    again = max(known.closed_at or since, since) + timedelta(seconds=draft.settings.look_again_seconds)
    draft.look_at(again)
    return again <= draft.now


def _close(draft: Draft, node: GroupNode, known: NodeMemory) -> NodeMemory:
    if known.closed_at is not None and draft.now - known.closed_at < timedelta(seconds=_RETRY_CORDON):
        draft.look_in(draft.settings.look_again_seconds)
        return known
    reason = node.trouble or f"no work since {known.idle_since:%H:%M:%S} UTC"
    draft.actions.append(CordonNode(node=node.name, reason=reason))
    draft.look_in(draft.settings.look_again_seconds)
    return replace(known, closed_at=draft.now)


def _remove(draft: Draft, pool: Pool, nodes: list[str], reason: str) -> None:
    draft.write(RemoveNodes(target=pool, nodes=tuple(nodes), reason=reason))
    for name in nodes:
        draft.nodes[name] = replace(draft.nodes[name], removed_at=draft.now)


def _unused(draft: Draft, pool: Pool) -> bool:
    if any(node.pool == pool.name for node in draft.view.nodes) or pool.name in draft.written:
        return False
    known = draft.pools.get(pool.name, PoolMemory(group=str(pool.group)))
    if draft.coming(pool) and known.left_until is None:
        return False
    return not any(pod.group == pool.group and (pod.waits or pod.holds) for pod in draft.view.pods)


def _in_vain(draft: Draft, pool: Pool) -> bool:
    """At rest with nothing but machines that have not become nodes, and nobody has asked for it again."""
    if not draft.pools[pool.name].absent or pool.state is not PoolState.READY or pool.bounds is not None:
        return False
    vacant = not any(node.pool == pool.name for node in draft.view.nodes)
    return vacant and pool.count > 0 and not draft.coming(pool) and pool.name not in draft.written


def _members(draft: Draft, gang: str) -> set[str]:
    return {pod.key for pod in draft.view.pods if pod.gang == gang}


def _partial(draft: Draft, gang: str) -> bool:
    """Some of the set have a node, some neither have one nor will."""
    members = _members(draft, gang)
    groups = {pod.group for pod in draft.view.pods if pod.key in members}
    missing = any(pod.key in members for group in groups for pod in draft.demand(group).missing)
    return missing and any(pod.holds for pod in draft.view.pods if pod.key in members)


def _release(draft: Draft, gang: str) -> None:
    """Remove the nodes that carry only pods of this set, and ask for it again later."""
    members, by_pool = _members(draft, gang), dict[str, list[str]]()
    for node in draft.alive:
        holding = {pod.key for pod in draft.holding.get(node.name, ())}
        if holding and holding <= members and node.name not in draft.view.in_use:
            by_pool.setdefault(node.pool, []).append(node.name)
    ours = {name: nodes for name, nodes in by_pool.items() if name in draft.ours}
    if any(draft.blocked(name, put=False) for name in ours):
        return
    for name, nodes in sorted(ours.items()):
        if draft.ours[name].bounds is None:
            reason = f"the rest of {gang} did not come in {draft.settings.gang_seconds / 60:.0f} min"
            _remove(draft, draft.ours[name], sorted(nodes), reason)
    until = draft.now + timedelta(seconds=draft.settings.gang_pause_seconds)
    draft.gangs[gang] = GangMemory(paused_until=until)
    draft.count_again()


def _say(draft: Draft, gang: str, sentence: str) -> None:
    for group in sorted({pod.group for pod in draft.view.pods if pod.gang == gang}):
        draft.note(group, sentence, RefusalKind.CAPACITY)
