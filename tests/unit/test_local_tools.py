"""`kairay status`, `stop` and `logs` on what runs have left, on a machine that exists in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kairay.cli.main import main
from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.local.fake import FakeJobs
from kairay.local.jobs import JobStatus
from kairay.local.logs import other_log, read_logs
from kairay.local.status import read_status
from kairay.local.stop import stop_all, stop_workspace
from local_stage import INFERENCE, TUNING, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_status_tells_how_far_it_is_and_works_without_ray(world: World) -> None:
    assert read_status(world.state, None, machine=world.machine) == []
    world.jobs().script = (JobStatus.RUNNING,)
    world.run_until_killed(3)
    (tuning,) = read_status(world.state, None, machine=world.machine)
    assert (tuning.state, tuning.progress is not None, tuning.url) == ("Tuning", True, None)
    world.machine.instance = None
    (lost,) = read_status(world.state, "demo", machine=world.machine)
    assert (lost.state, lost.progress) == ("Stopped", None)
    world.jobs().script = (JobStatus.SUCCEEDED,)
    world.run()
    (serving,) = read_status(world.state, "demo", machine=world.machine)
    assert (serving.state, serving.url) == ("Serving", "http://127.0.0.1:8000")
    assert serving.to_dict()["adapter"] == {"reference": world.output, "digest": "sha256:1"}
    world.machine.instance = None
    (done,) = read_status(world.state, "demo", machine=world.machine)
    assert (done.state, done.url, done.models) == ("Succeeded", None, ())


def test_stop_ends_the_service_and_ray_when_nothing_is_left(world: World) -> None:
    world.run(INFERENCE)
    world.run()
    assert stop_workspace(world.state, "demo", machine=world.machine) == ["demo serves no more"]
    assert world.machine.instance is not None
    assert stop_workspace(world.state, "base", machine=world.machine) == [
        "base serves no more",
        "stopped Ray",
    ]
    assert stop_workspace(world.state, "base", machine=world.machine) == []


def test_stop_spares_a_ray_on_which_somebody_works(world: World) -> None:
    world.run(INFERENCE)
    world.jobs().script = (JobStatus.RUNNING,)
    world.jobs().submit({"submission_id": "by-hand"})
    assert stop_workspace(world.state, "base", machine=world.machine) == ["base serves no more"]
    assert stop_all(world.state, machine=world.machine) == ["stopped Ray"]


def test_stop_ends_a_job_that_nobody_follows(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,)
    world.run_until_killed(3)
    stopped = stop_workspace(world.state, "demo", machine=world.machine)
    assert stopped == [
        f"stopped the job {world.jobs().stopped[0]}; `kairay run` goes on from its last checkpoint",
        "stopped Ray",
    ]
    assert list(read_logs(world.state, "demo", machine=world.machine, tail=1)) != []


def test_forgetting_removes_what_is_kept_here_and_spares_the_output(world: World) -> None:
    result = world.run()
    runs = world.state.folder("runs") / f"demo-{result.revision}"
    runs.mkdir()
    assert "forgot demo" in stop_workspace(world.state, "demo", forget=True, machine=world.machine)
    assert not runs.exists()
    assert read_status(world.state, None, machine=world.machine) == []
    assert world.output in world.machine.adapters


@pytest.mark.parametrize("call", [stop_workspace, read_logs])
def test_a_workspace_that_is_not_known_is_named(world: World, call: Any) -> None:
    with pytest.raises(InputError, match="there is no Workspace demo here"):
        call(world.state, "demo", machine=world.machine)


def test_logs_are_followed_until_the_job_ends(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,) * 6 + (JobStatus.SUCCEEDED,)
    world.run_until_killed(2)
    lines = list(read_logs(world.state, "demo", follow=True, machine=world.machine))
    assert lines[0] == "training"
    assert len(lines) == 2


def test_a_followed_line_without_its_end_is_given_once_and_whole(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,) * 6 + (JobStatus.SUCCEEDED,)
    world.run_until_killed(2)
    texts = ["step 1\nst", "step 1\nstep 2", "step 1\nstep 2\nlast", "step 1\nstep 2\nlast word"]
    log = iter(texts)

    class GrowingJobs(FakeJobs):
        def logs(self, job_id: str) -> str:
            return next(log, texts[-1])

    jobs = world.jobs()
    world.machine.fake_jobs = GrowingJobs(
        script=jobs.script,
        requests=jobs.requests,
        _left={job: list(left) for job, left in jobs._left.items()},
    )
    lines = list(read_logs(world.state, "demo", follow=True, machine=world.machine))
    assert lines == ["step 1", "step 2", "last word"]


def test_stopping_everything_also_forgets_what_a_silent_ray_holds(world: World) -> None:
    world.run()
    world.machine.silent = True
    assert stop_all(world.state, forget=True, machine=world.machine) == ["stopped Ray", "forgot demo"]
    assert world.state.workspaces() == ()


def test_a_record_that_cannot_be_read_is_named_and_does_not_keep_ray_up(world: World) -> None:
    world.run()
    (world.state.root / "workspaces" / "other.json").write_text("{")
    with pytest.raises(HostError, match=r"other\.json is not a record of ours"):
        stop_all(world.state, machine=world.machine)
    assert world.machine.instance is None


def test_a_return_to_the_first_file_after_a_failed_edit_finds_its_job_and_figures_again(world: World) -> None:
    world.run()
    (first,) = read_status(world.state, "demo", machine=world.machine)
    fail_an_edit(world)
    world.run()
    (again,) = read_status(world.state, "demo", machine=world.machine)
    assert (again.state, again.revision, again.job_id) == ("Serving", first.revision, first.job_id)
    assert (again.training, again.training["steps"]) == (first.training, 10)
    assert len(world.jobs().submissions) == 2


def test_logs_are_those_of_the_last_job_that_ran_whatever_the_file_says_now(world: World) -> None:
    world.run()
    assert other_log(world.state, "demo") is None
    fail_an_edit(world)
    world.run()
    first, second = world.jobs().submissions
    world.machine.instance = None
    for job in (first, second):
        world.state.write(world.state.job_log(job), f"the log of {job}\n")
    assert list(read_logs(world.state, "demo", machine=world.machine)) == [f"the log of {second}"]
    note = other_log(world.state, "demo")
    assert note is not None
    assert f"this is the log of {second}" in note
    assert note.endswith(str(world.state.job_log(first)))


def test_an_edit_that_never_came_to_a_job_leaves_the_log_of_the_one_before(world: World) -> None:
    world.run()
    (job,) = world.jobs().submissions
    world.machine.registry_error = TransientError("localhost:5000 does not answer")
    with pytest.raises(TransientError):
        world.run(
            TUNING.replace(
                "volumeSource: {hostPath: {path: out}}", "image: localhost:5000/a:b, imagePushSecret: mine"
            )
        )
    assert list(read_logs(world.state, "demo", machine=world.machine)) != []
    assert other_log(world.state, "demo") == (
        f"this is the log of {job}, the last job that ran, of an earlier edit of demo"
    )


def test_a_revision_that_is_tuned_again_has_another_job(world: World) -> None:
    world.jobs().script = (JobStatus.STOPPED,)
    with pytest.raises(KairayError):
        world.run()
    fail_an_edit(world)
    world.run()
    first, edit, second = world.jobs().submissions
    assert (first[-2:], edit[-2:], second) == ("-1", "-1", f"{first[:-2]}-2")
    assert other_log(world.state, "demo") is None


def test_forgetting_removes_the_logs_and_copies_of_every_revision(world: World) -> None:
    world.run()
    fail_an_edit(world)
    runs = [world.state.folder("runs") / job[len("kairay-") : -2] for job in world.jobs().submissions]
    for run in runs:
        run.mkdir()
    logs = list(world.state.folder("logs").iterdir())
    assert len(logs) == 2
    stop_workspace(world.state, "demo", forget=True, machine=world.machine)
    assert [path for path in (*logs, *runs) if path.exists()] == []


def test_the_command_says_on_the_side_whose_log_it_prints(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    fail_an_edit(world)
    world.run()
    first, second = world.jobs().submissions
    for job in (first, second):
        world.state.write(world.state.job_log(job), f"the log of {job}\n")
    monkeypatch.setenv("KAIRAY_STATE_DIR", str(world.state.root))
    with pytest.raises(SystemExit) as left:
        main(["logs", "demo"])
    out, err = capsys.readouterr()
    assert (left.value.code or 0, out) == (0, f"the log of {second}\n")
    assert err.startswith(f"note: this is the log of {second}, the last job that ran")
    assert f"the log of {first}, the job of the file as it is now, is " in " ".join(err.split())


def fail_an_edit(world: World) -> None:
    """Another revision, whose job fails; the next job succeeds again."""
    world.jobs().script = (JobStatus.FAILED,)
    with pytest.raises(KairayError):
        world.run(TUNING.replace("qlora", "lora"))
    world.jobs().script = (JobStatus.SUCCEEDED,)
