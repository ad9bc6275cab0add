"""A real Ray instance: started, joined, used with and without its token, stopped without a trace."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from kairay.errors import HostError
from kairay.local import ray_instance
from kairay.local.jobs import JobInfo, JobsClient, JobStatus
from kairay.local.ports import free_ports
from kairay.local.processes import MARK, find_marked
from kairay.local.ray_instance import RayInstance, ensure_ray, env_exports, find_ray, stop_ray
from kairay.local.serve import AppInfo, AppStatus, ServeClient
from kairay.local.state import RayRecord, StateDir
from kairay.ray.job_word import last_word
from kairay.ray.serve_config import _KEYS

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDir]:
    state = StateDir(tmp_path_factory.mktemp("ray-state"))
    yield state
    stop_ray(state)


@pytest.fixture(scope="module")
def ray(state: StateDir) -> RayInstance:
    dashboard, serve = free_ports(2)
    return ensure_ray(state, dashboard_port=dashboard, serve_port=serve)


def test_the_dashboard_wants_the_token(ray: RayInstance) -> None:
    url = f"{ray.dashboard_url}/api/version"
    assert requests.get(url, timeout=30).status_code == 401
    assert requests.get(url, timeout=30, headers={"Authorization": f"Bearer {ray.token}"}).status_code == 200


def test_everything_listens_on_loopback_only(ray: RayInstance) -> None:
    family = {p.pid for p in find_marked(ray.instance)}
    listening = [
        c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in family
    ]
    assert len(listening) > 3
    public = [c for c in listening if not str(c.laddr[0]).endswith("127.0.0.1")]
    assert [(c.laddr, psutil.Process(c.pid).cmdline()) for c in public] == []


def test_the_token_and_the_folders_are_private(ray: RayInstance, state: StateDir) -> None:
    record = state.load_ray()
    assert record is not None
    assert state.token_path.stat().st_mode & 0o777 == 0o600
    assert Path(record.temp_dir).stat().st_mode & 0o777 == 0o700
    assert len(str(record.temp_dir)) < 40


def test_a_second_ensure_joins(ray: RayInstance, state: StateDir) -> None:
    again = ensure_ray(state)
    assert (again.instance, again.pid, again.dashboard_url) == (ray.instance, ray.pid, ray.dashboard_url)
    assert (ray.started_by_us, again.started_by_us) == (True, False)


def test_another_state_folder_is_told_who_holds_the_port(ray: RayInstance, tmp_path: Path) -> None:
    port = int(ray.dashboard_url.rpartition(":")[2])
    with pytest.raises(HostError, match=rf"port {port} for Ray's dashboard is in use by .*--dashboard-port"):
        ensure_ray(StateDir(tmp_path), dashboard_port=port)


def test_joining_by_address_needs_the_token(
    ray: RayInstance, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    with pytest.raises(HostError, match="RAY_AUTH_TOKEN_PATH"):
        ensure_ray(StateDir(tmp_path), address=ray.dashboard_url)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(state.token_path))
    joined = ensure_ray(StateDir(tmp_path), address=ray.dashboard_url)
    assert not joined.owned
    assert joined.dashboard.call("GET", "/api/version").ok


def test_ray_job_submit_works_by_hand_after_kairay_env(ray: RayInstance, state: StateDir) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | env_exports(state)
    which = "import sys, kairay; print('python is', sys.executable)"
    command = ["ray", "job", "submit", "--", "python", "-c", which]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"python is {sys.executable}" in done.stdout


def test_a_job_is_submitted_once_and_its_word_is_read(ray: RayInstance) -> None:
    jobs = JobsClient(ray.dashboard)
    script = 'print(\'noise\'); print(\'{"outcome": "Succeeded", "steps": 3}\')'
    request = {"entrypoint": shlex.join(["python", "-c", script]), "submission_id": "kairay-demo-0a1b2c-1"}
    assert jobs.submit(request) == jobs.submit(request) == "kairay-demo-0a1b2c-1"
    assert wait_for_end(jobs, "kairay-demo-0a1b2c-1").status is JobStatus.SUCCEEDED
    assert last_word(jobs.logs("kairay-demo-0a1b2c-1")).result == {"outcome": "Succeeded", "steps": 3}
    assert jobs.find("nobody") is None
    assert jobs.logs("nobody") == ""


def test_a_job_that_fails_leaves_its_exit_code_and_one_that_is_stopped_did_not_succeed(
    ray: RayInstance,
) -> None:
    jobs = JobsClient(ray.dashboard)
    jobs.submit({"entrypoint": "exit 3", "submission_id": "fails"})
    jobs.submit({"entrypoint": "sleep 600", "submission_id": "sleeps"})
    failed = wait_for_end(jobs, "fails")
    assert (failed.status, failed.exit_code) == (JobStatus.FAILED, 3)
    assert "sleeps" in jobs.active()
    jobs.stop("sleeps")
    assert wait_for_end(jobs, "sleeps").status is JobStatus.STOPPED
    jobs.stop("sleeps")
    assert jobs.active() == []


def test_applications_live_side_by_side_and_a_failure_gives_its_reason(
    ray: RayInstance, tmp_path: Path
) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    serve = ServeClient(ray.dashboard)
    deploy(serve, ray, "good", "served:app", "/", tmp_path)
    wait_for_app(serve, "good")
    deploy(serve, ray, "bad", "served:broken", "/bad", tmp_path)
    bad = wait_for_app(serve, "bad")
    assert (bad.status, bad.message) == (AppStatus.DEPLOY_FAILED, "ValueError: no such model")
    assert requests.get(ray.serve_url, timeout=30).text == "hello"
    serve.delete("bad")
    wait_until(lambda: list(serve.read().applications) == ["good"])
    serve.delete("good")
    wait_until(lambda: serve.read().applications == {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own schema uses pydantic in an old way
def test_every_key_that_we_give_serve_is_one_of_the_installed_ray() -> None:
    from ray.serve import config, schema

    known = {
        "": schema.ServeDeploySchema,
        "http_options": schema.HTTPOptionsSchema,
        "applications": schema.ServeApplicationSchema,
        "applications.deployments": schema.DeploymentSchema,
        "applications.deployments.autoscaling_config": config.AutoscalingConfig,
        "applications.deployments.ray_actor_options": schema.RayActorOptionsSchema,
        "applications.deployments.backpressure_config": config.BackpressureConfig,
    }
    assert known.keys() == _KEYS.keys()
    for path, keys in _KEYS.items():
        assert set(keys.split()) <= known[path].model_fields.keys(), path


def test_stop_leaves_no_process_and_no_folder(ray: RayInstance, state: StateDir) -> None:
    record = state.load_ray()
    assert record is not None
    assert find_marked(ray.instance)
    assert stop_ray(state) is True
    assert find_marked(ray.instance) == []
    assert not Path(record.temp_dir).exists()
    assert find_ray(state) is None
    assert stop_ray(state) is False


def test_a_taken_port_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(HostError, match=rf"port {port} .*\(process {os.getpid()}\).*--port"):
            ensure_ray(state, dashboard_port=free_ports(1)[0], serve_port=port)
    assert state.load_ray() is None


def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kairay.local.ray_command.OBJECT_STORE_BYTES", "much")
    folders = []
    make = ray_instance._make_temp_dir
    monkeypatch.setattr(ray_instance, "_make_temp_dir", lambda: folders.append(make()) or folders[-1])
    state = StateDir(tmp_path)
    dashboard, serve = free_ports(2)
    with pytest.raises(HostError, match=r"Ray did not start: .*much.*; its log is"):
        ensure_ray(state, dashboard_port=dashboard, serve_port=serve)
    assert state.load_ray() is None
    assert not Path(folders[-1]).exists()


def test_ctrl_c_while_ray_starts_leaves_nothing(tmp_path: Path) -> None:
    dashboard, serve = free_ports(2)
    code = (
        "import sys; from pathlib import Path; from kairay.local.state import StateDir;"
        "from kairay.local.ray_instance import ensure_ray;"
        f"ensure_ray(StateDir(Path(sys.argv[1])), dashboard_port={dashboard}, serve_port={serve})"
    )
    state = StateDir(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
    record = wait_for_record(state, child)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert b"KeyboardInterrupt" in error
    assert state.load_ray() is None
    assert find_marked(record.instance) == []
    assert not Path(record.temp_dir).exists()


def test_an_instance_whose_start_was_killed_is_found_again_and_stopped(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    sleeper = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: "orphan00"}, start_new_session=True)
    state.save_ray(
        RayRecord(
            instance="orphan00", pid=None, create_time=0, version="2.60.0", gcs_port=1, dashboard_port=1, agent_port=1,
            metrics_port=1, serve_port=1, temp_dir=str(tmp_path / "t"), log=str(tmp_path / "log"),
        )
    )  # fmt: skip
    assert find_ray(state) is not None
    stop_ray(state)
    assert sleeper.poll() is not None
    assert find_ray(state) is None


def wait_for_record(state: StateDir, child: subprocess.Popen[bytes]) -> RayRecord:
    while child.poll() is None:
        record = state.load_ray()
        if record is not None and record.pid is not None:
            return record
    raise AssertionError(f"the start ended by itself: {child.communicate()[1].decode()}")


SERVED = """
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0})
class App:
    async def __call__(self, request):
        return "hello"

app = App.bind()

def broken(args: dict):
    raise ValueError("no such model")
"""


def deploy(
    serve: ServeClient, ray: RayInstance, name: str, import_path: str, route: str, folder: Path
) -> None:
    app = {
        "name": name, "import_path": import_path, "route_prefix": route,
        "runtime_env": {"env_vars": {"PYTHONPATH": str(folder)}},
    }  # fmt: skip
    http = {"host": "127.0.0.1", "port": ray.serve_port}
    serve.deploy({"proxy_location": "HeadOnly", "http_options": http, "applications": [app]})


def wait_for_app(serve: ServeClient, name: str) -> AppInfo:
    wait_until(lambda: serve.read().applications[name].status is not AppStatus.DEPLOYING)
    return serve.read().applications[name]


def wait_for_end(jobs: JobsClient, job_id: str) -> JobInfo:
    wait_until(lambda: (info := jobs.find(job_id)) is not None and not info.status.is_active)
    info = jobs.find(job_id)
    assert info is not None
    return info


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll; pytest's time-out ends a wait that has no end."""
    while not holds():
        time.sleep(0.2)
