"""What a run does next, decided from what is there. Pure: how `kairay run` behaves is in `next_step`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kairay.local.jobs import JobStatus
from kairay.local.serve import AppStatus


class Step(StrEnum):
    """One thing to do, after which everything is looked at again."""

    REFUSE = "Refuse"
    KEEP = "Keep"
    PUBLISH = "Publish"
    START_RAY = "StartRay"
    TUNE = "Tune"
    WAIT_TUNE = "WaitTune"
    FAIL_TUNE = "FailTune"
    SERVE = "Serve"
    WAIT_SERVE = "WaitServe"
    FAIL_SERVE = "FailServe"
    DONE = "Done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is there for one revision of a Workspace."""

    tunes: bool
    """It asks for an adapter."""
    serves: bool
    """It asks for a service."""
    kept: bool = False
    """Our copy of this revision's adapter is there."""
    published: bool = False
    """This revision's adapter is at the output."""
    failed_before: bool = False
    """An earlier run saw this revision fail in a way that trying again is not likely to mend."""
    ray: bool = False
    """A Ray instance is at hand."""
    job: JobStatus | None = None
    """The last job of this revision; None: Ray knows of none."""
    awaited: bool = False
    """This run submitted a job and has not waited for its end yet."""
    ended: bool = False
    """This run has waited for that job's end."""
    app: AppStatus | None = None
    app_is_current: bool = False
    """What is deployed is what this revision asks for."""
    answers: bool = False
    """Its URL answers."""
    deployed: bool = False
    """This run deployed it."""


def next_step(seen: Observed) -> Step:
    """The one thing to do now."""
    if seen.tunes and not (seen.kept and seen.published):
        return _towards_adapter(seen)
    if seen.serves:
        return _towards_service(seen)
    return Step.DONE


def _towards_adapter(seen: Observed) -> Step:
    if seen.awaited or (seen.job is not None and seen.job.is_active):
        return Step.WAIT_TUNE
    if seen.kept:
        return Step.PUBLISH
    if seen.published:
        return Step.KEEP
    if seen.ended:
        return Step.FAIL_TUNE
    if seen.failed_before:
        return Step.REFUSE
    return Step.TUNE if seen.ray else Step.START_RAY


def _towards_service(seen: Observed) -> Step:
    if not seen.ray:
        return Step.START_RAY
    broken = seen.app in (AppStatus.DEPLOY_FAILED, AppStatus.DELETING)
    if seen.app is None or not seen.app_is_current or (broken and not seen.deployed):
        return Step.SERVE
    if seen.app is AppStatus.DEPLOY_FAILED:
        return Step.FAIL_SERVE
    if seen.app is AppStatus.RUNNING and seen.answers:
        return Step.DONE
    return Step.WAIT_SERVE
