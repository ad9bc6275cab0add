"""Nodes come for the work and leave after it: one look at what is there, and what follows from it. Pure.

A pass is a list of steps over one draft; each looks at its own condition and adds to what is decided. Nothing waits
for an operation to end: the next look sees how far it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from kairay.nodes.actions import NodeDecision, NodesView, ScalingSettings
from kairay.nodes.draft import Draft
from kairay.nodes.grow import grow
from kairay.nodes.look import forget, look_at_failures, look_at_nodes, look_at_pools
from kairay.nodes.recover import close_troubled, delete_failed, replace_bare
from kairay.nodes.refusals import refused
from kairay.nodes.remembered import Remembered
from kairay.nodes.sentences import say
from kairay.nodes.shrink import delete_unused, release_partial_sets, remove_idle

__all__ = ["decide_nodes", "refused"]

STEPS: Final[tuple[Callable[[Draft], None], ...]] = (
    forget,
    look_at_nodes,
    look_at_pools,
    look_at_failures,
    release_partial_sets,
    delete_failed,
    close_troubled,
    replace_bare,
    grow,
    remove_idle,
    delete_unused,
)


def decide_nodes(
    view: NodesView, memory: Remembered, settings: ScalingSettings, now: datetime
) -> NodeDecision:
    """What to do now, what to remember, and what to tell the Workspaces.

    Keep the memory before doing the actions; when the provider refuses one, go on with `refused(memory, ...)`.
    """
    draft = Draft(view, memory, settings, now)
    for step in STEPS:
        step(draft)
    words = say(draft)
    return NodeDecision(
        actions=tuple(draft.actions), memory=draft.remembered(), words=words, again=draft.again
    )
