"""What is said of a Workspace that is not brought about as it is written, and what of it goes on all the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kairay.controller.compose import Decision, compose_front, owner_of
from kairay.controller.conditions import Condition, Type
from kairay.controller.drawn_for import wish_of
from kairay.controller.following import follow, runs
from kairay.controller.ground import TRIED_AGAIN, Halt, World, halted
from kairay.controller.observed import Observed
from kairay.controller.refusals import NotMadeError
from kairay.controller.serving import ServingDecision, find_serving
from kairay.controller.template import template_conditions
from kairay.controller.told import State, draw_status, kept_status
from kairay.controller.verdict import serving_state
from kairay.controller.work import read_work, written_work
from kairay.errors import KairayError
from kairay.workspace import Workspace


def refuse(seen: Observed, error: KairayError, world: World) -> Decision:
    """It cannot be done as it is written, or here; what runs goes on."""
    conditions = _all_false(error.reason, error.message)
    serving = find_serving(owner_of(seen), seen)
    if serving is not None:
        conditions.append(serving.ready)
    drawn = draw_status(seen, world.now, conditions, state=State.NOT_READY, message=error.message)
    return _kept(seen, world, {**kept_status(seen), **_served(serving), **_beside_others(seen, drawn)})


def hold(workspace: Workspace | None, seen: Observed, error: KairayError, world: World) -> Decision:
    """Nobody can judge now what it asks for, or a rule of the cluster denies what was decided. `workspace` None: this
    release cannot read it."""
    settings, halt = world.settings, halted(error)
    work = written_work(seen, settings) if workspace is None else read_work(workspace, seen, settings)
    if runs(work, seen):
        return follow(work, seen, world, halt)
    if isinstance(error, NotMadeError):
        return refuse(seen, error, world)
    if "plan" in seen.status or "inference" in seen.status:
        return _as_before(workspace, seen, world, halt)
    message = f"{error.message}; Kairay tries again by itself"
    conditions = _all_false(error.reason, message)
    status = draw_status(seen, world.now, conditions, state=State.PENDING, message=message)
    return _kept(seen, world, {**kept_status(seen), **status})


def _as_before(workspace: Workspace | None, seen: Observed, world: World, halt: Halt) -> Decision:
    """An edit that is not taken up: what was said before holds, but for how its service stands."""
    serving = find_serving(owner_of(seen), seen)
    ready = _answer(workspace, seen, serving)
    conditions = [halt.resources] if halt.denied else []
    state, message = str(seen.status.get("state", State.PENDING)), f"{halt.words}; {TRIED_AGAIN}"
    if ready is not None:
        conditions.append(ready)
        message = f"{ready.message}; {message}"
        if "tuning" not in seen.workspace:
            conditions.append(replace(ready, type=Type.SUCCEEDED))
        if "tuning" not in seen.workspace or _has_succeeded(seen):
            conditions.append(replace(ready, type=Type.READY))
            state = serving_state(ready)
    drawn = draw_status(
        seen, world.now, conditions, state=state, message=message,
        generation=seen.status.get("observedGeneration"),
    )  # fmt: skip
    return _kept(seen, world, {**seen.status, **_served(serving), **_beside_others(seen, drawn)})


def _answer(
    workspace: Workspace | None, seen: Observed, serving: ServingDecision | None
) -> Condition | None:  # fmt: skip
    """InferenceReady of what is there; None: nothing that serves."""
    if workspace is not None and workspace.inference is not None and workspace.inference.template is not None:
        conditions = template_conditions(workspace, seen)
        return next(each for each in conditions if each.type == Type.INFERENCE_READY)
    return None if serving is None else serving.ready


def _has_succeeded(seen: Observed) -> bool:
    """A tuning's WorkspaceReady is that of its service once there is an adapter."""
    said = {each["type"]: each["status"] for each in seen.status.get("conditions", ())}
    return said.get(Type.SUCCEEDED) == "True"


def _served(serving: ServingDecision | None) -> dict[str, Any]:
    return {} if serving is None else {"inference": dict(serving.told)}


def _beside_others(seen: Observed, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """With the conditions that were said before and of which nothing new is known."""
    decided = {each["type"] for each in drawn["conditions"]}
    others = [each for each in seen.status.get("conditions", ()) if each["type"] not in decided]
    return {**drawn, "conditions": [*drawn["conditions"], *others]}


def _kept(seen: Observed, world: World, status: Mapping[str, Any]) -> Decision:
    """With the nodes that it goes on to want, and what is in front of it."""
    return Decision(
        status=status, wish=wish_of(seen, world.settings), objects=compose_front(owner_of(seen), seen, world)
    )


def _all_false(reason: str, message: str) -> list[Condition]:
    return [
        Condition(type=kind, status=False, reason=reason, message=message)
        for kind in (Type.RESOURCE_READY, Type.SUCCEEDED, Type.READY)
    ]
