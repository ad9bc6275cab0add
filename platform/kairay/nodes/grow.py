"""The step that brings nodes: pods without a place, offers in their order, one write for all that came together."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kairay.nodes.actions import EnsurePool, ScalePool
from kairay.nodes.demand import WorkerPod, fill, nodes_for
from kairay.nodes.draft import Draft, clock
from kairay.nodes.groups import pool_name
from kairay.nodes.interface import NodeGroup, Offer, PoolSpec, RefusalKind
from kairay.nodes.offers import share_of
from kairay.nodes.recover import uncut
from kairay.nodes.remembered import GroupMemory


def grow(draft: Draft) -> None:
    """For every group with pods that find no place, those that wait longest first."""
    missing = {name: draft.demand(name).missing for name in draft.view.groups}
    oldest = {name: min(pod.created for pod in pods) for name, pods in missing.items() if pods}
    for name in sorted(draft.view.groups, key=lambda name: (name not in oldest, oldest.get(name), name)):
        if not _settled(draft, name, missing[name]):
            continue
        if not missing[name] or _held(draft, name):
            continue
        group = draft.view.groups[name]
        if (why_not := uncut(draft, group)) is not None:
            draft.note(name, why_not, RefusalKind.NODE)
        else:
            _bring(draft, group, missing[name])


def _settled(draft: Draft, name: str, missing: tuple[WorkerPod, ...]) -> bool:
    """Whether no newer pod has come for a moment, so that what was applied together is one write."""
    known, now, settings = draft.groups.get(name, GroupMemory()), draft.now, draft.settings
    if not missing and not known.seen:
        return True
    seen = tuple(sorted(pod.key for pod in missing))
    newest = now if set(seen) - set(known.seen) else known.newest
    since = known.settling_since or now
    quiet = newest is None or now - newest >= timedelta(seconds=settings.settle_seconds)
    if newest is None or not seen or quiet or now - since >= timedelta(seconds=settings.settle_limit):
        draft.groups[name] = replace(known, settling_since=None, newest=None, seen=seen)
        return True
    draft.groups[name] = replace(known, settling_since=since, newest=newest, seen=seen)
    draft.look_at(newest + timedelta(seconds=settings.settle_seconds))
    draft.look_at(since + timedelta(seconds=settings.settle_limit))
    return False


def _held(draft: Draft, name: str) -> bool:
    held = [
        each
        for each in draft.memory.held
        if each.group in (None, name) and each.kind is not RefusalKind.LIMIT
    ]
    for each in held:
        draft.note(name, f"{each.message}; tried again at {clock(each.until)}", each.kind)
        draft.look_at(each.until)
    return bool(held)


def _bring(draft: Draft, group: NodeGroup, missing: tuple[WorkerPod, ...]) -> None:
    gang = any(pod.gang in draft.view.gangs for pod in missing)
    for offer in group.offers:
        count, larger = nodes_for(missing, group.gpus_per_node.get(offer.instance_type, 0))
        if not count:
            continue
        share = share_of(draft, group, offer, count, whole=gang)
        if share.why is not None:
            draft.skipped.setdefault(group.name, []).append(share.why)
            continue
        if not _ask(draft, group, offer, share.count):
            return
        missing = larger if share.count == count else _left(missing, group, offer, share.count)
        if not missing:
            return
    _explain(draft, group, missing)


def _ask(draft: Draft, group: NodeGroup, offer: Offer, count: int) -> bool:
    """One write for `count` more nodes; False when it has to wait."""
    name = pool_name(group.name, offer)
    live, known = draft.ours.get(name), draft.pools.get(name)
    if live is None and known is not None and draft.believed(name):
        draft.look_in(draft.settings.settle_limit)
        return False  # It was asked for a moment ago and is not listed yet.
    why_not = draft.blocked(name)
    if why_not is None and live is not None and live.bounds is not None:
        return _raise(draft, group, offer, count)
    if why_not is not None:
        draft.note(group.name, f"{count} × {offer} wanted: {why_not}", known.wait_kind if known else None)
        return False
    _take(draft, offer, count)
    reason = f"{count} × {offer}{draft.price(offer)} for pods that wait"
    if live is None:
        draft.write(
            EnsurePool(spec=PoolSpec(name=name, group=group, offer=offer), count=count, reason=reason)
        )
    else:
        target = max(live.count, draft.joined(name) + draft.coming(live) + count)
        draft.write(ScalePool(target=live, count=target, reason=reason))
    return True


def _raise(draft: Draft, group: NodeGroup, offer: Offer, count: int) -> bool:
    """Another autoscaler decides the count: only its upper bound is ours."""
    live = draft.ours[pool_name(group.name, offer)]
    assert live.bounds is not None
    wanted = draft.joined(live.name) + draft.coming(live) + count
    if wanted > live.bounds[1]:
        reason = f"room for {wanted} nodes in pool {live.name}, whose autoscaler decides"
        draft.write(ScalePool(target=live, count=wanted, reason=reason))
    draft.note(group.name, f"{count} × {offer} wanted: the autoscaler of pool {live.name} decides when")
    return True


def _take(draft: Draft, offer: Offer, count: int) -> None:
    if (quota := draft.view.quotas.get(offer)) is not None:
        draft.taken[quota.name] = draft.taken.get(quota.name, 0) + count * quota.per_node


def _left(
    missing: tuple[WorkerPod, ...], group: NodeGroup, offer: Offer, count: int
) -> tuple[WorkerPod, ...]:
    return fill(missing, group.gpus_per_node[offer.instance_type], count)


def _explain(draft: Draft, group: NodeGroup, missing: tuple[WorkerPod, ...]) -> None:
    """Why pods get no nodes at all, and what would help."""
    most = max((group.gpus_per_node.get(offer.instance_type, 0) for offer in group.offers), default=0)
    large = next((pod for pod in missing if pod.gpus > most), None)
    if large is not None:
        words = f"pod {large.name} asks for {large.gpus} GPUs and no size here has more than {most}"
        draft.note(group.name, words, RefusalKind.CONSTRAINT)
        return
    others = draft.view.suggestions.get(group.name, ())
    possible = [offer for offer in others if share_of(draft, group, offer, 1, whole=False).why is None]
    advice = (
        f"{possible[0]} would do{draft.price(possible[0])}"
        if possible
        else "ask for more quota or allow another size"
    )
    last = draft.skipped[group.name][-1] if draft.skipped.get(group.name) else None
    kind = last.refusal if last is not None else RefusalKind.INVALID
    draft.note(group.name, f"none of its sizes can be had: {advice}", kind)
