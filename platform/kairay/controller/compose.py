"""What one pass wants and says of a Workspace, put together of its parts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kairay.controller.conditions import Reason, Type
from kairay.controller.ground import Ground, World
from kairay.controller.groups import NodeWish
from kairay.controller.observed import Observed
from kairay.controller.serving import ServingDecision, find_front
from kairay.controller.told import draw_status
from kairay.controller.tuning import TuningDecision
from kairay.controller.verdict import serving_state, tuning_ready, tuning_state, tuning_succeeded
from kairay.kube.objects import NETWORK_POLICY, RAY_SERVICE, Key, Manifest, key_of
from kairay.names import api_keys_name
from kairay.objects.metadata import Owner
from kairay.objects.networkpolicy import network_policy
from kairay.workspace_fields import dig


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


def owner_of(seen: Observed) -> Owner:
    """The Workspace as an owner."""
    metadata = seen.workspace["metadata"]
    return Owner(
        api_version=seen.workspace["apiVersion"],
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
    )


def compose_inference(
    owner: Owner, seen: Observed, world: World, ground: Ground, serving: ServingDecision, status_revision: str
) -> Decision:  # fmt: skip
    """Of a Workspace that serves."""
    ready, resources = serving.ready, ground.resources
    conditions = [
        resources, ready,
        replace(ready, type=Type.SUCCEEDED), replace(ready, type=Type.READY),
    ]  # fmt: skip
    state = serving_state(ready)
    blocked = ground.lacks_nodes and not ready.status
    message = f"{resources.message}; {ready.message}" if blocked else ready.message
    status = draw_status(seen, world.now, conditions, state=state, message=ground.after(message))
    status |= {"inference": dict(serving.told), **ground.told}
    status |= {"revision": status_revision} if status_revision else {}
    return Decision(
        objects=_with_guard(owner, seen, world, serving, *serving.objects),
        status=status,
        keys=api_keys_name(owner.name) if serving.exposed else None,
        wish=ground.wish,
    )


def compose_tuning(
    owner: Owner, seen: Observed, world: World, ground: Ground,
    tuning: TuningDecision, serving: ServingDecision,
) -> Decision:  # fmt: skip
    """Of a Workspace that tunes, and then serves what it has tuned."""
    record, resources, ready = tuning.record, ground.resources, tuning_ready(tuning, serving)
    conditions = [resources, tuning.started, tuning_succeeded(tuning), serving.ready, ready]
    blocked = ground.lacks_nodes and record.outcome is None
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
        objects=_with_guard(owner, seen, world, serving, *tuning.objects, *serving.objects),
        removals=(*tuning.removals, *stale),
        status=status,
        keys=api_keys_name(owner.name) if serving.exposed and serving.told else None,
        waits_for_result=tuning.waits_for_result,
        running=record.job if tuning.started.reason == Reason.JOB_RUNNING else None,
        wish=ground.wish,
    )


def compose_front(owner: Owner, seen: Observed, world: World) -> tuple[Manifest, ...]:
    """What is in front of a service, whatever is asked for now: it follows the cluster that answers, is closed where
    its user wants so, and opened never. Only what is there and ours; nothing is made."""
    if dig(seen.workspace, "inference", "template") is not None:
        return ()
    front = find_front(owner, seen)
    exposed = front["spec"]["type"] == "LoadBalancer"
    guard = network_policy(
        owner.name, owner.namespace, world.controller_namespace, owner.reference, exposed=exposed
    )
    return tuple(each for each in (guard, front) if seen.holds(key_of(each)))


def _stale_service(seen: Observed, serving: ServingDecision) -> tuple[Key, ...]:
    """A RayService that is not wanted any more."""
    wanted = {key_of(each) for each in serving.objects}
    found = [live for live in seen.all(RAY_SERVICE) if seen.owns(live) and key_of(live) not in wanted]
    return tuple(key_of(live) for live in found if "deletionTimestamp" not in live["metadata"])


def _with_guard(
    owner: Owner, seen: Observed, world: World, serving: ServingDecision, *others: Manifest
) -> tuple[Manifest, ...]:  # fmt: skip
    """And the NetworkPolicy: first of all, but opened last. A rule may deny the keys of what is to be opened."""
    guard = network_policy(
        owner.name, owner.namespace, world.controller_namespace, owner.reference, exposed=serving.exposed
    )
    opens = serving.exposed and seen.find(NETWORK_POLICY, owner.name) is not None
    return (*others, guard) if opens else (guard, *others)
