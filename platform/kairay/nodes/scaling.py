"""Nodes come for the work and leave after it: one look at what is there, and what follows from it. Pure."""

from __future__ import annotations

from datetime import datetime

from kairay.nodes.actions import NodeDecision, NodesView, PoolAction, ScalingSettings
from kairay.nodes.interface import Refusal
from kairay.nodes.remembered import Remembered


def decide_nodes(
    view: NodesView, memory: Remembered, settings: ScalingSettings, now: datetime
) -> NodeDecision:
    """What to do now, what to remember, and what to tell the Workspaces."""
    return NodeDecision(actions=(), memory=memory, words={}, again=None)


def refused(memory: Remembered, action: PoolAction, refusal: Refusal, now: datetime) -> Remembered:
    """The memory after the provider refused an action of a decision."""
    return memory
