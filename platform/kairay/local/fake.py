"""A machine that exists in memory: Ray, its jobs and Serve, artifacts and a clock, for tests of what is built on them.

Time passes only in `sleep`. Jobs and applications go through the states they were given, one for each look.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kairay.errors import HostError, KairayError, TransientError
from kairay.local.jobs import JobInfo, JobStatus
from kairay.local.machine import FoundAdapter
from kairay.local.ray_instance import RayInstance
from kairay.local.serve import AppInfo, AppStatus, ServeInfo
from kairay.ray.progress import TuningProgress

SUCCEEDS = (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCEEDED)
DEPLOYS = (AppStatus.DEPLOYING, AppStatus.RUNNING)


@dataclass(slots=True)
class FakeJobs:
    """Jobs that follow a script; the last state stays."""

    script: tuple[JobStatus, ...] = SUCCEEDS
    exit_code: int | None = None
    last_line: str = ""
    """What the driver says in the end; empty: a result when it succeeds."""
    on_success: Callable[[Mapping[str, Any]], None] = lambda _: None
    """Called with the job's request."""
    check: Callable[[], None] = lambda: None
    """Raises when Ray does not answer."""
    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    submissions: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    _left: dict[str, list[JobStatus]] = field(default_factory=dict)

    def submit(self, request: Mapping[str, Any]) -> str:
        """Start a job; an id that is there changes nothing."""
        job_id = str(request["submission_id"])
        self.submissions.append(job_id)
        if job_id not in self.requests:
            self.requests[job_id] = request
            self._left[job_id] = list(self.script)
        return job_id

    def find(self, job_id: str) -> JobInfo | None:
        """The next state of its script."""
        self.check()
        if job_id not in self._left:
            return None
        left = self._left[job_id]
        status = left.pop(0) if len(left) > 1 else left[0]
        if status is JobStatus.SUCCEEDED:
            self.on_success(self.requests[job_id])
        return JobInfo(id=job_id, status=status, exit_code=None if status.is_active else self.exit_code)

    def forget(self) -> None:
        """What a new instance knows of the jobs of an old one."""
        self.requests.clear()
        self._left.clear()

    def active(self) -> list[str]:
        """Jobs whose script has not ended."""
        self.check()
        return sorted(job for job, left in self._left.items() if left[0].is_active)

    def logs(self, job_id: str) -> str:
        """A line for a person, and the last word."""
        if job_id not in self._left:
            return ""
        result = {
            "outcome": "Succeeded",
            "steps": 10,
            "loss": 0.5,
            "tokensPerSecond": 90.0,
            "trainingSeconds": 12.0,
        }
        return f"training\n{self.last_line or json.dumps(result)}\n"

    def stop(self, job_id: str) -> None:
        """It has ended by the next look."""
        self.stopped.append(job_id)
        if job_id in self._left and self._left[job_id][0].is_active:
            self._left[job_id] = [JobStatus.STOPPED]


