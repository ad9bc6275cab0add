"""All that a run touches outside itself, behind one narrow interface: Ray, artifacts, data, the clock.

`LocalMachine` is the real one, `fake.FakeMachine` its double for tests.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kairay.local.dashboard import Dashboard
from kairay.local.jobs import Jobs, JobsClient
from kairay.local.ports import check_port
from kairay.local.progress import read_progress
from kairay.local.ray_instance import RayInstance, ensure_ray, find_ray, is_alive, join_foreign, stop_ray
from kairay.local.serve import Serve, ServeClient
from kairay.local.state import StateDir
from kairay.ray.progress import TuningProgress
from kairay.registry.annotations import REVISION

JOB_SECONDS = 20.0
"""Until a job that was asked to end has ended; Ray kills it after three."""

APP_SECONDS = 60.0
"""Until an application that was deleted has gone; it may finish requests first."""

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAdapter:
    """An adapter that is somewhere."""

    reference: str
    digest: str
    revision: str | None


class Machine(Protocol):
    """The world of a run; every call may raise an error of the tree."""

    def find_ray(self, address: str | None) -> RayInstance | None:
        """Our instance if it lives, or the one at `address`."""

    def ensure_ray(self, *, dashboard_port: int, serve_port: int, address: str | None) -> RayInstance:
        """Start our instance or join one."""

    def is_alive(self, ray: RayInstance) -> bool:
        """Whether it is worth asking again when it does not answer."""

    def stop_ray(self) -> bool:
        """End our instance; False when none ran."""

    def jobs(self, ray: RayInstance) -> Jobs:
        """Its Jobs API."""

    def serve(self, ray: RayInstance) -> Serve:
        """Its Serve API."""

    def progress(self, ray: RayInstance, run: str) -> TuningProgress | None:
        """Where a tuning run is."""

    def check_port(self, port: int) -> None:
        """HostError when something else listens where Serve is about to."""

    def answers(self, url: str) -> bool:
        """Whether a service is healthy."""

    def find_adapter(self, reference: str) -> FoundAdapter | None:
        """The adapter at a place; None where there is none."""

    def copy_adapter(self, source: str, target: str, *, tags: tuple[str, ...] = ()) -> FoundAdapter:
        """Store the adapter at another place too, under further tags as well; the digest stays."""

    def unpack(self, source: str, folder: Path) -> None:
        """Make a folder hold an artifact's plain files."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class LocalMachine:
    """This machine."""

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def find_ray(self, address: str | None) -> RayInstance | None:
        """Our instance if it lives, or the one at `address`."""
        return find_ray(self._state) if address is None else join_foreign(address)

    def ensure_ray(self, *, dashboard_port: int, serve_port: int, address: str | None) -> RayInstance:
        """Start our instance or join one."""
        return ensure_ray(self._state, dashboard_port=dashboard_port, serve_port=serve_port, address=address)

    def is_alive(self, ray: RayInstance) -> bool:
        """Whether its process lives; of one that is not ours nothing can be known."""
        return is_alive(self._state, ray)

    def stop_ray(self) -> bool:
        """End our instance; False when none ran."""
        return stop_ray(self._state)

    def jobs(self, ray: RayInstance) -> Jobs:
        """Its Jobs API."""
        return JobsClient(ray.dashboard)

    def serve(self, ray: RayInstance) -> Serve:
        """Its Serve API."""
        return ServeClient(ray.dashboard)

    def progress(self, ray: RayInstance, run: str) -> TuningProgress | None:
        """Where a tuning run is."""
        return read_progress(ray, run)

    def check_port(self, port: int) -> None:
        """HostError when something else listens where Serve is about to."""
        check_port(port, "the model's HTTP server", "--port (after `kairay stop --all`)")

    def answers(self, url: str) -> bool:
        """Whether a service is healthy."""
        return Dashboard(url, None).reaches("/health")

    def find_adapter(self, reference: str) -> FoundAdapter | None:
        """The adapter at a place; None where there is none."""
        from kairay.registry.artifact import find

        found = find(reference)
        if found is None:
            return None
        return FoundAdapter(
            reference=reference, digest=found.digest, revision=found.annotations.get(REVISION)
        )

    def copy_adapter(self, source: str, target: str, *, tags: tuple[str, ...] = ()) -> FoundAdapter:
        """Store the adapter at another place too, under further tags as well; the digest stays."""
        from kairay.registry.artifact import ArtifactMedia, pull, push_directory, tag

        with tempfile.TemporaryDirectory(prefix="kairay-adapter-") as folder:
            pulled = pull(source, Path(folder) / "files")
            pushed = push_directory(
                Path(folder) / "files", target, media=ArtifactMedia.ADAPTER, annotations=pulled.annotations
            )
        for each in tags:
            tag(target, each)
        return FoundAdapter(reference=target, digest=pushed.digest, revision=pushed.annotations.get(REVISION))

    def unpack(self, source: str, folder: Path) -> None:
        """Make a folder hold an artifact's plain files."""
        from kairay.registry.artifact import pull

        pull(source, folder)

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


def is_idle(machine: Machine, ray: RayInstance) -> bool:
    """Whether an instance neither serves nor has a job at work; one that has died is idle."""
    if not machine.is_alive(ray):
        return True
    return not machine.serve(ray).read().applications and not machine.jobs(ray).active()


def delete_app(name: str, ray: RayInstance, machine: Machine) -> bool:
    """Remove an application and wait until it has gone; False when it was not there."""
    serve = machine.serve(ray)
    if name not in serve.read().applications:
        return False
    serve.delete(name)
    deadline = machine.now() + APP_SECONDS
    while name in serve.read().applications and machine.now() < deadline:
        machine.sleep(POLL_SECONDS)
    return True


def end_job(job_id: str, ray: RayInstance, machine: Machine) -> bool:
    """Stop a job and wait until it has ended; False when it was not at work."""
    jobs = machine.jobs(ray)
    info = jobs.find(job_id)
    if info is None or not info.status.is_active:
        return False
    jobs.stop(job_id)
    deadline = machine.now() + JOB_SECONDS
    while info is not None and info.status.is_active and machine.now() < deadline:
        machine.sleep(POLL_SECONDS)
        info = jobs.find(job_id)
    return True
