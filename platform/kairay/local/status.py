"""`kairay status`: what the records say, corrected by what Ray says now. Works without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from kairay.errors import KairayError
from kairay.local.jobs import JobInfo, JobStatus
from kairay.local.machine import LocalMachine, Machine
from kairay.local.ray_instance import RayInstance
from kairay.local.serve import AppInfo, AppStatus, ServeInfo
from kairay.local.state import AdapterRecord, Outcome, StateDir, WorkKind, WorkspaceRecord
from kairay.names import ray_service_name, run_name
from kairay.ray.progress import TuningProgress


class State(StrEnum):
    """A Workspace in one word."""

    PENDING = "Pending"
    """Asked for; nothing of it runs."""
    TUNING = "Tuning"
    STARTING = "Starting"
    """Being deployed."""
    SERVING = "Serving"
    SUCCEEDED = "Succeeded"
    """Tuned, and not served."""
    STOPPED = "Stopped"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceStatus:
    """One Workspace as it is now."""

    name: str
    kind: WorkKind
    state: State
    preset: str
    revision: str
    message: str = ""
    progress: TuningProgress | None = None
    url: str | None = None
    """Where it answers; None while it does not."""
    models: tuple[str, ...] = ()
    adapter: AdapterRecord | None = None
    training: dict[str, float | int | str | None]
    job_id: str | None = None
    dashboard_url: str | None = None
    started_at: str
    """ISO 8601, UTC."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "kind": str(self.kind),
            "state": str(self.state),
            "preset": self.preset,
            "revision": self.revision,
            "message": self.message,
            "progress": self.progress.to_dict() if self.progress else None,
            "url": self.url,
            "models": list(self.models),
            "adapter": self.adapter.model_dump() if self.adapter else None,
            "training": self.training,
            "jobId": self.job_id,
            "dashboardUrl": self.dashboard_url,
            "startedAt": self.started_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What Ray says about one Workspace."""

    job: JobInfo | None = None
    app: AppInfo | None = None
    port: int | None = None


def read_status(
    state: StateDir, name: str | None, *, machine: Machine | None = None
) -> list[WorkspaceStatus]:
    """Every Workspace by name, or the one called `name`; empty when there is none."""
    world = _World(machine or LocalMachine(state))
    records = state.workspaces() if name is None else [r for r in (state.load(name),) if r is not None]
    return [world.status(record) for record in records]


def derive_state(record: WorkspaceRecord, live: Live) -> tuple[State, str]:
    """The one word, and the sentence that goes with it. Pure."""
    if live.app is not None:
        return _APP_STATES[live.app.status], live.app.message or record.message
    if live.job is not None and live.job.status.is_active:
        return State.TUNING, ""
    if record.outcome is Outcome.FAILED or (live.job is not None and live.job.status is JobStatus.FAILED):
        return State.FAILED, record.message or (live.job.message if live.job else "")
    if record.adapter is not None and record.outcome is Outcome.SUCCEEDED:
        return (State.FAILED if record.message else State.SUCCEEDED), record.message
    if record.outcome is Outcome.STOPPED or record.job_id is not None or record.application is not None:
        return State.STOPPED, record.message or "`kairay run` takes it up again"
    return (State.FAILED if record.message else State.PENDING), record.message


_APP_STATES = {
    AppStatus.NOT_STARTED: State.STARTING,
    AppStatus.DEPLOYING: State.STARTING,
    AppStatus.RUNNING: State.SERVING,
    AppStatus.UNHEALTHY: State.FAILED,
    AppStatus.DEPLOY_FAILED: State.FAILED,
    AppStatus.DELETING: State.STOPPED,
}


class _World:
    """Asks each Ray once, however many Workspaces it holds."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rays: dict[str | None, tuple[RayInstance | None, ServeInfo]] = {}

    def status(self, record: WorkspaceRecord) -> WorkspaceStatus:
        ray, serve = self._look(record.address)
        live, progress = Live(), None
        if ray is not None and ray.instance == record.ray:
            live = Live(
                job=self._find_job(record, ray),
                app=serve.applications.get(ray_service_name(record.name)),
                port=serve.port,
            )
            if live.job is not None and live.job.status.is_active:
                progress = self._machine.progress(ray, run_name(record.name, record.revision))
        state, message = derive_state(record, live)
        serving = state is State.SERVING and live.app is not None
        route = (live.app.route_prefix or "/").rstrip("/") if live.app is not None else ""
        return WorkspaceStatus(
            name=record.name,
            kind=record.kind,
            state=state,
            preset=record.preset,
            revision=record.revision,
            message=message,
            progress=progress,
            url=f"http://127.0.0.1:{live.port}{route}" if serving else None,
            models=record.models if serving else (),
            adapter=record.adapter,
            training=record.training,
            job_id=record.job_id,
            dashboard_url=ray.dashboard_url if ray is not None and ray.instance == record.ray else None,
            started_at=datetime.fromtimestamp(record.started_at, UTC).isoformat(timespec="seconds"),
        )

    def _look(self, address: str | None) -> tuple[RayInstance | None, ServeInfo]:
        if address not in self._rays:
            self._rays[address] = self._ask(address)
        return self._rays[address]

    def _ask(self, address: str | None) -> tuple[RayInstance | None, ServeInfo]:
        try:
            ray = self._machine.find_ray(address)
            return ray, ServeInfo() if ray is None else self._machine.serve(ray).read()
        except KairayError:
            # A Ray that cannot be asked is shown as one that does not run.
            return None, ServeInfo()

    def _find_job(self, record: WorkspaceRecord, ray: RayInstance) -> JobInfo | None:
        if record.job_id is None:
            return None
        try:
            return self._machine.jobs(ray).find(record.job_id)
        except KairayError:
            return None
