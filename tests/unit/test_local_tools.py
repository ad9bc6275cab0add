"""`kairay status`, `stop` and `logs` on what runs have left, on a machine that exists in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kairay.errors import HostError, InputError
from kairay.local.fake import FakeJobs
from kairay.local.jobs import JobStatus
from kairay.local.logs import read_logs
from kairay.local.status import read_status
from kairay.local.stop import stop_all, stop_workspace
from local_stage import INFERENCE, World


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
