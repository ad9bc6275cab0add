"""The serving half of a run: one Serve application, deployed when it differs, watched until it answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kairay.errors import HostError, JobFailedError, TransientError
from kairay.local.machine import Machine, delete_app
from kairay.local.ray_instance import RayInstance
from kairay.local.report import Reporter
from kairay.local.result import RunOptions
from kairay.local.serve import AppInfo, AppStatus, ServeInfo
from kairay.local.state import StateDir, WorkspaceRecord
from kairay.names import ray_service_name
from kairay.plan import Plan
from kairay.ray.serve_config import serve_config
from kairay.ray.target import LOCAL, ServedAdapter, ServicePlace


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """The application as it is, and as it should be."""

    app: AppInfo | None
    config: Mapping[str, Any]
    url: str
    is_current: bool
    answers: bool
    serve_is_up: bool


class ServiceRun:
    """The service of one Workspace."""

    def __init__(
        self,
        plan: Plan,
        adapters: tuple[ServedAdapter, ...],
        engine_config: Mapping[str, Any],
        *,
        default_model: str | None,
        state: StateDir,
        machine: Machine,
        reporter: Reporter,
        options: RunOptions,
    ) -> None:
        self._plan = plan
        self._name = ray_service_name(plan.workspace)
        self._adapters = adapters
        self._engine_config = engine_config
        self.default_model = default_model or plan.preset
        self._state = state
        self._machine = machine
        self._reporter = reporter
        self._options = options
        self.deployed = False
        """This run deployed it."""

    @property
    def models(self) -> tuple[str, ...]:
        """Served names, the base model first."""
        return (self._plan.preset, *(adapter.name for adapter in self._adapters))

    def observe(self, record: WorkspaceRecord, ray: RayInstance) -> ServiceState:
        """Ask Serve what is there, and work out what should be."""
        info = self._machine.serve(ray).read()
        app = info.applications.get(self._name)
        port = info.port or ray.serve_port
        route = _choose_route(self._name, info, record.route_prefix)
        config = serve_config(
            self._plan, LOCAL,
            ServicePlace(port=port, route_prefix=route, adapters=self._adapters, default_model=self.default_model),
            model=self._options.model, engine_config=self._engine_config,
        )  # fmt: skip
        url = f"http://{LOCAL.http_host}:{port}{route.rstrip('/')}"
        current = record.ray == ray.instance and record.application == _digest(config)
        running = app is not None and app.status is AppStatus.RUNNING
        return ServiceState(
            app=app, config=config, url=url, is_current=current,
            answers=current and running and self._machine.answers(url), serve_is_up=info.port is not None,
        )  # fmt: skip

    def deploy(self, record: WorkspaceRecord, ray: RayInstance, seen: ServiceState) -> WorkspaceRecord:
        """Give Serve the application, recorded first; one that is broken or going is removed before."""
        serve = self._machine.serve(ray)
        self._reporter.stage(f"starting to serve {' and '.join(self.models)}")
        if not seen.serve_is_up:
            self._machine.check_port(ray.serve_port)
        if seen.app is not None and seen.app.status in (AppStatus.DEPLOY_FAILED, AppStatus.DELETING):
            self.delete(ray)
        record = record.model_copy(
            update={
                "application": _digest(seen.config), "models": self.models, "ray": ray.instance,
                "route_prefix": seen.config["applications"][0]["route_prefix"], "message": "",
            }
        )  # fmt: skip
        self._state.save(record)
        self.deployed = True
        serve.deploy(seen.config)
        return record

    def wait(self, record: WorkspaceRecord, ray: RayInstance) -> None:
        """Until the service answers or has failed; HostError when it takes too long."""
        started = answered = self._machine.now()
        said = ""
        while True:
            now = self._machine.now()
            try:
                seen = self.observe(record, ray)
            except TransientError:
                if not self._machine.is_alive(ray) or now - answered > self._options.silence_seconds:
                    raise
                self._machine.sleep(self._options.poll_seconds)
                continue
            answered = now
            if seen.app is None or seen.answers or seen.app.status is AppStatus.DEPLOY_FAILED:
                return
            if seen.app.message not in ("", said):
                said = seen.app.message
                self._reporter.note(said)
            if now - started > self._options.serve_seconds:
                raise HostError(
                    f"{self._name} does not answer after {now - started:.0f} s: {said or 'Serve gives no reason'}"
                )
            self._machine.sleep(self._options.poll_seconds)

    def fail(self, record: WorkspaceRecord, seen: ServiceState) -> tuple[WorkspaceRecord, JobFailedError]:
        """Record why Serve gave up; the error to raise."""
        reason = (seen.app.message if seen.app else "") or "Serve gives no reason"
        error = JobFailedError(f"the model cannot be served: {reason}", reason="ServingFailed")
        record = record.model_copy(update={"application": None, "message": str(error)})
        self._state.save(record)
        return record, error

    def delete(self, ray: RayInstance) -> None:
        """Remove the application and wait until it has gone."""
        delete_app(self._name, ray, self._machine)


def _choose_route(name: str, info: ServeInfo, recorded: str | None) -> str:
    """The route it has, if no other application took it; else "/" for the first, "/<name>" for the others."""
    taken = {app.route_prefix for app in info.applications.values() if app.name != name}
    return next(route for route in (recorded, "/", f"/{name}") if route is not None and route not in taken)


def _digest(config: Mapping[str, Any]) -> str:
    text = json.dumps(config["applications"][0], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
