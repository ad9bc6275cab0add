"""One pass over one Workspace: what is there -> what should be, and what status says. Pure.

Nothing is remembered but what Kubernetes keeps, so a pass may happen at any time, any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kairay.controller.blueprint import Blueprint, moved, pinned_size
from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.drawn_for import wish_of
from kairay.controller.ground import Ground, World, draw, draw_without_config, kept, planned
from kairay.controller.groups import NodeWish
from kairay.controller.observed import Observed
from kairay.controller.record import TuningRecord
from kairay.controller.serving import (
    ServingDecision,
    decide_serving,
    follow_service,
    keep_serving,
    without_service,
)
from kairay.controller.settings import Settings
from kairay.controller.template import template_conditions, template_objects, template_told
from kairay.controller.told import State, draw_status, kept_status
from kairay.controller.tuning import (
    RETRY,
    TuningDecision,
    decide_tuning,
    has_begun,
    served_reference,
    take_up,
)
from kairay.controller.verdict import tuning_ready, tuning_state, tuning_succeeded
from kairay.errors import InputError, KairayError
from kairay.kube.objects import RAY_JOB, RAY_SERVICE, Key, Manifest, key_of
from kairay.names import api_keys_name
from kairay.objects.metadata import Owner
from kairay.objects.networkpolicy import network_policy
from kairay.plan_config import read_config
from kairay.workspace import Workspace, revision

__all__ = ["Decision", "World", "decide", "owner_of", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one pass wants."""

    objects: tuple[Manifest, ...] = ()
    """To be there, in the order in which they are applied."""
    removals: tuple[Key, ...] = ()
    status: Mapping[str, Any]
    keys: str | None = None
    """Name of the secret with API keys that has to be there."""
    waits_for_result: bool = False
    running: str | None = None
    """RayJob whose progress is wanted."""
    wish: NodeWish | None = None
    """Nodes that its workers want, where Kairay brings them."""


def decide(workspace: Workspace, seen: Observed, world: World) -> Decision:
    """InputError: what the Workspace asks for cannot be; its sentence belongs into status (`refuse`).
    TransientError: its model cannot be asked for now (`held`)."""
    owner = owner_of(seen)
    spec = workspace.inference or workspace.tuning
    assert spec is not None
    if spec.preset is None:
        return _own_template(workspace, owner, seen, world)
    if seen.config_problem is not None:
        raise InputError(seen.config_problem)
    try:
        blueprint = draw(workspace, seen, world, read_config(workspace, seen.config_text))
        instead = moved(blueprint.plan, pinned_size(workspace, seen))
        if instead is None or not _runs(workspace, owner, seen):
            return _as_planned(workspace, owner, seen, world, blueprint)
    except InputError as refusal:
        if not _runs(workspace, owner, seen):
            raise
        spare = draw_without_config(workspace, seen, world, refusal)
        return _as_it_runs(workspace, owner, seen, world, f"it would be refused: {refusal.message}", spare)
    return _as_it_runs(workspace, owner, seen, world, instead, blueprint)


def refuse(seen: Observed, error: KairayError, world: World) -> Decision:
    """The status of a Workspace that cannot be done as it is written, or here; what runs goes on."""
    conditions = [
        Condition(type=kind, status=False, reason=error.reason, message=error.message)
        for kind in (Type.RESOURCE_READY, Type.SUCCEEDED, Type.READY)
    ]
    others = [
        each
        for each in seen.status.get("conditions", ())
        if each["type"] not in {str(c.type) for c in conditions}
    ]
    drawn = draw_status(seen, world.now, conditions, state=State.NOT_READY, message=error.message)
    status = {**kept_status(seen), **drawn, "conditions": [*drawn["conditions"], *others]}
    return Decision(status=status, wish=wish_of(seen, world.settings))


def owner_of(seen: Observed) -> Owner:
    """The Workspace as an owner."""
    metadata = seen.workspace["metadata"]
    return Owner(
        api_version=seen.workspace["apiVersion"],
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
    )


