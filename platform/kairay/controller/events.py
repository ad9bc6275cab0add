"""Events: one for each condition that turned, with its sentence; few, for people who `kubectl describe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from kairay.controller.conditions import POD_TROUBLES
from kairay.controller.observed import Observed
from kairay.errors import KairayError
from kairay.kube.interface import Cluster
from kairay.kube.objects import Manifest

_TOLD = ("ResourceReady", "JobStarted", "WorkspaceSucceeded", "InferenceReady")
_QUIET = frozenset({"Tuning", "Starting", "JobWaiting"})
"""Reasons of what is only on its way."""
_FAILURES = frozenset({"TuningFailed", "ServingFailed", "CannotBePlanned", "InvalidInput", "NameTaken"})


class Recorder(Protocol):
    """Where events go."""

    async def changed(self, seen: Observed, status: Mapping[str, Any]) -> None:
        """Tell what is new in `status` beside what was seen."""


class Events:
    """The real one. An event that cannot be written is lost: it is for people, nothing depends on it."""

    def __init__(
        self, cluster: Cluster, now: Callable[[], datetime], lost: Callable[[KairayError], None]
    ) -> None:
        self._cluster = cluster
        self._now = now
        self._lost = lost

    async def changed(self, seen: Observed, status: Mapping[str, Any]) -> None:
        """See Recorder."""
        for condition in news(seen.status, status):
            try:
                await self._cluster.create(draw_event(seen.workspace, condition, self._now()))
            except KairayError as error:
                self._lost(error)


def news(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Conditions that have another status or reason than before and are worth an event; several that say the same of
    one cause count once."""
    old = {each["type"]: (each["status"], each["reason"]) for each in before.get("conditions", ())}
    told = set()
    for condition in after.get("conditions", ()):
        is_new = old.get(condition["type"]) != (condition["status"], condition["reason"])
        sentence = (condition["status"], condition["reason"], condition["message"])
        if (
            condition["type"] in _TOLD
            and is_new
            and condition["reason"] not in _QUIET
            and sentence not in told
        ):
            told.add(sentence)
            yield condition


def draw_event(workspace: Manifest, condition: Mapping[str, Any], now: datetime) -> Manifest:
    """One event about the Workspace."""
    metadata, stamp = workspace["metadata"], now.strftime("%Y-%m-%dT%H:%M:%SZ")
    bad = condition["status"] == "False" and (
        condition["reason"] in _FAILURES
        or condition["reason"] in POD_TROUBLES
        or condition["type"] == "WorkspaceSucceeded"
    )
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name'][:40]}.", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": workspace["apiVersion"], "kind": "Workspace", "name": metadata["name"],
            "namespace": metadata["namespace"], "uid": metadata["uid"],
        },
        "type": "Warning" if bad else "Normal",
        "reason": condition["reason"],
        "message": condition["message"],
        "source": {"component": "kairay-controller"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }  # fmt: skip
