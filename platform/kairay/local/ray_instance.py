"""The one Ray instance of this machine: start it or join it, ask whether it lives, stop it.

Only an instance that we recorded, or a dashboard that was named, is ever joined; only processes that carry
our instance's mark are ever signalled. It outlives the command that started it.
"""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from kairay.errors import HostError, InputError, TransientError
from kairay.local.dashboard import Dashboard
from kairay.local.ports import LOOPBACK, check_port, free_ports
from kairay.local.processes import end_instance, find_marked, find_process, spawn_detached
from kairay.local.ray_command import RayPorts, prepend_path, start_command, start_environment
from kairay.local.state import RayRecord, StateDir
from kairay.local.state_folder import LOCK_SECONDS, RAY

START_SECONDS = 120.0
"""Until the dashboard answers: 5 s on two quiet cores, a minute on busy ones."""

STOP_SECONDS = 5.0
"""Ray ends in 3 s by itself, unless a replica lingers; nothing in it needs longer, and what still runs is killed."""

FOREIGN = "foreign"
"""Name of an instance that is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayInstance:
    """A Ray that answers."""

    instance: str
    address: str | None
    """host:port of the GCS; None for an instance that is not ours."""
    dashboard_url: str
    metrics_url: str | None
    """Prometheus text of the node, with what jobs report; None: ask the dashboard where it is."""
    serve_port: int
    pid: int | None
    token: str | None
    started_by_us: bool
    """Whether this very call started it."""

    @property
    def owned(self) -> bool:
        """Whether Kairay started it, now or earlier, and so may stop it."""
        return self.instance != FOREIGN

    @property
    def serve_url(self) -> str:
        """Where Serve answers."""
        return f"http://{LOOPBACK}:{self.serve_port}"

    @property
    def dashboard(self) -> Dashboard:
        """A connection to it."""
        return Dashboard(self.dashboard_url, self.token)


def ensure_ray(
    state: StateDir, *, dashboard_port: int = 8265, serve_port: int = 8000, address: str | None = None
) -> RayInstance:
    """Join our running instance, or start one; with `address`, join that dashboard instead.

    Raises HostError when a port is taken, Ray is not installed, its version is another one or it does not
    come up; whatever was started is gone then.
    """
    if address is not None:
        return join_foreign(address, serve_port=serve_port)
    with state.lock(RAY, wait=LOCK_SECONDS):
        record = state.load_ray()
        if record is not None:
            if _leader(record) is not None:
                _check_version(record.version, "`kairay stop --all`, then run again")
                _wait_ready(record, state.token())
                return _as_instance(record, state.token(), started_by_us=False)
            _remove(state, record, grace=0)
        return _start(state, dashboard_port, serve_port)


def find_ray(state: StateDir) -> RayInstance | None:
    """Our instance if its process lives; asks no network."""
    record = state.load_ray()
    if record is None or _leader(record) is None:
        return None
    return _as_instance(record, state.token(), started_by_us=False)


def is_alive(state: StateDir, ray: RayInstance) -> bool:
    """Whether the process of our instance lives; one that is not ours is taken to."""
    if not ray.owned:
        return True
    record = state.load_ray()
    return record is not None and record.instance == ray.instance and _leader(record) is not None


def stop_ray(state: StateDir) -> bool:
    """End our instance and remove its folder; False when none ran. Returns when no process of it is left."""
    with state.lock(RAY, wait=LOCK_SECONDS):
        record = state.load_ray()
        if record is None:
            return False
        running = _leader(record) is not None
        _remove(state, record, grace=STOP_SECONDS)
        return running


def join_foreign(address: str, *, serve_port: int = 8000) -> RayInstance:
    """A Ray that somebody else started on this machine; HostError when its version is not ours."""
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in (LOOPBACK, "localhost", "::1"):
        raise InputError(
            f"--address {address}: data and adapters go by file path, so Ray must run on this machine: http://127.0.0.1:8265"
        )
    token = _callers_token()
    dashboard = Dashboard(url, token)
    version = dashboard.call("GET", "/api/version").json().get("ray_version", "unknown")
    _check_version(version, f"join it from an environment with ray=={version}")
    return RayInstance(
        instance=FOREIGN, address=None, dashboard_url=dashboard.url, metrics_url=None,
        serve_port=serve_port, pid=None, token=token, started_by_us=False,
    )  # fmt: skip


def env_exports(state: StateDir) -> dict[str, str]:
    """Variables that lead `ray job submit` and `serve` to our instance; HostError when none runs."""
    instance = find_ray(state)
    if instance is None:
        raise HostError("no Ray instance of ours runs here; `kairay run FILE` starts one")
    return {
        "RAY_ADDRESS": instance.dashboard_url,
        "RAY_DASHBOARD_ADDRESS": instance.dashboard_url,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(state.token_path),
        "PATH": prepend_path(str(_bin_dir()), os.environ.get("PATH", os.defpath)),
    }


def _start(state: StateDir, dashboard_port: int, serve_port: int) -> RayInstance:
    program = _bin_dir() / "ray"
    if not program.exists():
        raise HostError("Ray is not installed beside this command: pip install 'kairay[worker]'")
    check_port(dashboard_port, "Ray's dashboard", "--dashboard-port")
    check_port(serve_port, "the model's HTTP server", "--port")
    gcs, *others = free_ports(8)
    ports = RayPorts(
        gcs=gcs, dashboard=dashboard_port, metrics=others[0], client=others[1],
        agent_http=others[2], agent_grpc=others[3], runtime_env=others[4],
        autoscaler_metrics=others[5], dashboard_metrics=others[6],
    )  # fmt: skip
    token = state.token()
    instance = secrets.token_hex(4)
    record = RayRecord(
        instance=instance, pid=None, create_time=0.0, version=_installed_version(), gcs_port=gcs,
        dashboard_port=dashboard_port, agent_port=ports.agent_http, metrics_port=ports.metrics,
        serve_port=serve_port,
        temp_dir=_make_temp_dir(), log=str(state.folder("logs") / f"ray-{instance}.log"),
    )  # fmt: skip
    try:
        # Recorded before it is spawned: killed in between, we leave processes that the next command can name.
        state.save_ray(record)
        command = start_command(str(program), ports, Path(record.temp_dir) / "r")
        environment = start_environment(
            os.environ, instance=instance, token_path=state.token_path, bin_dir=_bin_dir(), ports=ports
        )
        process = spawn_detached(command, environment, Path(record.log))
        record = record.model_copy(update={"pid": process.pid, "create_time": process.create_time()})
        state.save_ray(record)
        _wait_ready(record, token)
    except BaseException:
        _remove(state, record, grace=STOP_SECONDS)
        raise
    return _as_instance(record, token, started_by_us=True)


def _wait_ready(record: RayRecord, token: str, *, clock: Callable[[], float] = time.monotonic) -> None:
    dashboard = Dashboard(f"http://{LOOPBACK}:{record.dashboard_port}", token)
    agent = Dashboard(f"http://{LOOPBACK}:{record.agent_port}", token)
    deadline = clock() + START_SECONDS
    while True:
        if _leader(record) is None:
            raise HostError(f"Ray did not start: {last_line(Path(record.log))}; its log is {record.log}")
        try:
            # The agent answers for the raylet, and it is what starts jobs.
            if dashboard.call("GET", "/api/version").ok and agent.call("GET", "/api/local_raylet_healthz").ok:
                return
        except TransientError:
            pass
        if clock() > deadline:
            raise HostError(f"Ray was not ready in {START_SECONDS:.0f} s; its log is {record.log}")
        time.sleep(0.1)


def last_line(log: Path) -> str:
    """The last line that a program left in its log."""
    try:
        lines = log.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return next((line.strip()[:400] for line in reversed(lines) if line.strip()), "it left no word")


def _leader(record: RayRecord) -> psutil.Process | None:
    """The `ray start` process; the oldest marked one when a start was cut off before the pid was written."""
    if record.pid is not None:
        return find_process(record.pid, record.create_time)
    return min(find_marked(record.instance), key=lambda p: p.pid, default=None)


def _remove(state: StateDir, record: RayRecord, *, grace: float) -> None:
    end_instance(record.instance, _leader(record), grace=grace)
    shutil.rmtree(record.temp_dir, ignore_errors=True)
    state.clear_ray()


def _as_instance(record: RayRecord, token: str, *, started_by_us: bool) -> RayInstance:
    return RayInstance(
        instance=record.instance,
        address=f"{LOOPBACK}:{record.gcs_port}",
        dashboard_url=f"http://{LOOPBACK}:{record.dashboard_port}",
        metrics_url=f"http://{LOOPBACK}:{record.metrics_port}/metrics",
        serve_port=record.serve_port,
        pid=record.pid,
        token=token,
        started_by_us=started_by_us,
    )


def _make_temp_dir() -> str:
    # Short, because Ray's sockets live below it and their paths end at 107 characters; private, because Ray
    # opens its own folder to everybody.
    short = Path("/tmp")  # noqa: S108  mkdtemp gives it a random name and 0700
    return tempfile.mkdtemp(prefix=f"kairay-{os.getuid()}-", dir=short if short.is_dir() else None)


def _bin_dir() -> Path:
    # Not resolved: in a virtual environment `python` is a link, and its folder is what counts.
    return Path(sys.executable).parent


def _installed_version() -> str:
    try:
        return importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError as error:
        raise HostError("Ray is not installed here: pip install 'kairay[worker]'") from error


def _check_version(running: str, remedy: str) -> None:
    if running != (installed := _installed_version()):
        raise HostError(f"the Ray that runs is {running} and the one installed here is {installed}: {remedy}")


def _callers_token() -> str | None:
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return Path(path).expanduser().read_text("utf-8").strip()
        except OSError as error:
            raise InputError(f"RAY_AUTH_TOKEN_PATH={path} cannot be read: {error.strerror}") from error
    return None