def _runs(workspace: Workspace, owner: Owner, seen: Observed) -> bool:
    """What its user asks for serves, or its tuning has begun: then it is followed, whatever a later release, today's
    prices or the hub say of it. Nothing of it is drawn anew, which could roll it."""
    if workspace.tuning is not None:
        return has_begun(workspace, seen)
    return follow_service(workspace, owner, seen, tuned=None) is not None


def _as_planned(
    workspace: Workspace, owner: Owner, seen: Observed, world: World, blueprint: Blueprint
) -> Decision:
    """InputError: it cannot be drawn."""
    ground = planned(workspace, seen, world, blueprint)

    def serve(tuned: str | None) -> ServingDecision:
        return decide_serving(workspace, owner, blueprint, seen, world.settings, tuned=tuned)

    if workspace.tuning is None:
        status_revision = revision(workspace, seen.config_text)
        return _inference(owner, seen, world, ground, serve(None), status_revision)
    tuning = _tune(workspace, owner, seen, world.settings, blueprint)
    serving = _serve_tuned(workspace, owner, seen, world.settings, tuning, serve)
    return _tuning(owner, seen, world, ground, tuning, serving)


def _as_it_runs(
    workspace: Workspace, owner: Owner, seen: Observed, world: World, instead: str, spare: Blueprint | None
) -> Decision:  # fmt: skip
    """`instead` says what would become of it today; `spare` is for what has still to be drawn: the service of an
    adapter, a job whose head was lost."""
    if workspace.tuning is None:
        service = follow_service(workspace, owner, seen, tuned=None)
        assert service is not None, "a service that does not run is planned"
        known = seen.status.get("revision") or revision(workspace, seen.config_text)
        ground = kept(workspace, seen, world, instead)
        return _inference(owner, seen, world, ground, service, str(known))

    def serve(tuned: str | None) -> ServingDecision:
        if (found := follow_service(workspace, owner, seen, tuned=tuned)) is not None:
            return found
        if spare is not None:
            return decide_serving(workspace, owner, spare, seen, world.settings, tuned=tuned)
        why = _not_served(Reason.CANNOT_BE_PLANNED, "a service of the tuned model cannot be planned")
        return keep_serving(workspace, owner, seen, why)

    tuning = _tune(workspace, owner, seen, world.settings, spare)
    serving = _serve_tuned(workspace, owner, seen, world.settings, tuning, serve)
    drawn = {key_of(each).kind for each in (*tuning.objects, *serving.objects)}
    is_over = (
        tuning.record.outcome is not None
        and not serving.told
        and serving.ready.reason != Reason.CANNOT_BE_PLANNED
    )
    ground = kept(workspace, seen, world, "" if is_over else instead)
    if spare is not None and (drawn & {RAY_JOB, RAY_SERVICE} or "plan" not in seen.status):
        ground = replace(planned(workspace, seen, world, spare), note=ground.note)
    return _tuning(owner, seen, world, ground, tuning, serving)


def _tune(
    workspace: Workspace, owner: Owner, seen: Observed, settings: Settings, blueprint: Blueprint | None
) -> TuningDecision:
    record = take_up(
        TuningRecord.parse(seen.status),
        revision=revision(workspace, seen.config_text),
        retry=workspace.metadata.annotations.get(RETRY, ""),
    )
    return decide_tuning(workspace, owner, blueprint, record, seen, settings)


def _own_template(workspace: Workspace, owner: Owner, seen: Observed, world: World) -> Decision:
    conditions = template_conditions(workspace, seen)
    ready = conditions[-1]
    state = State.READY if ready.status else State.PENDING
    status = draw_status(seen, world.now, conditions, state=state, message=ready.message)
    return Decision(
        objects=template_objects(workspace, owner), status={**status, "inference": template_told(owner)}
    )


