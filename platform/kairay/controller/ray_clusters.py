"""Ask the API server for RayClusters that miss pods, and for KubeRay's events where they say nothing: few, seldom, and
remembered in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kairay.controller.complaints import due_in
from kairay.controller.pod_events import list_events
from kairay.controller.triggers import WorkspaceName
from kairay.controller.unmade import Silent, keep_failure, read_failure_events
from kairay.errors import KairayError
from kairay.kube.interface import Cluster
from kairay.kube.objects import RAY_CLUSTER, Key, uid_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a Workspace's clusters that miss pods."""

    statuses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the cluster's name."""
    again: float | None = None
    """Seconds until the next look, since nothing watches them; None: none misses a pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    since: datetime
    """When it was missed first, by this process."""
    at: datetime | None = None
    """When its answer came."""
    status: Mapping[str, Any] = field(default_factory=dict)


class RayClusters:
    """The clusters that miss pods, by Workspace. One that cannot be read is left out: it is for people, nothing depends
    on it; `lost` hears why."""

    def __init__(self, cluster: Cluster, lost: Callable[[KairayError], None]) -> None:
        self._cluster, self._lost = cluster, lost
        self._known: dict[WorkspaceName, dict[str, _Asked]] = {}

    async def ask(self, name: WorkspaceName, silent: Sequence[Silent], now: datetime) -> Told:
        """Ask for what is due; what was told before holds until then. Most have their pods `PATIENCE` after their owner
        was made. None is silent: no call."""
        if not silent:
            self.forget(name)
            return Told()
        before = self._known.get(name, {})
        known = {each.cluster: before.get(each.cluster, _Asked(since=now)) for each in silent}
        for each in silent:
            if _due_in(known[each.cluster], each.made, now) <= 0:
                known[each.cluster] = await self._ask(name[0], each, known[each.cluster], now)
        self._known[name] = known
        return Told(
            statuses={cluster: asked.status for cluster, asked in known.items() if asked.status},
            again=max(1.0, min(_due_in(known[each.cluster], each.made, now) for each in silent)),
        )

    def forget(self, name: WorkspaceName) -> None:
        """A Workspace that is gone, or whose clusters miss nothing."""
        self._known.pop(name, None)

    async def _ask(self, namespace: str, silent: Silent, asked: _Asked, now: datetime) -> _Asked:
        try:
            found = await self._cluster.get(Key(RAY_CLUSTER, namespace, silent.cluster))
            status: Mapping[str, Any] = {} if found is None else keep_failure(found.get("status") or {})
            if not status and silent.headless:
                about = silent.owner if found is None else uid_of(found)
                status = read_failure_events(await list_events(self._cluster, namespace, about), now)
        except KairayError as error:
            self._lost(error)
            status = asked.status
        return _Asked(since=asked.since, at=now, status=status)


def _due_in(asked: _Asked, made: datetime, now: datetime) -> float:
    """Seconds until it is asked: at once where its owner is old, so that a new process says what the last one did."""
    waited = now - made if asked.at is None else asked.at - asked.since
    return due_in(waited.total_seconds(), asked.at, now)
