"""Ask the API server for the events of pods that wait without a word: few, seldom, and remembered in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from kairay.controller.complaints import (
    PATIENCE,
    Complaint,
    asked_after,
    due_in,
    lacks_words,
    read_complaints,
    trim_event,
    waited,
)
from kairay.controller.triggers import WorkspaceName
from kairay.errors import KairayError
from kairay.kube.interface import Cluster
from kairay.kube.objects import EVENT, Manifest, uid_of

MOST_ASKED: Final = 3
"""Objects whose events one pass lists; the others of a Workspace have their turn in the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is known of a Workspace's pods that wait."""

    complaints: Mapping[str, tuple[Complaint, ...]] = field(default_factory=dict)
    """By the pod's UID: of itself and of its claims."""
    again: float | None = None
    """Seconds until the next look, since what waits tells no watch; None: nothing waits without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    at: datetime
    complaints: tuple[Complaint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    uid: str
    pod: str
    """Its UID."""
    waited: float


class PodEvents:
    """The events of waiting pods, by Workspace. One that cannot be read is left out: it is for people, nothing depends
    on it; `lost` hears why."""

    def __init__(self, cluster: Cluster, lost: Callable[[KairayError], None]) -> None:
        self._cluster, self._lost = cluster, lost
        self._answers: dict[WorkspaceName, dict[str, _Answer]] = {}

    async def hear(
        self,
        name: WorkspaceName,
        pods: Iterable[Mapping[str, Any]],
        claim_of: Callable[[str], Mapping[str, Any] | None],
        now: datetime,
    ) -> Heard:
        """Ask for what is due; what was heard before holds until then. Nothing waits: no call."""
        questions = [question for pod in pods for question in _questions(pod, claim_of, now)]
        if not questions:
            self.forget(name)
            return Heard()
        known = self._answers.get(name, {})
        answers = {each.uid: known[each.uid] for each in questions if each.uid in known}
        # Pods may share a claim.
        due = {each.uid: each for each in questions if _due_in(each, answers.get(each.uid), now) <= 0}
        for each in sorted(due.values(), key=lambda each: _asked(answers, each.uid))[:MOST_ASKED]:
            before = answers.get(each.uid)
            answers[each.uid] = await self._ask(name[0], each.uid, before, now)
        self._answers[name] = answers
        complaints: dict[str, tuple[Complaint, ...]] = {}
        for each in questions:
            if each.uid in answers:
                complaints[each.pod] = complaints.get(each.pod, ()) + answers[each.uid].complaints
        again = min(_due_in(each, answers.get(each.uid), now) for each in questions)
        return Heard(complaints=complaints, again=max(1.0, again))

    def forget(self, name: WorkspaceName) -> None:
        """A Workspace that is gone, or whose pods do not wait."""
        self._answers.pop(name, None)

    async def _ask(self, namespace: str, uid: str, before: _Answer | None, now: datetime) -> _Answer:
        try:
            found = await list_events(self._cluster, namespace, uid)
        except KairayError as error:
            self._lost(error)
            return _Answer(at=now, complaints=() if before is None else before.complaints)
        return _Answer(at=now, complaints=read_complaints(found, now))


async def list_events(cluster: Cluster, namespace: str, uid: str) -> list[Manifest]:
    """Of one object. KairayError where they cannot be read."""
    found, _ = await cluster.list(
        EVENT, namespace=namespace, fields={"involvedObject.uid": uid}, trim=trim_event
    )
    return found


def _questions(
    pod: Mapping[str, Any], claim_of: Callable[[str], Mapping[str, Any] | None], now: datetime
) -> Iterable[_Question]:
    least = PATIENCE if _has_failed(pod) else 0.0
    for each in asked_after(pod, claim_of):
        yield _Question(uid=uid_of(each), pod=uid_of(pod), waited=max(least, waited(pod, now)))


def _has_failed(pod: Mapping[str, Any]) -> bool:
    """There is no need for patience: the registry has said no, and only the event tells its words."""
    status = pod.get("status") or {}
    containers = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    return any(lacks_words((each.get("state") or {}).get("waiting") or {}) for each in containers)


def _due_in(question: _Question, answer: _Answer | None, now: datetime) -> float:
    """Seconds until its events are wanted."""
    return due_in(question.waited, None if answer is None else answer.at, now)


def _asked(answers: Mapping[str, _Answer], uid: str) -> float:
    return answers[uid].at.timestamp() if uid in answers else 0.0
