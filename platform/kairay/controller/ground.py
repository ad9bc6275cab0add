"""What a Workspace stands on: the plan of this pass, or what an earlier one has drawn. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from kairay.controller.blueprint import (
    Blueprint,
    draw_blueprint,
    nodes_condition,
    nodes_of,
    pinned_size,
    resource_condition,
)
from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.drawn_for import find_drawn_for, wish_of
from kairay.controller.groups import NodeWish
from kairay.controller.observed import Observed
from kairay.controller.settings import Settings
from kairay.controller.told import kept_status, plan_status
from kairay.errors import InputError, KairayError, TransientError
from kairay.nodes.actions import NodeWord
from kairay.nodes.interface import RefusalKind
from kairay.plan_config import refused_config
from kairay.plan_wishes import Wishes
from kairay.skus import Sku
from kairay.workspace import LabelSelector, Workspace

_REFUSALS: Final = frozenset(RefusalKind)
_KEPT: Final = "kept as it was planned; planned anew "
_MOST_REASONS: Final = 20
TRIED_AGAIN: Final = "Kairay tries again by itself, and what runs goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all Workspaces share."""

    settings: Settings
    skus: Mapping[str, Sku]
    controller_namespace: str
    words: Mapping[str, NodeWord] = field(default_factory=dict)
    """By group of nodes: what its Workspaces wait for."""
    heard: frozenset[str] | None = None
    """Groups that the keeper of nodes has looked at since this process began; None: all."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What status says of nodes and of the plan."""

    resources: Condition
    told: Mapping[str, Any]
    """`status.plan` and the nodes."""
    wish: NodeWish | None = None
    """Nodes that Kairay is to bring."""
    note: str = ""
    """To be read after the status' message; empty: nothing more is to be said."""

    @property
    def lacks_nodes(self) -> bool:
        """And the note does not say so already."""
        return not self.resources.status and self.resources.message not in self.note

    def after(self, message: str) -> str:
        """The status' message."""
        return f"{message}; {self.note}" if self.note else message


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Why nothing is drawn anew, so that what is there is followed."""

    reason: str
    words: str
    """What has to be done, or is waited for."""
    instead: str = ""
    """What would become of it if it was planned today; empty: nobody knows."""
    denied: bool = False
    """A rule of the cluster does not let it be as it was decided."""

    def on(self, ground: Ground) -> Ground:
        """What status says of nodes and plan, with this added."""
        if self.instead:
            return ground
        note = f"{self.words}; {TRIED_AGAIN}"
        return replace(ground, note=note, resources=self.resources if self.denied else ground.resources)

    @property
    def resources(self) -> Condition:
        """ResourceReady of what a rule denies."""
        return Condition(type=Type.RESOURCE_READY, status=False, reason=self.reason, message=self.words)


def would_be(instead: str) -> Halt:
    """Of what today's plan would refuse or move."""
    return Halt(reason=Reason.CANNOT_BE_PLANNED, words="today's plan refuses it", instead=instead)


def halted(error: KairayError) -> Halt:
    """Of what nobody can judge now, or a rule of the cluster denies."""
    is_away = isinstance(error, TransientError)
    return Halt(reason=error.reason, words=error.message, denied=not is_away)


def draw(workspace: Workspace, seen: Observed, world: World, wishes: Wishes | None) -> Blueprint:
    """InputError: it cannot be planned, with the remedy. TransientError: nobody can say."""
    if seen.model_problem is not None:
        raise seen.model_problem
    assert seen.preset is not None, "a model is looked up before it is planned"
    drawn = draw_blueprint(
        workspace, seen.preset, nodes=seen.nodes, skus=world.skus, settings=world.settings,
        today=world.now.date(), pinned=pinned_size(workspace, seen), wishes=wishes,
    )  # fmt: skip
    if drawn.plan.problems:
        raise InputError(" ".join(drawn.plan.problems), reason=Reason.CANNOT_BE_PLANNED)
    return drawn


def draw_without_config(
    workspace: Workspace, seen: Observed, world: World, refusal: InputError
) -> Blueprint | None:
    """The plan of a tuning that has begun without its refused config; None: that is refused too."""
    if workspace.tuning is None or seen.config_text is None:
        return None
    try:
        return draw(workspace, seen, world, refused_config(workspace, refusal.message))
    except InputError:
        return None


def planned(workspace: Workspace, seen: Observed, world: World, blueprint: Blueprint) -> Ground:
    """What is drawn from a blueprint."""
    word = _word(blueprint.wish, seen, world)
    return Ground(
        resources=resource_condition(workspace, blueprint, word),
        told=plan_status(blueprint),
        wish=blueprint.wish,
    )


def kept(selector: LabelSelector | None, seen: Observed, world: World, instead: str) -> Ground:
    """What runs, or has ended, as an earlier pass has drawn it; `instead` says what would become of it today, empty:
    nobody needs to know. `selector` None: nobody can say which nodes it may use."""
    found, wish = find_drawn_for(seen), wish_of(seen, world.settings)
    note, before = f"{_KEPT}{instead}" if instead else "", kept_status(seen).get("plan") or {}
    said = [each for each in before.get("reasons", ()) if not each.startswith(_KEPT)]
    reasons = [note, *said][:_MOST_REASONS] if note else said
    told: dict[str, Any] = {"plan": {**before, "reasons": reasons}} if reasons else {}
    if found is None or selector is None:
        told |= {key: seen.status[key] for key in ("workerNodes",) if key in seen.status}
        return Ground(resources=_said_of_nodes(seen, instead), told=told, wish=wish, note=note)
    group = None if wish is None else wish.group
    nodes = nodes_of(selector, seen.nodes, group)
    return Ground(
        resources=nodes_condition(selector, nodes, found.need, group, _word(wish, seen, world)),
        told={**told, "workerNodes": [node.name for node in nodes]},
        wish=wish,
        note=note,
    )


def _said_of_nodes(seen: Observed, instead: str) -> Condition:
    """What was said before holds where nothing is there that wants any."""
    for said in seen.status.get("conditions", ()):
        if said["type"] == Type.RESOURCE_READY:
            return Condition(
                type=Type.RESOURCE_READY, status=said["status"] == "True", reason=said["reason"],
                message=said["message"],
            )  # fmt: skip
    message = instead or "it cannot be planned any more"
    return Condition(type=Type.RESOURCE_READY, status=False, reason=Reason.CANNOT_BE_PLANNED, message=message)


def _word(wish: NodeWish | None, seen: Observed, world: World) -> NodeWord | None:
    """What the keeper says of the group; until it has looked, what status says still holds."""
    # Where it has its nodes, others of its group may wait for theirs.
    if wish is None or seen.has_its_nodes:
        return None
    group = wish.group.name
    if world.heard is None or group in world.heard:
        return world.words.get(group)
    for said in seen.status.get("conditions", ()):
        if said["type"] != Type.RESOURCE_READY:
            continue
        if said["reason"] in _REFUSALS:
            return NodeWord(message=said["message"], refusal=RefusalKind(said["reason"]))
        if said["reason"] == Reason.NODES_COMING:
            return NodeWord(message=said["message"])
    return None
