"""The last step of a pass: one sentence for each group that somebody waits for, or with which something is wrong."""

from __future__ import annotations

from datetime import datetime

from kairay.nodes.actions import EnsurePool, NodeWord, ScalePool
from kairay.nodes.draft import Draft, left_alone
from kairay.nodes.groups import pool_name
from kairay.nodes.interface import NodeGroup, Pool, RefusalKind
from kairay.nodes.offers import share_of

MOST_CHARACTERS = 700


def say(draft: Draft) -> dict[str, NodeWord]:
    """By group; groups whose pods all have their nodes are left out."""
    said = {}
    for name in sorted({*draft.view.groups, *draft.notes}):
        group = draft.view.groups.get(name)
        waiting = _waiting(draft, group) if group is not None else []
        skipped = draft.skipped.get(name) or (_instead(draft, group) if waiting and group else [])
        wrong = [*draft.notes.get(name, ()), *_disputed(draft, name)]
        parts = [*waiting, *(word.message for word in (*skipped, *wrong))]
        if parts:
            kinds = [word.refusal for word in wrong if word.refusal is not None]
            message = "; ".join(parts)[:MOST_CHARACTERS]
            said[name] = NodeWord(message=message, refusal=kinds[0] if kinds else None)
    return said


def _waiting(draft: Draft, group: NodeGroup) -> list[str]:
    """What is on its way: asked for in this pass, by the provider, or to get ready."""
    demand = draft.demand(group.name)
    if not demand.waiting:
        return []
    asked = [
        _asked(draft, action)
        for action in draft.actions
        if isinstance(action, (EnsurePool, ScalePool)) and _group(action) == group.name
    ]
    coming = [
        _coming(draft, pool)
        for _, pool in sorted(draft.ours.items())
        if pool.group == group.name and draft.coming(pool) and pool.name not in draft.written
    ]
    if asked or coming:
        return asked + coming
    known = draft.groups.get(group.name)
    if known is not None and known.settling_since is not None:
        within = f"{draft.settings.settle_limit:.0f} s"
        return [f"waiting for nodes for {_pods(len(demand.missing))}: asked for within {within}"]
    return _starting(draft, group)


def _asked(draft: Draft, action: EnsurePool | ScalePool) -> str:
    offer = action.spec.offer if isinstance(action, EnsurePool) else action.target.offer
    joined = draft.joined(action.pool)
    price = draft.price(offer)
    return (
        f"waiting for {action.count - joined} × {offer}{price}: pool {action.pool} scaling {joined}→{action.count}"
        f" (asked {draft.view.provider} now)"
    )


def _coming(draft: Draft, pool: Pool) -> str:
    joined, coming = draft.joined(pool.name), draft.coming(pool)
    known = draft.pools[pool.name]
    since = f", {_age(known.written_at, draft.now)}" if known.written_at is not None else ""
    return (
        f"waiting for {coming} × {pool.offer}{draft.price(pool.offer)}: pool {pool.name} scaling "
        f"{joined}→{joined + coming} ({draft.view.provider}: {pool.phase}{since})"
    )


def _starting(draft: Draft, group: NodeGroup) -> list[str]:
    useful = draft.demand(group.name).useful
    names = sorted(
        node.name for node in draft.alive if node.name in useful and not (node.ready and node.gpus)
    )
    if not names:
        return []
    bare = [node for node in draft.alive if node.name in names and node.ready]
    what = "the GPUs of " if len(bare) == len(names) else ""
    return [f"waiting for {what}{_nodes(names)} to get ready"]


def _instead(draft: Draft, group: NodeGroup) -> list[NodeWord]:
    """Why another offer than the first is on its way."""
    first = group.offers[0]
    name = pool_name(group.name, first)
    pool = draft.ours.get(name)
    if name in draft.written or (pool is not None and pool.group == group.name and draft.coming(pool)):
        return []
    why = share_of(draft, group, first, 1, whole=False).why
    return [] if why is None else [why]


def _disputed(draft: Draft, name: str) -> list[NodeWord]:
    said = " ".join(word.message for word in draft.notes.get(name, ()))
    pools = [(pool, known.left_until) for pool, known in sorted(draft.pools.items()) if known.group == name]
    return [
        NodeWord(message=words, refusal=RefusalKind.CONFLICT)
        for pool, until in pools
        if until is not None and (words := left_alone(pool, until)) not in said
    ]


def _group(action: EnsurePool | ScalePool) -> str:
    return action.spec.group.name if isinstance(action, EnsurePool) else str(action.target.group)


def _age(since: datetime | None, now: datetime) -> str:
    """In whole minutes: what is said goes into status, which is written when it changes."""
    minutes = 0 if since is None else int((now - since).total_seconds() // 60)
    return f"{minutes} min" if minutes else "under 1 min"


def _pods(count: int) -> str:
    return f"{count} pods" if count != 1 else "1 pod"


def _nodes(names: list[str]) -> str:
    return f"node {names[0]}" if len(names) == 1 else f"{len(names)} nodes"
