"""A run from whatever is there to what the file asks for, on a machine that exists in memory: milliseconds, no Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairay.errors import DataError, HostError, InputError, JobFailedError, KairayError, TransientError
from kairay.local.fake import FakeServe
from kairay.local.jobs import JobStatus
from kairay.local.logs import read_logs
from kairay.local.serve import AppStatus
from kairay.local.state import Outcome
from kairay.local.status import read_status
from kairay.local.stop import stop_all, stop_workspace
from local_stage import INFERENCE, TUNING, World

TO_REGISTRY = TUNING.replace(
    "{volumeSource: {hostPath: {path: out}}}", "{image: localhost:5000/demo:v1, imagePushSecret: mine}"
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_run_tunes_keeps_the_adapter_and_serves_it(world: World) -> None:
    result = world.run()
    assert (result.tuned, result.url) == (True, "http://127.0.0.1:8000")
    assert result.models == ("smollm2-135m-instruct", "demo")
    assert result.default_model == "demo"
    assert result.adapter is not None
    assert (result.adapter.reference, result.adapter.digest) == (world.output, "sha256:1")
    assert result.training["steps"] == 10
    args = world.machine.fake_serve.deployed["demo"]["args"]
    kept = f"oci:{world.state.root}/adapters/demo-{result.revision}:demo"
    assert args["adapters"] == [{"name": "demo", "source": kept}]
    assert kept in world.machine.adapters
    assert (world.output, world.folder / "out" / "adapter") in world.machine.unpacked
    assert world.notes.results == [result]
    assert world.notes.progresses[-1].progress == 1.0


def test_the_job_is_told_absolute_paths(world: World) -> None:
    result = world.run()
    config = (world.state.root / "jobs" / f"demo-{result.revision}.json").read_text()
    assert f'"{world.folder}/train.jsonl"' in config
    assert f'"output": "{world.output}"' in config
    (request,) = world.jobs().requests.values()
    assert request["submission_id"] == f"kairay-demo-{result.revision}-1"


def test_the_same_run_again_does_nothing_twice(world: World) -> None:
    world.run()
    again = world.run()
    assert not again.tuned
    assert again.url == "http://127.0.0.1:8000"
    assert world.machine.starts == 1
    assert len(world.jobs().submissions) == 1
    assert world.machine.fake_serve.deployments == ["demo"]


def test_after_everything_was_stopped_a_run_only_serves(world: World) -> None:
    world.run()
    assert stop_all(world.state, machine=world.machine)
    again = world.run()
    assert (again.tuned, again.url is not None, again.adapter is not None) == (False, True, True)
    assert len(world.jobs().submissions) == 1
    assert any("is there already" in stage for stage in world.notes.stages)


def test_an_edit_tunes_anew_and_redeploys(world: World) -> None:
    first = world.run()
    second = world.run(TUNING.replace("qlora", "lora"))
    assert second.tuned
    assert second.revision != first.revision
    assert world.machine.fake_serve.deployments == ["demo", "demo"]


def test_an_output_that_was_deleted_is_filled_again_without_tuning(world: World) -> None:
    world.run()
    del world.machine.adapters[world.output]
    again = world.run()
    assert not again.tuned
    assert world.output in world.machine.adapters


def test_a_lost_state_folder_costs_no_tuning(world: World) -> None:
    world.run()
    stop_workspace(world.state, "demo", forget=True, machine=world.machine)
    kept = [reference for reference in world.machine.adapters if "/state/" in reference]
    for reference in kept:
        del world.machine.adapters[reference]
    again = world.run()
    assert not again.tuned
    assert again.adapter is not None


def test_a_failed_job_says_why_and_leaves_no_ray(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING, JobStatus.FAILED)
    world.jobs().exit_code = 6
    world.jobs().last_line = '{"error": {"reason": "OutOfMemory", "message": "a worker ran out of memory"}}'
    with pytest.raises(JobFailedError, match=r"a worker ran out of memory \(log: .*\.log\)") as caught:
        world.run()
    assert caught.value.reason == "OutOfMemory"
    assert world.machine.instance is None
    assert world.outcome is Outcome.FAILED
    assert next(read_logs(world.state, "demo", machine=world.machine)) == "training"


def test_a_revision_that_failed_is_not_tried_again_unasked(world: World) -> None:
    world.jobs().script = (JobStatus.FAILED,)
    world.jobs().exit_code = 6
    for _ in range(2):
        with pytest.raises(JobFailedError):
            world.run()
    assert len(world.jobs().submissions) == 1
    with pytest.raises(JobFailedError, match=r"failed before: .*--retry"):
        world.run()
    world.jobs().script = (JobStatus.SUCCEEDED,)
    assert world.run(retry=True).tuned
    assert world.jobs().submissions[-1].endswith("-2")


@pytest.mark.parametrize(("exit_code", "kind"), [(3, DataError), (4, HostError), (5, TransientError)])
def test_a_fault_outside_the_file_is_tried_again_when_it_was_mended(
    world: World, exit_code: int, kind: type[KairayError]
) -> None:
    world.jobs().script = (JobStatus.FAILED,)
    world.jobs().exit_code = exit_code
    world.jobs().last_line = '{"error": {"reason": "R", "message": "train.jsonl:3: no text"}}'
    with pytest.raises(kind, match=r"train\.jsonl:3"):
        world.run()
    world.jobs().script, world.jobs().last_line = (JobStatus.SUCCEEDED,), ""
    assert world.run().tuned


def test_a_job_that_ends_well_without_an_adapter_is_a_failure(world: World) -> None:
    world.jobs().on_success = lambda _: None
    with pytest.raises(JobFailedError, match="no adapter of revision"):
        world.run()


def test_ctrl_c_stops_the_job_and_ray_and_the_next_run_resumes(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,)
    world.after(5, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert len(world.jobs().stopped) == 1
    assert world.machine.instance is None
    assert world.outcome is Outcome.STOPPED
    assert any("goes on from its last checkpoint" in note for note in world.notes.notes)
    world.jobs().script = (JobStatus.SUCCEEDED,)
    assert world.run().tuned
    assert [job[-2:] for job in world.jobs().submissions] == ["-1", "-2"]


def test_ctrl_c_leaves_a_ray_that_serves_something_else(world: World) -> None:
    world.run(INFERENCE)
    world.jobs().script = (JobStatus.RUNNING,)
    world.after(5, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert world.machine.instance is not None
    assert list(world.machine.fake_serve.deployed) == ["base"]


def test_ctrl_c_while_the_model_loads_takes_the_application_away(world: World) -> None:
    world.machine.fake_serve.script = (AppStatus.DEPLOYING,)
    world.after(10, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        world.run(INFERENCE)
    assert world.machine.fake_serve.deployed == {}
    assert world.machine.instance is None


def test_a_run_that_was_killed_is_taken_up_by_the_next(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,) * 20 + (JobStatus.SUCCEEDED,)
    world.run_until_killed(5)
    result = world.run()
    assert result.tuned
    assert len(world.jobs().submissions) == 1
    assert any("at work already" in stage for stage in world.notes.stages)
    assert result.training["steps"] == 10


def test_a_job_that_ended_while_nobody_looked_is_collected(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,) * 3 + (JobStatus.SUCCEEDED,)
    world.run_until_killed(1)
    for _ in range(4):
        world.jobs().find(world.jobs().submissions[0])
    result = world.run()
    assert len(world.jobs().submissions) == 1
    assert result.training["steps"] == 10
    assert result.url is not None


def test_the_job_of_an_earlier_revision_ends_before_the_next_begins(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,)
    world.run_until_killed(3)
    first = world.jobs().submissions[0]
    world.jobs().script = (JobStatus.SUCCEEDED,)
    assert world.run(TUNING.replace("qlora", "lora")).tuned
    assert world.jobs().stopped == [first]


def test_serving_can_be_declined_and_then_nothing_keeps_running(world: World) -> None:
    result = world.run(TUNING.replace("  method: qlora", "  method: qlora\n  serve: false"))
    assert (result.url, result.models, result.tuned) == (None, (), True)
    assert world.machine.instance is None


def test_an_inference_workspace_serves_the_base_model(world: World) -> None:
    result = world.run(INFERENCE)
    assert (result.models, result.default_model) == (("smollm2-135m-instruct",), "smollm2-135m-instruct")
    assert world.jobs().submissions == []


def test_the_second_service_answers_below_its_name(world: World) -> None:
    world.run(INFERENCE)
    assert world.run().url == "http://127.0.0.1:8000/demo"
    assert world.run(INFERENCE).url == "http://127.0.0.1:8000"
    assert sorted(world.machine.fake_serve.deployed) == ["base", "demo"]


def test_a_model_that_cannot_be_served_says_why_and_keeps_the_adapter(world: World) -> None:
    world.machine.fake_serve.script = (AppStatus.DEPLOYING, AppStatus.DEPLOY_FAILED)
    world.machine.fake_serve.message = "HostError: 2 GiB are missing"
    with pytest.raises(JobFailedError, match="the model cannot be served: HostError: 2 GiB are missing"):
        world.run()
    assert world.output in world.machine.adapters
    assert world.machine.instance is None
    (status,) = read_status(world.state, "demo", machine=world.machine)
    assert (status.state, status.adapter is not None) == ("Failed", True)
    world.machine.fake_serve = FakeServe()
    assert not world.run().tuned


def test_a_model_that_never_answers_ends_with_a_sentence(world: World) -> None:
    world.machine.fake_serve.script = (AppStatus.DEPLOYING,)
    with pytest.raises(HostError, match=r"base does not answer after \d+ s"):
        world.run(INFERENCE, serve_seconds=30)
    assert world.machine.instance is None


def test_ray_that_falls_silent_is_given_time_then_left_at_work(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,)
    world.after(3, lambda: setattr(world.machine, "silent", True))
    with pytest.raises(TransientError, match="has not answered for"):
        world.run()
    assert world.machine.instance is not None
    assert world.jobs().stopped == []


def test_ray_that_dies_is_told_and_the_next_run_resumes(world: World) -> None:
    world.jobs().script = (JobStatus.RUNNING,)
    world.after(3, lambda: setattr(world.machine, "instance", None))
    with pytest.raises(HostError, match="Ray ended while it was tuning"):
        world.run()
    assert world.outcome is Outcome.STOPPED
    world.jobs().script = (JobStatus.SUCCEEDED,)
    assert world.run().tuned


def test_a_registry_that_cannot_be_reached_is_told_before_ray_is_started(world: World) -> None:
    world.machine.registry_error = TransientError("localhost:5000 does not answer")
    with pytest.raises(TransientError, match="localhost:5000"):
        world.run(TO_REGISTRY)
    assert world.machine.starts == 0


def test_an_adapter_at_a_registry_is_served_from_our_copy(world: World) -> None:
    world.jobs().on_success = lambda request: world.put(
        "localhost:5000/demo:v1", request["metadata"]["kairay.revision"]
    )
    result = world.run(TO_REGISTRY)
    assert result.adapter is not None
    assert result.adapter.reference == "localhost:5000/demo:v1"
    assert world.machine.unpacked == []


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (("path: train.jsonl", "path: nothing.jsonl"), DataError, r"nothing\.jsonl: there is no such file"),
        (
            ("input: {volumeSource: {hostPath: {path: train.jsonl}}}",
             "input: {volumeSource: {persistentVolumeClaim: {claimName: data}}}"),
            InputError, r"tuning\.input\.volumeSource\.persistentVolumeClaim: there is no cluster .*hostPath",
        ),
        (
            ("output: {volumeSource: {hostPath: {path: out}}}",
             "output: {volumeSource: {persistentVolumeClaim: {claimName: out}}}"),
            InputError, r"tuning\.output\.volumeSource\.persistentVolumeClaim",
        ),
        (("path: out", "path: train.jsonl"), InputError, r"is a file; give a folder"),
        (("method: qlora", "method: qlora\n  config: mine"), InputError, r"tuning\.config: no ConfigMap mine in"),
    ],
)  # fmt: skip
def test_what_this_machine_cannot_take_is_told_before_ray_is_started(
    world: World, change: tuple[str, str], kind: type[KairayError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        world.run(TUNING.replace(*change))
    assert world.machine.starts == 0


def test_a_config_in_the_file_reaches_the_job_and_its_content_is_part_of_the_revision(world: World) -> None:
    config = (
        "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\ndata:\n  training_config.yaml: |\n"
    )
    text = TUNING.replace("method: qlora", "method: qlora\n  config: mine") + config
    first = world.run(text + "    training_config: {TrainingArguments: {seed: 1}}\n")
    second = world.run(text + "    training_config: {TrainingArguments: {seed: 2}}\n")
    assert first.revision != second.revision
    assert '"seed": 2' in (world.state.root / "jobs" / f"demo-{second.revision}.json").read_text()


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def test_edited_rows_are_another_revision_and_a_touched_file_is_not(world: World) -> None:
    first = world.run()
    (world.folder / "train.jsonl").touch()
    assert world.run().tuned is False
    (world.folder / "train.jsonl").write_text('{"text": "b"}\n')
    second = world.run()
    assert second.tuned is True
    assert second.revision != first.revision
