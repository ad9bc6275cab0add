"""What runs goes on as it was drawn: the Service in front follows its cluster, status tells how it stands, and nothing
is drawn anew, which could roll it. Pure.

It is the same whatever keeps a pass from drawing: a release that refuses what runs or cannot read it, a hub that is
away, a rule of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kairay.controller.blueprint import Blueprint
from kairay.controller.compose import Decision, compose_inference, compose_tuning, owner_of
from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.ground import Halt, World, kept, planned
from kairay.controller.observed import Observed
from kairay.controller.record import TuningRecord
from kairay.controller.serving import (
    ServingDecision,
    decide_serving,
    find_serving,
    follow_service,
    keep_serving,
    without_service,
)
from kairay.controller.settings import Settings
from kairay.controller.tuning import (
    RETRY,
    TuningDecision,
    decide_tuning,
    has_begun,
    served_reference,
    take_up,
)
from kairay.controller.work import Work
from kairay.kube.objects import RAY_JOB, RAY_SERVICE, key_of


def runs(work: Work, seen: Observed) -> bool:
    """What its user asks for serves, or its tuning has begun: then it is followed, whatever a later release, today's
    prices or the hub say of it."""
    if work.tunes:
        return has_begun(work.revision, seen)
    return follow_service(owner_of(seen), seen, tuned=None) is not None


def follow(work: Work, seen: Observed, world: World, halt: Halt, spare: Blueprint | None = None) -> Decision:
    """Of what `runs`; `spare` is for what has still to be drawn: the service of an adapter, a job whose head was
    lost."""
    if work.tunes:
        return _follow_tuning(work, seen, world, halt, spare)
    owner = owner_of(seen)
    service = follow_service(owner, seen, tuned=None)
    assert service is not None, "a service that does not run is planned"
    known = seen.status.get("revision") or work.revision
    ground = halt.on(kept(work.selector, seen, world, halt.instead))
    return compose_inference(owner, seen, world, ground, service, str(known))


def tune(work: Work, seen: Observed, settings: Settings, blueprint: Blueprint | Halt) -> TuningDecision:
    """The tuning as it is written now."""
    record = take_up(
        TuningRecord.parse(seen.status), revision=work.revision, retry=seen.annotations.get(RETRY, "")
    )
    return decide_tuning(work, owner_of(seen), blueprint, record, seen, settings)


def serve_tuned(
    work: Work, seen: Observed, tuning: TuningDecision, serve: Callable[[str], ServingDecision]
) -> ServingDecision:
    """What becomes of the adapter; `serve` decides of the one at a reference."""
    owner = owner_of(seen)
    if not work.serves_adapter:
        why = _not_served(Reason.NOT_SERVED, "tuning.serve is false: the adapter is pushed and not served")
        return without_service(owner, seen, why)
    tuned = served_reference(work.output, tuning.record)
    if tuned is None:
        why = _not_served(Reason.TUNING, "the model is served when tuning has succeeded")
        # After a lost status the adapter is looked up again; what serves it meanwhile goes on.
        return keep_serving(owner, seen, why)
    return serve(tuned)


def _follow_tuning(
    work: Work, seen: Observed, world: World, halt: Halt, spare: Blueprint | None
) -> Decision:  # fmt: skip
    owner = owner_of(seen)

    def serve(tuned: str) -> ServingDecision:
        if (found := follow_service(owner, seen, tuned=tuned)) is not None:
            return found
        if spare is not None:
            assert work.read is not None, "what cannot be read is not planned"
            return decide_serving(work.read, owner, spare, seen, world.settings, tuned=tuned)
        # An edit of it waits, and what serves the same adapter goes on.
        if not halt.instead and (waits := find_serving(owner, seen, tuned=tuned)) is not None:
            return waits
        why = _not_served(halt.reason, f"a service of the tuned model cannot be planned: {halt.words}")
        return keep_serving(owner, seen, why)

    tuning = tune(work, seen, world.settings, spare or halt)
    serving = serve_tuned(work, seen, tuning, serve)
    drawn = {key_of(each).kind for each in (*tuning.objects, *serving.objects)}
    is_over = tuning.record.outcome is not None and not serving.told and serving.ready.reason != halt.reason
    ground = kept(work.selector, seen, world, "" if is_over else halt.instead)
    if not is_over:
        ground = halt.on(ground)
    if spare is not None and (drawn & {RAY_JOB, RAY_SERVICE} or "plan" not in seen.status):
        assert work.read is not None, "what cannot be read is not planned"
        ground = replace(planned(work.read, seen, world, spare), note=ground.note)
    return compose_tuning(owner, seen, world, ground, tuning, serving)


def _not_served(reason: str, message: str) -> Condition:
    return Condition(type=Type.INFERENCE_READY, status=False, reason=reason, message=message)
