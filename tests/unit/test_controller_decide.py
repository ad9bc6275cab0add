"""What the controller wants of a Workspace, from whatever it finds: the table of DESIGN §13 and its neighbours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from decided_work import WORLD, after, condition, drawn, kinds, made, node, step, tuned, tuning
from kairay.controller.record import TuningRecord
from kairay.controller.settings import read_settings
from kairay.controller.tuning import current_job
from kairay.kube.objects import key_of
from kairay.nodes.existing import NodeView
from kairay.objects.metadata import REVISION_LABEL
from kairay.ray.job_word import JobWord
from kairay.ray.progress import TuningProgress
from kairay.workspace import parse_workspace, revision


def test_a_new_tuning_workspace_gets_its_job_its_files_and_a_service_at_once() -> None:
    first = step(tuning())
    assert kinds(first) == ["ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "RayJob", "Service"]
    assert condition(first, "JobStarted") == ("False", "JobWaiting")
    assert condition(first, "InferenceReady") == ("False", "Tuning")
    assert first.status["state"] == "Pending"


@pytest.mark.parametrize("value", ["2000000", "none"])
def test_a_job_that_has_begun_is_followed_though_its_config_asks_for_too_much(value: str) -> None:
    text = "training_config: {TrainingArguments: {max_length: %s}}"
    manifest = tuning(config="own")
    first = step(manifest, config_text=text % 1024)
    job = made(drawn(first, "RayJob"), jobDeploymentStatus="Running", jobStatus="RUNNING")
    refused = text % value
    mine = revision(parse_workspace(manifest), refused)
    job["metadata"]["labels"] = {**job["metadata"]["labels"], REVISION_LABEL: mine}
    job["metadata"]["name"] = current_job(TuningRecord(revision=mine), manifest["metadata"]["name"])
    assert condition(step(manifest, config_text=refused), "WorkspaceReady")[1] != "JobRunning"
    progress = TuningProgress(step=10, total_steps=50, progress=0.2, loss=1.0)
    running = step(manifest, job, config_text=refused, progress=progress)
    assert (running.status["state"], condition(running, "JobStarted")) == ("Running", ("True", "JobRunning"))


def test_a_running_job_is_reported_with_its_progress() -> None:
    first = step(tuning())
    job = made(drawn(first, "RayJob"), jobDeploymentStatus="Running", jobStatus="RUNNING")
    progress = TuningProgress(step=10, total_steps=50, progress=0.2, loss=1.234567)
    running = step(after(tuning(), first), job, progress=progress)
    assert running.status["state"] == "Running"
    assert running.status["tuning"]["progressPercent"] == 20
    assert running.status["tuning"]["loss"] == 1.2346
    assert "RayJob" not in kinds(running)
    assert condition(running, "JobStarted") == ("True", "JobRunning")


def test_after_the_job_the_adapter_is_served_pinned_by_its_digest() -> None:
    done = step(tuned(tuning()))
    service = drawn(done, "RayService")
    assert f"registry.example/team/adapter@sha256:{'a' * 64}" in service["spec"]["serveConfigV2"]
    assert "min_replicas: 0" in service["spec"]["serveConfigV2"]
    assert condition(done, "WorkspaceSucceeded") == ("True", "AdapterPushed")
    assert condition(done, "InferenceReady") == ("False", "Starting")


def test_without_its_figures_a_finished_jobs_adapter_is_served_by_its_revisions_own_tag() -> None:
    job = made(drawn(step(tuning()), "RayJob"), jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    first = after(tuning(), step(tuning()))
    done = step(first, job, result=JobWord())
    revision = done.status["tuning"]["revision"]
    assert f"registry.example/team/adapter:1-{revision}" in drawn(done, "RayService")["spec"]["serveConfigV2"]


def test_figures_are_waited_for_while_the_head_may_still_tell_them() -> None:
    job = made(drawn(step(tuning()), "RayJob"), jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    waiting = step(after(tuning(), step(tuning())), job)
    assert waiting.waits_for_result
    assert "RayService" not in kinds(waiting)


def test_with_serve_false_the_adapter_is_the_end() -> None:
    done = step(tuned(tuning(serve=False)))
    assert "RayService" not in kinds(done)
    assert done.status["state"] == "Succeeded"
    assert condition(done, "WorkspaceReady") == ("True", "AdapterPushed")


def test_the_run_claim_goes_once_the_digest_is_recorded() -> None:
    claim = made(drawn(step(tuning()), "PersistentVolumeClaim"))
    assert key_of(claim) in step(tuned(tuning()), claim).removals


# -- never tune again by forgetting (DESIGN §13) --------------------------------------------------------------------


def test_a_deleted_rayjob_of_a_finished_revision_is_not_made_again() -> None:
    assert "RayJob" not in kinds(step(tuned(tuning())))


def test_a_wiped_status_is_read_off_the_job_that_is_still_there() -> None:
    job = made(drawn(step(tuning()), "RayJob"), jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    again = step(tuning(), job, result=JobWord(result={"adapter": {"digest": "sha256:" + "b" * 64}}))
    assert again.status["tuning"]["outcome"] == "Succeeded"
    assert "RayJob" not in kinds(again)


def test_what_serves_goes_on_while_a_lost_outcome_is_looked_up_again() -> None:
    service = made(
        drawn(step(tuned(tuning())), "RayService"),
        activeServiceStatus={"rayClusterName": "my-tuning-abcde"},
    )
    again = step(tuning(), service)
    assert key_of(service) not in again.removals
    assert drawn(again, "Service")["spec"]["selector"]["ray.io/cluster"] == "my-tuning-abcde"
    assert (
        key_of(service)
        in step(after(tuning(serve=False), step(tuned(tuning(serve=False)))), service).removals
    )


def test_an_upgrade_that_draws_another_job_leaves_a_finished_revision_alone() -> None:
    world = replace(WORLD, settings=read_settings({"KAIRAY_RAY_IMAGE": "registry.example/ray:next"}))
    assert "RayJob" not in kinds(step(tuned(tuning()), world=world))


def test_a_failed_revision_stays_failed_until_it_is_edited_or_retried() -> None:
    first = step(tuning())
    message = 'Job failed\n{"error": {"reason": "InvalidData", "message": "a.jsonl:3: not JSON"}}\n'
    job = made(drawn(first, "RayJob"), jobDeploymentStatus="Failed", jobStatus="FAILED", message=message)
    failed = step(after(tuning(), first), job)
    assert condition(failed, "WorkspaceSucceeded") == ("False", "InvalidData")
    assert "a.jsonl:3: not JSON" in failed.status["message"]
    assert "RayJob" not in kinds(step(after(tuning(), failed)))

    retried = after(tuning(), failed)
    retried["metadata"] = {**retried["metadata"], "annotations": {"kairay.dev/retry": "1"}}
    again = step(retried)
    assert drawn(again, "RayJob")["metadata"]["name"].endswith("-2")
    assert "RayJob" not in kinds(step({**retried, "status": failed.status | {"tuning": {
        **failed.status["tuning"], "retried": "1"}}}))  # fmt: skip


def test_an_edited_input_is_another_revision_and_the_old_adapter_stays_served() -> None:
    old = tuned(tuning())
    edited = tuning(input={"urls": ["https://example.com/b.jsonl"]})
    job = made(drawn(step(tuning()), "RayJob"), jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    next_one = step({**edited, "status": old["status"]}, job)
    assert key_of(job) in next_one.removals
    assert drawn(next_one, "RayJob")["metadata"]["name"] != job["metadata"]["name"]
    assert "a" * 64 in drawn(next_one, "RayService")["spec"]["serveConfigV2"]


def test_an_edit_of_what_is_not_the_work_starts_nothing() -> None:
    done = tuned(tuning())
    done["resource"] = {**done["resource"], "maxHourlyCostUSD": 9.0}
    assert "RayJob" not in kinds(step(done))


def test_a_lost_head_gets_another_attempt_and_then_no_more() -> None:
    first = step(tuning())
    lost = {"jobDeploymentStatus": "Failed", "reason": "JobStatusCheckTimeoutExceeded"}
    manifest = after(tuning(), step(after(tuning(), first), made(drawn(first, "RayJob"), **lost)))
    second = step(manifest)
    assert drawn(second, "RayJob")["metadata"]["name"].endswith("-2")
    manifest = after(tuning(), step(after(manifest, second), made(drawn(second, "RayJob"), **lost)))
    third = step(manifest)
    failed = step(after(manifest, third), made(drawn(third, "RayJob"), **lost))
    assert failed.status["tuning"]["outcome"] == "Failed"


def test_a_stopped_job_is_no_success() -> None:
    first = step(tuning())
    job = made(drawn(first, "RayJob"), jobDeploymentStatus="Complete", jobStatus="STOPPED", message="stopped")
    assert step(after(tuning(), first), job).status["tuning"]["outcome"] == "Failed"


# -- nodes and sizes -------------------------------------------------------------------------------------------------


def test_a_retired_size_is_a_condition_with_replacements_and_starts_nothing() -> None:
    manifest = tuning()
    manifest["resource"] = {**manifest["resource"], "instanceType": "Standard_NC6s_v3"}
    refused = step(manifest, nodes=())
    assert not refused.objects
    assert condition(refused, "ResourceReady") == ("False", "CannotBePlanned")
    assert "Standard_NC4as_T4_v3" in refused.status["message"]
    assert "2025-09-30" in refused.status["message"]


def test_nodes_of_a_retired_size_are_refused_for_what_their_gpu_cannot_do() -> None:
    manifest = tuning()
    manifest["resource"] = {**manifest["resource"], "instanceType": "Standard_NC6s_v3"}
    labels = {"app": "my-tuning", "node.kubernetes.io/instance-type": "Standard_NC6s_v3"}
    refused = step(manifest, nodes=(node(labels=labels),))
    assert "compute capability 7.0" in refused.status["message"]
    assert "2025-09-30" not in refused.status["message"]


def test_a_t4_node_is_planned_with_its_own_size() -> None:
    manifest = tuning()
    manifest["resource"] = {**manifest["resource"], "instanceType": "Standard_NC4as_T4_v3"}
    labels = {"app": "my-tuning", "node.kubernetes.io/instance-type": "Standard_NC4as_T4_v3"}
    planned = step(manifest, nodes=(node(labels=labels),))
    assert planned.status["plan"]["instanceType"] == "Standard_NC4as_T4_v3"
    assert condition(planned, "ResourceReady") == ("True", "NodesReady")


@pytest.mark.parametrize(
    ("nodes", "reason", "words"),
    [
        ((), "NodesMissing", "kubectl label node NAME app=my-tuning"),
        ((node(ready=False),), "NodesNotReady", "gpu-1"),
        ((node(gpus=0),), "GpusMissing", "device plugin"),
    ],
)
def test_missing_nodes_are_explained_with_the_remedy(
    nodes: tuple[NodeView, ...], reason: str, words: str
) -> None:
    waiting = step(tuning(), nodes=nodes)
    assert condition(waiting, "ResourceReady") == ("False", reason)
    assert words in waiting.status["message"]
    assert "RayJob" in kinds(waiting)