@dataclass(slots=True)
class FakeServe:
    """Applications that follow a script once they are deployed; the last state stays."""

    script: tuple[AppStatus, ...] = DEPLOYS
    message: str = ""
    """Of an application that failed."""
    check: Callable[[], None] = lambda: None
    """Raises when Ray does not answer."""
    deployed: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    deployments: list[str] = field(default_factory=list)
    port: int = 8000
    _left: dict[str, list[AppStatus]] = field(default_factory=dict)

    def read(self) -> ServeInfo:
        """All applications in the next state of their scripts."""
        self.check()
        applications = {}
        for name, config in sorted(self.deployed.items()):
            left = self._left[name]
            status = left.pop(0) if len(left) > 1 else left[0]
            message = self.message if status is AppStatus.DEPLOY_FAILED else ""
            applications[name] = AppInfo(
                name=name, status=status, message=message, route_prefix=config["route_prefix"], config=config
            )
        return ServeInfo(applications=applications, port=self.port if self.deployed else None)

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Take the one application of the config."""
        (app,) = config["applications"]
        self.deployed[app["name"]] = app
        self.deployments.append(app["name"])
        self._left[app["name"]] = list(self.script)

    def delete(self, name: str) -> None:
        """Gone at once."""
        self.deployed.pop(name, None)
        self._left.pop(name, None)


@dataclass(slots=True)
class FakeMachine:
    """The world of a run, in memory."""

    fake_jobs: FakeJobs = field(default_factory=FakeJobs)
    fake_serve: FakeServe = field(default_factory=FakeServe)
    adapters: dict[str, FoundAdapter] = field(default_factory=dict)
    """By reference."""
    unpacked: list[tuple[str, Path]] = field(default_factory=list)
    instance: RayInstance | None = None
    starts: int = 0
    clock: float = 1_000_000.0
    registry_error: KairayError | None = None
    """Raised whenever an artifact is looked for at a registry."""
    events: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    """What happens once so many seconds have been slept; it may raise."""
    silent: bool = False
    """Ray lives but does not answer."""
    slept: float = 0.0

    def find_ray(self, address: str | None) -> RayInstance | None:
        """The instance, if it was started."""
        return None if self.instance is None else replace(self.instance, started_by_us=False)

    def ensure_ray(self, *, dashboard_port: int, serve_port: int, address: str | None) -> RayInstance:
        """Start it once; later calls join."""
        if self.instance is not None:
            return replace(self.instance, started_by_us=False)
        self.starts += 1
        self.fake_serve.port = serve_port
        self.fake_serve.deployed.clear()
        self.fake_jobs.forget()
        self.instance = RayInstance(
            instance=f"ray{self.starts}", address="127.0.0.1:1", dashboard_url=f"http://127.0.0.1:{dashboard_port}",
            metrics_url=None, serve_port=serve_port, pid=1, token="t", started_by_us=True,  # noqa: S106  nobody's
        )  # fmt: skip
        return self.instance

    def is_alive(self, ray: RayInstance) -> bool:
        """Whether it is still there."""
        return self.instance is not None

    def stop_ray(self) -> bool:
        """Everything in it ends with it."""
        running, self.instance = self.instance is not None, None
        return running

    def jobs(self, ray: RayInstance) -> FakeJobs:
        """Its jobs."""
        self.fake_jobs.check = lambda: self._check(ray)
        return self.fake_jobs

    def serve(self, ray: RayInstance) -> FakeServe:
        """Its applications."""
        self.fake_serve.check = lambda: self._check(ray)
        return self.fake_serve

    def progress(self, ray: RayInstance, run: str) -> TuningProgress | None:
        """Always half-way."""
        return TuningProgress(step=5, total_steps=10, progress=0.5, loss=1.0)

    def check_port(self, port: int) -> None:
        """All ports are free."""

    def answers(self, url: str) -> bool:
        """What runs answers."""
        return True

    def find_adapter(self, reference: str) -> FoundAdapter | None:
        """What was put there."""
        if self.registry_error is not None and not reference.startswith("oci:"):
            raise self.registry_error
        return self.adapters.get(reference)

    def copy_adapter(self, source: str, target: str, *, tags: tuple[str, ...] = ()) -> FoundAdapter:
        """The same digest at another place."""
        if source not in self.adapters:
            raise HostError(f"{source} is not there")
        self.adapters[target] = replace(self.adapters[source], reference=target)
        return self.adapters[target]

    def unpack(self, source: str, folder: Path) -> None:
        """Noted only."""
        self.unpacked.append((source, folder))

    def now(self) -> float:
        """The fake clock."""
        return self.clock

    def sleep(self, seconds: float) -> None:
        """Moves the fake clock, and lets happen what is due."""
        self.clock += seconds
        self.slept += seconds
        due = [event for at, event in self.events if self.slept >= at]
        self.events = [(at, event) for at, event in self.events if self.slept < at]
        for event in due:
            event()

    def _check(self, ray: RayInstance) -> None:
        if self.silent or self.instance is None or self.instance.instance != ray.instance:
            raise TransientError(f"Ray does not answer at {ray.dashboard_url}")
