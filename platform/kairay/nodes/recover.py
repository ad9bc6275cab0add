"""The step for what goes wrong after a node was asked for: failed pools, nodes in trouble, GPUs that do not come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kairay.nodes.actions import CordonNode, DeletePool, RemoveNodes
from kairay.nodes.draft import Draft
from kairay.nodes.interface import GroupNode, NodeGroup, PoolState, RefusalKind
from kairay.nodes.refusals import may_pass
from kairay.nodes.remembered import GroupMemory


def delete_failed(draft: Draft) -> None:
    """A failed pool without nodes goes, so that nothing of it is billed later; it is made again when it is wanted."""
    for pool in draft.ours.values():
        if pool.state is not PoolState.FAILED or draft.believed(pool.name) or pool.bounds is not None:
            continue
        if any(node.pool == pool.name for node in draft.view.nodes):
            continue
        until = (draft.pools[pool.name].failed_since or draft.now) + timedelta(
            seconds=draft.settings.failed_seconds
        )
        draft.look_at(until)
        wanted = bool(draft.demand(str(pool.group)).missing)
        if until > draft.now or (wanted and may_pass(pool.refusal)) or draft.blocked(pool.name, put=False):
            continue
        draft.write(DeletePool(target=pool, reason=f"pool {pool.name} failed and is empty"))


def close_troubled(draft: Draft) -> None:
    """A node whose GPU or machine is going gets no new pods; it leaves when its last pod has."""
    for node in draft.alive:
        known = draft.nodes[node.name]
        if node.trouble is None or node.cordoned or known.closed_at is not None:
            continue
        draft.actions.append(CordonNode(node=node.name, reason=node.trouble))
        draft.nodes[node.name] = replace(known, closed_at=draft.now)


def replace_bare(draft: Draft) -> None:
    """A node that is ready and gets no GPUs: say why, and try once with another."""
    bare = {node.group for node in draft.alive if not node.gpus}
    for group in {node.group for node in draft.alive} - bare:
        _forget_replacement(draft, group)
    for node in draft.alive:
        since = draft.nodes[node.name].bare_since
        if since is None:
            continue
        until = since + timedelta(seconds=draft.settings.gpu_seconds)
        draft.look_at(until)
        if until <= draft.now:
            _replace(draft, node)


def uncut(draft: Draft, group: NodeGroup) -> str | None:
    """Why more nodes are of no use: one of slices advertises fewer of them than its GPUs were cut into."""
    if group.mig is None:
        return None
    for node in draft.alive:
        pool = draft.ours.get(node.pool) if node.group == group.name and node.ready else None
        slices = group.gpus_per_node.get(pool.offer.instance_type, 0) if pool is not None else 0
        if 0 < node.gpus < slices:
            return (
                f"node {node.name} advertises {node.gpus} nvidia.com/gpu and its GPUs were cut into {slices} slices;"
                " no more nodes are asked for; set the strategy `single` in NVIDIA's device plugin (migStrategy)"
            )
    return None


def _replace(draft: Draft, node: GroupNode) -> None:
    minutes = f"{draft.settings.gpu_seconds / 60:.0f} min"
    causes = (
        "no NVIDIA device plugin DaemonSet, one that does not tolerate the node's taints, or a pool without GPU driver"
        " (kairay doctor says which)"
    )
    draft.note(
        node.group,
        f"node {node.name} is ready and has no GPUs after {minutes}; likely: {causes}",
        RefusalKind.NODE,
    )
    pool, known = draft.ours.get(node.pool), draft.groups.get(node.group, GroupMemory())
    if pool is None or pool.bounds is not None or known.replaced_at is not None:
        return
    if node.name in draft.demand(node.group).held or draft.blocked(pool.name, put=False):
        return
    reason = f"{node.name} got no GPUs in {minutes}; another is tried once"
    draft.write(RemoveNodes(target=pool, nodes=(node.name,), reason=reason))
    draft.nodes[node.name] = replace(draft.nodes[node.name], removed_at=draft.now)
    draft.groups[node.group] = replace(known, replaced_at=draft.now)


def _forget_replacement(draft: Draft, group: str) -> None:
    known = draft.groups.get(group)
    if known is not None and known.replaced_at is not None:
        draft.groups[group] = replace(known, replaced_at=None)
