"""What is said of a tuning Workspace as a whole: whether it has succeeded, whether it is ready, its state. Pure."""

from __future__ import annotations

from dataclasses import replace

from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.record import Outcome
from kairay.controller.serving import ServingDecision
from kairay.controller.told import State
from kairay.controller.tuning import RETRY, TuningDecision


def serving_state(ready: Condition) -> str:
    """`status.state` of what only has to answer."""
    failed = ready.reason == Reason.SERVING_FAILED
    return State.READY if ready.status else State.FAILED if failed else State.PENDING


def tuning_succeeded(tuning: TuningDecision) -> Condition:
    """WorkspaceSucceeded: the adapter is pushed, whatever becomes of its service."""
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


def tuning_ready(tuning: TuningDecision, serving: ServingDecision) -> Condition:
    """WorkspaceReady: the adapter is pushed and, where it is served, answers."""
    if tuning.record.outcome is not Outcome.SUCCEEDED or serving.ready.reason == Reason.NOT_SERVED:
        return replace(tuning_succeeded(tuning), type=Type.READY)
    return replace(serving.ready, type=Type.READY)


def tuning_state(tuning: TuningDecision, serving: ServingDecision) -> str:
    """`status.state`."""
    match tuning.record.outcome:
        case Outcome.FAILED:
            return State.FAILED
        case Outcome.SUCCEEDED if serving.ready.reason == Reason.NOT_SERVED:
            return State.SUCCEEDED
        case Outcome.SUCCEEDED:
            is_stuck = serving.ready.reason in (Reason.SERVING_FAILED, Reason.CANNOT_BE_PLANNED)
            return State.READY if serving.ready.status else State.NOT_READY if is_stuck else State.PENDING
        case _ if tuning.started.reason == Reason.CANNOT_BE_PLANNED:
            return State.NOT_READY
        case _:
            return State.RUNNING if tuning.started.status else State.PENDING
