"""Whether an offer can be asked for now, and for how many nodes: what is avoided, names, limits, quotas. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from kairay.nodes.actions import NodeWord
from kairay.nodes.draft import Draft, clock
from kairay.nodes.groups import pool_name
from kairay.nodes.interface import NodeGroup, Offer, RefusalKind
from kairay.nodes.refusals import covers


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of the nodes that are wanted an offer may bring."""

    count: int = 0
    why: NodeWord | None = None
    """Not one."""


def share_of(draft: Draft, group: NodeGroup, offer: Offer, count: int, *, whole: bool) -> Share:
    """What may be asked of `offer` now; `whole`: all of `count` or nothing."""
    for entry in draft.memory.avoided:
        if covers(entry, offer, group.name, draft.view.quotas):
            draft.look_at(entry.until)
            return _no(f"no {offer} until {clock(entry.until)}: {entry.message}", entry.kind)
    if (taken := _taken_name(draft, group, offer)) is not None:
        return Share(why=taken)
    quota = draft.view.quotas.get(offer)
    if quota is None:
        return Share(count=count)
    if quota.restriction:
        return _no(f"no {offer}: {quota.restriction}", RefusalKind.RESTRICTED)
    free = quota.limit - quota.used - draft.taken.get(quota.name, 0)
    room = max(0, free) // max(1, quota.per_node)
    if not room or (whole and room < count):
        used = f"{quota.used} of {quota.limit} {quota.unit} used, {count} × {quota.per_node} more needed"
        kind = RefusalKind.SPOT_QUOTA if offer.spot else RefusalKind.QUOTA
        return _no(f"no {offer}: quota {quota.name} has {used}", kind)
    return Share(count=min(room, count))


def _no(sentence: str, kind: RefusalKind) -> Share:
    return Share(why=NodeWord(message=sentence, refusal=kind))


def _taken_name(draft: Draft, group: NodeGroup, offer: Offer) -> NodeWord | None:
    """Why the pool of an offer cannot be ours, or cannot be made."""
    name = pool_name(group.name, offer)
    live = draft.live.get(name)
    if live is None:
        return _no_more_pools(draft, name, offer)
    if live.group == group.name and live.offer == offer and live.mig == group.mig:
        return None
    if live.group == group.name and live.offer == offer:
        words = (
            f"no pool for {offer}: {name} is there with {_gpus(live.mig)} and {_gpus(group.mig)} are wanted, which"
            " cannot be changed; delete the pool when it is empty, it is made anew"
        )
        return NodeWord(message=words, refusal=RefusalKind.CONFLICT)
    whose = f"belongs to {live.group}" if live.group else "is somebody else's"
    message = f"no pool for {offer}: {name} is there and {whose} ({live.offer}); it is not touched"
    return NodeWord(message=message, refusal=RefusalKind.CONFLICT)


def _gpus(mig: str | None) -> str:
    return "whole GPUs" if mig is None else f"MIG slices of {mig}"


def _no_more_pools(draft: Draft, name: str, offer: Offer) -> NodeWord | None:
    refused = next((each for each in draft.memory.held if each.kind is RefusalKind.LIMIT), None)
    if refused is not None:
        draft.look_at(refused.until)
        words = f"no pool for {offer} until {clock(refused.until)}: {refused.message}"
        return NodeWord(message=words, refusal=RefusalKind.LIMIT)
    count = len(draft.live.keys() | {each for each in draft.pools if draft.believed(each)} - {name})
    if count < draft.settings.pool_limit:
        return None
    limit = f"the cluster has {count} pools, the limit is {draft.settings.pool_limit}"
    return NodeWord(message=f"no pool for {offer}: {limit}", refusal=RefusalKind.LIMIT)
