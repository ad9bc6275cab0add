"""The state folder: private, whole after a kill, readable by the next version; and what is read off Ray's answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kairay.errors import DataError, HostError, InputError, JobFailedError, KairayError, TransientError
from kairay.local.dashboard import Answer, Dashboard
from kairay.local.jobs import JobInfo, JobStatus, job_error
from kairay.local.ports import check_port, free_ports, is_free
from kairay.local.processes import MARK
from kairay.local.ray_command import RayPorts, prepend_path, start_command, start_environment
from kairay.local.ray_instance import env_exports, find_ray, last_line, stop_ray
from kairay.local.serve import ServeClient
from kairay.local.state import Outcome, RayRecord, StateDir, WorkKind, WorkspaceRecord
from kairay.ray.job_word import last_word
from kairay.ray.progress import tuning_progress

PORTS = RayPorts(
    gcs=1, dashboard=2, metrics=3, client=4, agent_http=5, agent_grpc=6, runtime_env=7,
    autoscaler_metrics=8, dashboard_metrics=9,
)  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def record(name: str = "demo") -> WorkspaceRecord:
    return WorkspaceRecord(
        name=name, kind=WorkKind.TUNING, preset="smollm2-135m-instruct", revision="0a1b2c", started_at=1.5
    )


def test_a_record_comes_back_as_it_was(state: StateDir) -> None:
    assert state.load("demo") is None
    state.save(record())
    assert state.load("demo") == record()
    assert state.workspaces() == (record(),)
    state.delete("demo")
    assert state.workspaces() == ()


def test_everything_is_private(state: StateDir) -> None:
    state.save(record())
    state.token()
    assert state.root.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in state.root.rglob("*") if p.is_file()} == {0o600}


def test_the_token_is_made_once(state: StateDir) -> None:
    token = state.token()
    assert len(token) == 64
    assert state.token() == token


def test_a_record_of_a_newer_version_is_read_without_what_is_new(state: StateDir) -> None:
    state.save(record())
    path = state.root / "workspaces" / "demo.json"
    path.write_text(path.read_text().replace("{", '{"flavour": "vanilla",', 1))
    assert state.load("demo") == record()


def test_a_broken_record_is_named(state: StateDir) -> None:
    state.save(record())
    (state.root / "workspaces" / "demo.json").write_text('{"name": ')
    with pytest.raises(HostError, match=r"demo\.json is not a record of ours any more"):
        state.load("demo")


@pytest.mark.parametrize("name", ["../ray", "a/b", ".hidden", ""])
def test_a_name_cannot_lead_out_of_the_folder(state: StateDir, name: str) -> None:
    with pytest.raises(InputError, match="is not the name of a Workspace"):
        state.load(name)


def test_a_write_that_fails_leaves_the_old_file(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(record())

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(HostError, match=r"cannot write .*No space left on device"):
        state.save(record().model_copy(update={"outcome": Outcome.FAILED}))
    assert state.load("demo") == record()
    assert [p.name for p in (state.root / "workspaces").iterdir()] == ["demo.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="KAIRAY_STATE_DIR names another place"):
        StateDir(tmp_path / "file" / "state").save(record())


def test_two_commands_do_not_work_on_one_workspace(state: StateDir) -> None:
    refused = pytest.raises(HostError, match=r"another kairay \(process \d+\) is at work on demo")
    with state.lock("demo"), refused, state.lock("demo"):
        pass
    with state.lock("demo"):
        pass


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert StateDir.default().root == tmp_path / "kairay"
    monkeypatch.setenv("KAIRAY_STATE_DIR", str(tmp_path / "mine"))
    assert StateDir.default().root == tmp_path / "mine"


def test_ray_listens_on_loopback_with_ports_that_we_know() -> None:
    command = start_command("/venv/bin/ray", PORTS, Path("/tmp/k/r"))
    assert command[:4] == ["/venv/bin/ray", "start", "--head", "--block"]
    assert {
        "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1",
        "--dashboard-port=2",
        "--port=1",
    } <= set(command)


def test_rays_environment_has_our_token_and_nothing_that_misleads_it() -> None:
    caller = {
        "PATH": "/usr/bin",
        "RAY_ADDRESS": "1.2.3.4:5",
        "RAY_AUTH_TOKEN": "other",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment = start_environment(
        caller, instance="abc", token_path=Path("/s/ray-token"), bin_dir=Path("/venv/bin"), ports=PORTS
    )
    assert environment["PATH"] == "/venv/bin:/usr/bin"
    assert (environment["RAY_AUTH_MODE"], environment["RAY_AUTH_TOKEN_PATH"]) == ("token", "/s/ray-token")
    assert environment[MARK] == "abc"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "PYTHONDONTWRITEBYTECODE"} & environment.keys()


def test_a_folder_comes_first_in_the_path_once() -> None:
    assert prepend_path("/b", "/a:/b:/c") == "/b:/a:/c"


def test_without_an_instance_env_says_how_to_get_one(state: StateDir) -> None:
    with pytest.raises(HostError, match="kairay run FILE"):
        env_exports(state)


def test_a_record_whose_process_is_gone_is_no_instance_and_stops_cleanly(
    state: StateDir, tmp_path: Path
) -> None:
    folder = tmp_path / "ray-temp"
    folder.mkdir()
    state.save_ray(
        RayRecord(
            instance="gone0000", pid=1, create_time=1.0, version="2.60.0", gcs_port=1, dashboard_port=1, agent_port=1,
            metrics_port=1, serve_port=1, temp_dir=str(folder), log="/nowhere",
        )
    )  # fmt: skip
    assert find_ray(state) is None
    assert stop_ray(state) is False
    assert state.load_ray() is None
    assert not folder.exists()


def test_a_port_in_use_names_its_holder_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(
            HostError, match=rf"port {port} for the dashboard is in use by .*--dashboard-port"
        ):
            check_port(port, "the dashboard", "--dashboard-port")
    check_port(port, "the dashboard", "--dashboard-port")


def test_chosen_ports_differ_and_are_none_that_systems_give_away_by_themselves() -> None:
    chosen = free_ports(8)
    assert len(set(chosen)) == 8
    assert all(20_000 <= port < 30_000 for port in chosen)


def test_a_port_that_somebody_holds_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("kairay.local.ports._CHOSEN_FROM", range(port, port + 1))
        with pytest.raises(HostError, match="no 1 ports are free"):
            free_ports(1)


def test_the_last_word_of_a_log_is_its_last_line_with_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "it left no word"
    log.write_text("Traceback\nValueError: no room\n\n")
    assert last_line(log) == "ValueError: no room"


@pytest.mark.parametrize(
    ("log", "result", "error"),
    [
        ('x\n{"outcome": "Succeeded", "steps": 3}\n', {"outcome": "Succeeded", "steps": 3}, None),
        ('{"outcome": "Succeeded"}\n(raylet) goodbye\n', {"outcome": "Succeeded"}, None),
        (
            '{"error": {"reason": "InvalidData", "message": "a:1: bad"}}',
            None,
            {"reason": "InvalidData", "message": "a:1: bad"},
        ),
        ('{"loss": 1}\n{broken\nTraceback\n', None, None),
        ("", None, None),
    ],
)
def test_a_jobs_last_json_line_is_its_word(log: str, result: object, error: object) -> None:
    word = last_word(log)
    assert (word.result, word.error) == (result, error)


@pytest.mark.parametrize(
    ("exit_code", "kind"),
    [
        (1, JobFailedError),
        (2, InputError),
        (3, DataError),
        (4, HostError),
        (5, TransientError),
        (6, JobFailedError),
    ],
)
def test_a_jobs_error_keeps_its_meaning(exit_code: int, kind: type[KairayError]) -> None:
    info = JobInfo(id="j", status=JobStatus.FAILED, exit_code=exit_code)
    error = job_error(info, '{"error": {"reason": "Why", "message": "what and where"}}', "/log")
    assert type(error) is kind
    assert error.reason == "Why"
    assert error.message.startswith("what and where")


def test_a_job_without_a_word_is_told_by_its_last_line_and_its_log() -> None:
    info = JobInfo(id="j", status=JobStatus.FAILED, exit_code=137, message="killed")
    assert (
        job_error(info, "loading\nKilled\n", "/log").message
        == "the tuning job ended without a result: Killed (log: /log)"
    )
    stopped = JobInfo(id="j", status=JobStatus.STOPPED)
    assert "was stopped" in job_error(stopped, "", "/log").message


def sample(name: str, value: object, **labels: str) -> str:
    given = ",".join(
        f'{key}="{text}"' for key, text in {"run": "demo-1", "workspace": "demo", **labels}.items()
    )
    return f"ray_kairay_tuning_{name}{{{given}}} {value}"


def test_progress_is_read_from_the_series_that_is_furthest_on() -> None:
    text = "\n".join([
        "# HELP ray_kairay_tuning_step Steps", "# TYPE ray_kairay_tuning_step gauge",
        sample("step", 3.0, WorkerId="old"), sample("total_steps", 20.0, WorkerId="old"),
        sample("step", 5.0, WorkerId="new"), sample("total_steps", 20.0, WorkerId="new"),
        sample("loss", 0.75, WorkerId="new"), sample("tokens_per_second", "1e2", WorkerId="new"),
        sample("eta_seconds", "NaN", WorkerId="new"), sample("progress_ratio", 0.25, WorkerId="new"),
        sample("step", 19.0, run="another"), sample("total_steps", 20.0, run="another"),
    ])  # fmt: skip
    progress = tuning_progress(text, "demo-1")
    assert progress is not None
    assert progress.to_dict() == {
        "step": 5, "totalSteps": 20, "progress": 0.25, "loss": 0.75, "tokensPerSecond": 100.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "garbage {{{", sample("step", 1.0), sample("total_steps", 0.0), "ray_kairay_tuning_step nope"],
)
def test_without_a_known_end_there_is_no_progress(text: str) -> None:
    assert tuning_progress(text, "demo-1") is None


def test_label_values_with_quotes_and_braces_are_read() -> None:
    text = "\n".join(sample(name, 4.0, note='a\\"b}c') for name in ("step", "total_steps"))
    assert tuning_progress(text, "demo-1") is not None


class ScriptedDashboard(Dashboard):
    """Answers from a table and notes what was asked."""

    def __init__(self, applications: dict[str, object]) -> None:
        super().__init__("http://127.0.0.1:1", None)
        self.applications = applications
        self.asked: list[tuple[str, object]] = []

    def call(self, method: str, path: str, body: object = None, *, timeout: float = 0) -> Answer:
        import json

        if method != "GET":
            self.asked.append((method, body))
        return Answer(status=200, text=json.dumps({"applications": self.applications}))


def app(name: str, **fields: object) -> dict[str, object]:
    config = {"name": name, "route_prefix": f"/{name}", "import_path": "x:y"}
    return {"status": "RUNNING", "message": "", "deployed_app_config": config, "deployments": {}} | fields


def test_deploying_leaves_the_other_applications_as_they_are() -> None:
    dashboard = ScriptedDashboard(
        {"b": app("b"), "z": app("z"), "by-hand": app("by-hand", deployed_app_config=None)}
    )
    ours = {"name": "m", "import_path": "x:y", "route_prefix": "/"}
    ServeClient(dashboard).deploy({"http_options": {"port": 1}, "applications": [ours]})
    ((method, body),) = dashboard.asked
    assert method == "PUT"
    assert isinstance(body, dict)
    assert [each["name"] for each in body["applications"]] == ["b", "m", "z"]


def test_deleting_the_last_application_ends_serve() -> None:
    dashboard = ScriptedDashboard({"m": app("m")})
    ServeClient(dashboard).delete("m")
    assert dashboard.asked == [("DELETE", None)]
    both = ScriptedDashboard({"m": app("m"), "b": app("b")})
    ServeClient(both).delete("m")
    assert both.asked[0][0] == "PUT"


def test_the_deployments_reason_comes_before_the_applications() -> None:
    failed = {
        "Chat": {"status": "DEPLOY_FAILED", "message": "Traceback\n\x1b[36mHostError: no memory\x1b[39m\n"}
    }
    client = ServeClient(
        ScriptedDashboard({"m": app("m", status="DEPLOY_FAILED", message="x", deployments=failed)})
    )
    assert client.read().applications["m"].message == "HostError: no memory"
