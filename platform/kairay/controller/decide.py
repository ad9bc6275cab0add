"""One pass over one Workspace: what is there -> what should be, and what status says. Pure.

Nothing is remembered but what Kubernetes keeps, so a pass may happen at any time, any number of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kairay.controller.blueprint import Blueprint, draw_blueprint, pinned_size, resource_condition
from kairay.controller.conditions import POD_TROUBLES, Condition, Reason, Type
from kairay.controller.groups import NodeWish
from kairay.controller.observed import Observed
from kairay.controller.record import Outcome, TuningRecord
from kairay.controller.serving import ServingDecision, decide_serving, serving_cluster, without_service
from kairay.controller.settings import Settings
from kairay.controller.template import template_conditions, template_objects, template_told
from kairay.controller.told import State, draw_status, kept_status, plan_status
from kairay.controller.tuning import (
    RETRY,
    TuningDecision,
    decide_tuning,
    has_begun,
    served_reference,
    take_up,
)
from kairay.errors import InputError, KairayError
from kairay.kube.objects import RAY_SERVICE, Key, Manifest, key_of
from kairay.names import api_keys_name
from kairay.nodes.actions import NodeWord
from kairay.nodes.interface import RefusalKind
from kairay.objects.metadata import Owner
from kairay.objects.networkpolicy import network_policy
from kairay.skus import Sku
from kairay.workspace import Workspace, revision

_REFUSALS = frozenset(RefusalKind)


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
    if seen.model_problem is not None:
        raise seen.model_problem
    blueprint = _draw(workspace, seen, world)
    # Where it has its nodes, others of its group may wait for theirs.
    group = None if seen.has_its_nodes else blueprint.group
    word = None if group is None else _word(group.name, seen, world)
    resources = resource_condition(workspace, blueprint, word)
    if blueprint.plan.problems:
        return _unplanned(seen, world, resources)
    if workspace.tuning is None:
        serving = decide_serving(workspace, owner, blueprint, seen, world.settings, tuned=None)
        wanted = _inference(workspace, owner, seen, world, blueprint, resources, serving)
        return replace(wanted, wish=blueprint.wish)
    record = take_up(
        TuningRecord.parse(seen.status),
        revision=revision(workspace, seen.config_text),
        retry=workspace.metadata.annotations.get(RETRY, ""),
    )
    tuning = decide_tuning(workspace, owner, blueprint, record, seen, world.settings)
    serving = _serve_tuned(workspace, owner, blueprint, seen, world, tuning)
    return replace(_tuning(owner, seen, world, blueprint, resources, tuning, serving), wish=blueprint.wish)


def _draw(workspace: Workspace, seen: Observed, world: World) -> Blueprint:
    """The plan with the user's own config. A tuning that has begun, or ended, is followed even where a later release
    finds that its config asks for too much: what it was told cannot be changed any more."""
    assert seen.preset is not None, "a model is looked up before it is planned"

    draw = partial(
        draw_blueprint, workspace, seen.preset, nodes=seen.nodes, skus=world.skus, settings=world.settings,
        today=world.now.date(), pinned=pinned_size(workspace, seen),
    )  # fmt: skip
    if seen.config_text is None or not has_begun(workspace, seen):
        return draw(config_text=seen.config_text)
    try:
        drawn = draw(config_text=seen.config_text)
    except InputError:
        return draw()
    return draw() if drawn.plan.problems else drawn


def refuse(seen: Observed, error: KairayError, world: World) -> Decision:
    """The status of a Workspace that cannot be done as it is written, or here; what runs goes on."""
    conditions = [
        Condition(type=kind, status=False, reason=error.reason, message=error.message)
        for kind in (Type.RESOURCE_READY, Type.SUCCEEDED, Type.READY)
    ]
    kept = [
        each
        for each in seen.status.get("conditions", ())
        if each["type"] not in {str(c.type) for c in conditions}
    ]
    drawn = draw_status(seen, world.now, conditions, state=State.NOT_READY, message=error.message)
    return Decision(status={**kept_status(seen), **drawn, "conditions": [*drawn["conditions"], *kept]})


def owner_of(seen: Observed) -> Owner:
    """The Workspace as an owner."""
    metadata = seen.workspace["metadata"]
    return Owner(
        api_version=seen.workspace["apiVersion"],
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
    )


def _word(group: str, seen: Observed, world: World) -> NodeWord | None:
    """What the keeper says of the group; until it has looked, what status says still holds."""
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
    blueprint: Blueprint,
    seen: Observed,
    world: World,
    tuning: TuningDecision,
) -> ServingDecision:
    assert workspace.tuning is not None
    # A field that is not written has the operator's default.
    wanted = workspace.tuning.serve and (
        world.settings.serve_by_default or "serve" in workspace.tuning.model_fields_set
    )
    tuned = served_reference(workspace, tuning.record)
    if not wanted:
        why = _not_served(Reason.NOT_SERVED, "tuning.serve is false: the adapter is pushed and not served")
        return without_service(workspace, owner, why)
    if tuned is None or blueprint.plan.serving is None:
        why = _not_served(Reason.TUNING, "the model is served when tuning has succeeded")
        # After a lost status the adapter is looked up again; what serves it meanwhile goes on.
        return without_service(workspace, owner, why, cluster=serving_cluster(owner, seen))
    return decide_serving(workspace, owner, blueprint, seen, world.settings, tuned=tuned)


def _inference(
    workspace: Workspace, owner: Owner, seen: Observed, world: World, blueprint: Blueprint,
    resources: Condition, serving: ServingDecision,
) -> Decision:  # fmt: skip
    ready = serving.ready
    conditions = [
        resources, ready,
        replace(ready, type=Type.SUCCEEDED), replace(ready, type=Type.READY),
    ]  # fmt: skip
    failed = ready.reason == Reason.SERVING_FAILED
    state = State.READY if ready.status else State.FAILED if failed else State.PENDING
    message = ready.message if ready.status or resources.status else f"{resources.message}; {ready.message}"
    status = draw_status(seen, world.now, conditions, state=state, message=message)
    status |= {
        "inference": dict(serving.told),
        **plan_status(blueprint),
        "revision": revision(workspace, seen.config_text),
    }
    return Decision(
        objects=(*_around(owner, world, serving), *serving.objects),
        status=status,
        keys=api_keys_name(owner.name) if serving.exposed else None,
    )


def _tuning(
    owner: Owner, seen: Observed, world: World, blueprint: Blueprint,
    resources: Condition, tuning: TuningDecision, serving: ServingDecision,
) -> Decision:  # fmt: skip
    record = tuning.record
    succeeded = _succeeded(tuning)
    ready = _ready(tuning, serving, succeeded)
    conditions = [resources, tuning.started, succeeded, serving.ready, ready]
    blocked = not resources.status and record.outcome is None
    message = f"{resources.message}; {ready.message}" if blocked else ready.message
    status = draw_status(seen, world.now, conditions, state=_state(tuning, serving), message=message)
    status |= {
        "tuning": record.to_status(tuning.progress),
        "revision": record.revision,
        **plan_status(blueprint),
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
    )


def _succeeded(tuning: TuningDecision) -> Condition:
    record = tuning.record
    if record.outcome is Outcome.SUCCEEDED:
        assert record.adapter is not None
        digest = f" ({record.adapter.digest})" if record.adapter.digest else ""
        message = f"revision {record.revision} was tuned: {record.adapter.image}{digest}"
        return Condition(type=Type.SUCCEEDED, status=True, reason=Reason.ADAPTER_PUSHED, message=message)
    if record.outcome is Outcome.FAILED:
        message = f"revision {record.revision} failed: {record.message}; edit the Workspace, or annotate it {RETRY}=1"
        return Condition(
            type=Type.SUCCEEDED, status=False, reason=record.reason or Reason.TUNING_FAILED, message=message
        )
    return replace(tuning.started, type=Type.SUCCEEDED, status=False, reason=tuning.held_by)


def _ready(tuning: TuningDecision, serving: ServingDecision, succeeded: Condition) -> Condition:
    if tuning.record.outcome is not Outcome.SUCCEEDED or serving.ready.reason == Reason.NOT_SERVED:
        return replace(succeeded, type=Type.READY)
    return replace(serving.ready, type=Type.READY)


def _state(tuning: TuningDecision, serving: ServingDecision) -> str:
    match tuning.record.outcome:
        case Outcome.FAILED:
            return State.FAILED
        case Outcome.SUCCEEDED if serving.ready.reason == Reason.NOT_SERVED:
            return State.SUCCEEDED
        case Outcome.SUCCEEDED:
            starts = serving.ready.reason == Reason.STARTING or serving.ready.reason in POD_TROUBLES
            return State.READY if serving.ready.status else State.PENDING if starts else State.NOT_READY
        case _:
            return State.RUNNING if tuning.started.status else State.PENDING


def _stale_service(seen: Observed, serving: ServingDecision) -> tuple[Key, ...]:
    """A RayService that is not wanted any more."""
    wanted = {key_of(each) for each in serving.objects}
    found = [live for live in seen.all(RAY_SERVICE) if seen.owns(live) and key_of(live) not in wanted]
    return tuple(key_of(live) for live in found if "deletionTimestamp" not in live["metadata"])


def _unplanned(seen: Observed, world: World, resources: Condition) -> Decision:
    conditions = [resources, *(replace(resources, type=kind) for kind in (Type.SUCCEEDED, Type.READY))]
    status = draw_status(seen, world.now, conditions, state=State.NOT_READY, message=resources.message)
    return Decision(status={**kept_status(seen), **status})


def _around(owner: Owner, world: World, serving: ServingDecision) -> tuple[Manifest, ...]:
    return (network_policy(
        owner.name, owner.namespace, world.controller_namespace, owner.reference, exposed=serving.exposed
    ),)  # fmt: skip


def _not_served(reason: Reason, message: str) -> Condition:
    return Condition(type=Type.INFERENCE_READY, status=False, reason=reason, message=message)