def _serve_tuned(
    workspace: Workspace,
    owner: Owner,
    seen: Observed,
    settings: Settings,
    tuning: TuningDecision,
    serve: Callable[[str], ServingDecision],
) -> ServingDecision:
    assert workspace.tuning is not None
    # A field that is not written has the operator's default.
    wanted = workspace.tuning.serve and (
        settings.serve_by_default or "serve" in workspace.tuning.model_fields_set
    )
    tuned = served_reference(workspace, tuning.record)
    if not wanted:
        why = _not_served(Reason.NOT_SERVED, "tuning.serve is false: the adapter is pushed and not served")
        return without_service(workspace, owner, why)
    if tuned is None:
        why = _not_served(Reason.TUNING, "the model is served when tuning has succeeded")
        # After a lost status the adapter is looked up again; what serves it meanwhile goes on.
        return keep_serving(workspace, owner, seen, why)
    return serve(tuned)


def _inference(
    owner: Owner, seen: Observed, world: World, ground: Ground, serving: ServingDecision, status_revision: str
) -> Decision:  # fmt: skip
    ready, resources = serving.ready, ground.resources
    conditions = [
        resources, ready,
        replace(ready, type=Type.SUCCEEDED), replace(ready, type=Type.READY),
    ]  # fmt: skip
    failed = ready.reason == Reason.SERVING_FAILED
    state = State.READY if ready.status else State.FAILED if failed else State.PENDING
    message = ready.message if ready.status or resources.status else f"{resources.message}; {ready.message}"
    status = draw_status(seen, world.now, conditions, state=state, message=ground.after(message))
    status |= {"inference": dict(serving.told), **ground.told, "revision": status_revision}
    return Decision(
        objects=(*_around(owner, world, serving), *serving.objects),
        status=status,
        keys=api_keys_name(owner.name) if serving.exposed else None,
        wish=ground.wish,
    )


def _tuning(
    owner: Owner, seen: Observed, world: World, ground: Ground,
    tuning: TuningDecision, serving: ServingDecision,
) -> Decision:  # fmt: skip
    record, resources, ready = tuning.record, ground.resources, tuning_ready(tuning, serving)
    conditions = [resources, tuning.started, tuning_succeeded(tuning), serving.ready, ready]
    blocked = not resources.status and record.outcome is None
    message = f"{resources.message}; {ready.message}" if blocked else ready.message
    state = tuning_state(tuning, serving)
    status = draw_status(seen, world.now, conditions, state=state, message=ground.after(message))
    status |= {
        "tuning": record.to_status(tuning.progress),
        "revision": record.revision,
        **ground.told,
    }
    if serving.told:
        status["inference"] = dict(serving.told)
    stale = _stale_service(seen, serving) if serving.ready.reason == Reason.NOT_SERVED else ()
    return Decision(
        objects=(*_around(owner, world, serving), *tuning.objects, *serving.objects),
        removals=(*tuning.removals, *stale),
        status=status,
        keys=api_keys_name(owner.name) if serving.exposed and serving.told else None,
        waits_for_result=tuning.waits_for_result,
        running=record.job if tuning.started.reason == Reason.JOB_RUNNING else None,
        wish=ground.wish,
    )


def _stale_service(seen: Observed, serving: ServingDecision) -> tuple[Key, ...]:
    """A RayService that is not wanted any more."""
    wanted = {key_of(each) for each in serving.objects}
    found = [live for live in seen.all(RAY_SERVICE) if seen.owns(live) and key_of(live) not in wanted]
    return tuple(key_of(live) for live in found if "deletionTimestamp" not in live["metadata"])


def _around(owner: Owner, world: World, serving: ServingDecision) -> tuple[Manifest, ...]:
    return (network_policy(
        owner.name, owner.namespace, world.controller_namespace, owner.reference, exposed=serving.exposed
    ),)  # fmt: skip


def _not_served(reason: Reason, message: str) -> Condition:
    return Condition(type=Type.INFERENCE_READY, status=False, reason=reason, message=message)
