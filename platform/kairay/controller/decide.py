"""One pass over one Workspace: what is there -> what should be, and what status says. Pure.

Nothing is remembered but what Kubernetes keeps, so a pass may happen at any time, any number of times.
"""

from __future__ import annotations

from kairay.controller.blueprint import Blueprint, moved, pinned_size
from kairay.controller.compose import Decision, compose_inference, compose_tuning, owner_of
from kairay.controller.following import follow, runs, serve_tuned, tune
from kairay.controller.ground import World, draw, draw_without_config, halted, planned, would_be
from kairay.controller.observed import Observed
from kairay.controller.serving import ServingDecision, decide_serving
from kairay.controller.template import template_conditions, template_objects, template_told
from kairay.controller.told import State, draw_status
from kairay.controller.work import Work, read_work, written_work
from kairay.errors import InputError, TransientError
from kairay.plan_config import read_config
from kairay.workspace import Workspace

__all__ = ["Decision", "World", "decide", "decide_unread"]


def decide(workspace: Workspace, seen: Observed, world: World) -> Decision:
    """InputError: what the Workspace asks for cannot be; its sentence belongs into status (`refuse`).
    TransientError: its model cannot be asked for now, and what it asks for does not run yet (`hold`)."""
    spec = workspace.inference or workspace.tuning
    assert spec is not None
    if spec.preset is None:
        return _own_template(workspace, seen, world)
    if seen.config_problem is not None:
        raise InputError(seen.config_problem)
    work = read_work(workspace, seen, world.settings)
    try:
        blueprint = draw(workspace, seen, world, read_config(workspace, seen.config_text))
        instead = moved(blueprint.plan, pinned_size(workspace, seen))
        if instead is None or not runs(work, seen):
            return _as_planned(work, workspace, seen, world, blueprint)
    except InputError as refusal:
        if not runs(work, seen):
            raise
        spare = draw_without_config(workspace, seen, world, refusal)
        return follow(work, seen, world, would_be(f"it would be refused: {refusal.message}"), spare)
    except TransientError as error:
        if not runs(work, seen):
            raise
        return follow(work, seen, world, halted(error))
    return follow(work, seen, world, would_be(instead), blueprint)


def decide_unread(seen: Observed, refusal: InputError, world: World) -> Decision:
    """Of a Workspace that this release cannot read: what was drawn for it as it is written goes on. `refusal` is
    raised where nothing was."""
    try:
        work = written_work(seen, world.settings)
    except InputError:
        raise refusal from None
    if not runs(work, seen):
        raise refusal
    return follow(work, seen, world, would_be(f"it would be refused: {refusal.message}"))


def _as_planned(
    work: Work, workspace: Workspace, seen: Observed, world: World, blueprint: Blueprint
) -> Decision:  # fmt: skip
    """InputError: it cannot be drawn."""
    owner, ground = owner_of(seen), planned(workspace, seen, world, blueprint)

    def serve(tuned: str | None) -> ServingDecision:
        return decide_serving(workspace, owner, blueprint, seen, world.settings, tuned=tuned)

    if not work.tunes:
        return compose_inference(owner, seen, world, ground, serve(None), work.revision)
    tuning = tune(work, seen, world.settings, blueprint)
    return compose_tuning(owner, seen, world, ground, tuning, serve_tuned(work, seen, tuning, serve))


def _own_template(workspace: Workspace, seen: Observed, world: World) -> Decision:
    owner, conditions = owner_of(seen), template_conditions(workspace, seen)
    ready = conditions[-1]
    state = State.READY if ready.status else State.PENDING
    status = draw_status(seen, world.now, conditions, state=state, message=ready.message)
    return Decision(
        objects=template_objects(workspace, owner, seen),
        status={**status, "inference": template_told(owner)},
    )
