"""What the controller wants of a Workspace, from whatever it finds: the table of DESIGN §13 and its neighbours."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kairay.controller.decide import Decision, World, decide
from kairay.controller.held import refuse
from kairay.controller.observed import Observed
from kairay.controller.record import TuningRecord
from kairay.controller.settings import NodeSettings, Provider, Settings, read_settings
from kairay.controller.tuning import current_job
from kairay.errors import InputError
from kairay.kube.objects import Manifest, key_of
from kairay.nodes.actions import NodeWord
from kairay.nodes.existing import NodeView
from kairay.nodes.interface import GROUP_LABEL, RefusalKind
from kairay.objects.metadata import REVISION_LABEL
from kairay.presets import find_preset
from kairay.ray.job_word import JobWord
from kairay.ray.progress import TuningProgress
from kairay.skus import load_skus
from kairay.workspace import parse_workspace, revision

UID = "6d1f6c9e-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WORLD = World(settings=Settings(), skus=load_skus(), controller_namespace="kairay-system", now=NOW)
OWNERS = [{"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "name": "my-tuning", "uid": UID}]


def tuning(**changes: Any) -> Manifest:
    spec = {
        "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
        "input": {"urls": ["https://example.com/a.jsonl"]},
        "output": {"image": "registry.example/team/adapter:1", "imagePushSecret": "push"},
    }  # fmt: skip
    return workspace(tuning={**spec, **changes})


def inference(**changes: Any) -> Manifest:
    return workspace(inference={"preset": {"name": "phi-3-mini-128k-instruct"}, **changes})


def workspace(**parts: Any) -> Manifest:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": "my-tuning", "namespace": "team", "uid": UID, "generation": 1},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "my-tuning"}},
        },
        **parts,
    }  # fmt: skip


def node(**changes: Any) -> NodeView:
    labels = {"app": "my-tuning", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}
    plain = NodeView(name="gpu-1", labels=labels, ready=True, gpus=1, cpus=24, memory=220 * 2**30)
    return replace(plain, **changes)


def step(manifest: Manifest, *live: Manifest, world: World = WORLD, **seen: Any) -> Decision:
    """One pass; the nodes are there unless said otherwise."""
    found = {key_of(each): each for each in live}
    observed = Observed(workspace=manifest, live=found, **{"nodes": (node(),), **model_of(manifest), **seen})
    try:
        return decide(parse_workspace(manifest), observed, world)
    except InputError as error:
        return refuse(observed, error, world)


def model_of(manifest: Manifest) -> dict[str, Any]:
    """What a look at the catalogue gives."""
    work = manifest.get("inference") or manifest["tuning"]
    try:
        return {"preset": find_preset(work["preset"]["name"])} if "preset" in work else {}
    except InputError as error:
        return {"model_problem": error}


def after(manifest: Manifest, decision: Decision) -> Manifest:
    """The Workspace once the decision's status was written."""
    return {**manifest, "status": json.loads(json.dumps(decision.status))}


def kinds(decision: Decision) -> list[str]:
    return sorted(each["kind"] for each in decision.objects)


def drawn(decision: Decision, kind: str) -> Manifest:
    return next(each for each in decision.objects if each["kind"] == kind)


def made(manifest: Manifest, **status: Any) -> Manifest:
    """An object as it stands in the cluster after we applied it."""
    metadata = {
        **manifest["metadata"],
        "ownerReferences": OWNERS,
        "uid": f"uid-{manifest['metadata']['name']}",
    }
    return {**manifest, "metadata": metadata, "status": status}


def condition(decision: Decision, kind: str) -> tuple[str, str]:
    found = next(each for each in decision.status["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


def tuned(manifest: Manifest) -> Manifest:
    """A tuning Workspace whose job has succeeded, with its status."""
    job = made(drawn(step(manifest), "RayJob"), jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    word = JobWord(result={"outcome": "Succeeded", "adapter": {"digest": "sha256:" + "a" * 64}, "steps": 50})
    return after(manifest, step(after(manifest, step(manifest)), job, result=word))


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


# -- serving ---------------------------------------------------------------------------------------------------------


def serving(manifest: Manifest, *, app: str = "RUNNING", **more: Any) -> Manifest:
    service = drawn(step(manifest), "RayService")
    status = {
        "activeServiceStatus": {
            "rayClusterName": "my-tuning-abcde", "applicationStatuses": {"my-tuning": {"status": app, **more}},
        },
        "conditions": [{"type": "Ready", "status": "True"}],
    }  # fmt: skip
    return made(service, **status)


def front(cluster: str = "my-tuning-abcde") -> Manifest:
    """The Service, once it has followed the cluster."""
    service = made(drawn(step(inference()), "Service"))
    return {**service, "spec": {"selector": {"ray.io/cluster": cluster, "ray.io/serve": "true"}}}


def test_the_service_follows_the_cluster_that_answers() -> None:
    assert drawn(step(inference()), "Service")["spec"]["selector"]["ray.io/cluster"] == "my-tuning.none"
    behind = step(inference(), serving(inference()), front("my-tuning.none"))
    assert condition(behind, "WorkspaceReady") == ("False", "Starting")
    ready = step(inference(), serving(inference()), front())
    assert drawn(ready, "Service")["spec"]["selector"]["ray.io/cluster"] == "my-tuning-abcde"
    assert condition(ready, "WorkspaceReady") == ("True", "Serving")
    assert ready.status["state"] == "Ready"
    assert ready.status["inference"]["url"] == "http://my-tuning.team.svc:80"


def test_a_service_scaled_to_zero_is_ready() -> None:
    manifest = inference(scaling={"minReplicas": 0})
    assert condition(step(manifest, serving(manifest), front()), "InferenceReady") == ("True", "ScaledToZero")


def test_a_deployment_that_failed_says_why() -> None:
    broken = serving(
        inference(), app="DEPLOY_FAILED", serveDeploymentStatuses={"Chat": {"message": "no such adapter"}}
    )
    failed = step(inference(), broken)
    assert condition(failed, "InferenceReady") == ("False", "ServingFailed")
    assert "no such adapter" in failed.status["message"]


def test_a_pod_that_waits_is_named_with_its_reason() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "worker-1", "namespace": "team", "labels": {"kairay.dev/workspace": "my-tuning"}},
        "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: insufficient nvidia.com/gpu"},
        ]},
    }  # fmt: skip
    starting = serving(inference(), app="DEPLOYING")
    waiting = step(inference(), starting, pod)
    assert "worker-1" in waiting.status["message"]
    assert "insufficient nvidia.com/gpu" in waiting.status["message"]


def test_adapters_are_an_edit_in_place() -> None:
    before = drawn(step(inference()), "RayService")
    adapters = [{"source": {"name": "law", "image": "registry.example/team/law:1"}}]
    after_edit = drawn(step(inference(adapters=adapters)), "RayService")
    assert before["spec"]["rayClusterConfig"] == after_edit["spec"]["rayClusterConfig"]
    assert before["spec"]["serveConfigV2"] != after_edit["spec"]["serveConfigV2"]


def test_a_load_balancer_asks_for_keys_and_changes_no_pod() -> None:
    exposed = inference()
    exposed["metadata"] = {**exposed["metadata"], "annotations": {"kaito.sh/enablelb": "True"}}
    opened = step(exposed)
    assert drawn(opened, "Service")["spec"]["type"] == "LoadBalancer"
    assert opened.keys == "my-tuning-api-keys"
    config = drawn(step(inference()), "RayService")["spec"]["rayClusterConfig"]
    assert drawn(opened, "RayService")["spec"]["rayClusterConfig"] == config


def test_a_missing_config_map_is_a_condition() -> None:
    refused = step(inference(config="mine"), config_problem="inference.config: there is no ConfigMap mine")
    assert condition(refused, "WorkspaceReady") == ("False", "InvalidInput")
    assert "there is no ConfigMap mine" in refused.status["message"]


def test_an_unknown_preset_is_a_condition() -> None:
    refused = step(inference(preset={"name": "phi-33"}))
    assert "phi-33" in refused.status["message"]
    assert not refused.objects


TEMPLATE = {"spec": {"containers": [{"name": "mine", "image": "i:1", "ports": [{"containerPort": 9000}]}]}}


def test_a_template_becomes_a_deployment_with_a_service_on_its_first_port() -> None:
    first = step(workspace(inference={"template": TEMPLATE}))
    assert kinds(first) == ["Deployment", "Service"]
    assert drawn(first, "Service")["spec"]["ports"][0]["targetPort"] == 9000
    assert drawn(first, "Deployment")["spec"]["template"]["spec"]["nodeSelector"] == {"app": "my-tuning"}
    live = made(drawn(first, "Deployment"), availableReplicas=1)
    assert condition(step(workspace(inference={"template": TEMPLATE}), live), "WorkspaceReady") == (
        "True",
        "Serving",
    )


def test_a_template_without_a_port_says_what_to_give() -> None:
    refused = step(
        workspace(inference={"template": {"spec": {"containers": [{"name": "a", "image": "i:1"}]}}})
    )
    assert "containerPort" in refused.status["message"]


# -- status ----------------------------------------------------------------------------------------------------------


def test_the_same_look_gives_the_same_status() -> None:
    manifest = after(inference(), step(inference(), serving(inference()), front()))
    later = replace(WORLD, now=datetime(2026, 11, 24, 13, 0, tzinfo=UTC))
    assert step(manifest, serving(inference()), front(), world=later).status == manifest["status"]


def test_a_condition_keeps_its_time_until_it_turns() -> None:
    manifest = after(inference(), step(inference()))
    later = replace(WORLD, now=datetime(2026, 11, 24, 13, 0, tzinfo=UTC))
    turned = step(manifest, serving(inference()), front(), world=later)
    times = {each["type"]: each["lastTransitionTime"] for each in turned.status["conditions"]}
    assert times["ResourceReady"] == "2026-11-24T12:00:00Z"
    assert times["WorkspaceReady"] == "2026-11-24T13:00:00Z"


@pytest.mark.parametrize(
    ("placed", "reason"),
    [([], "QuotaExceeded"), (["n1"], "NodesOnDemand"), (["n1", None], "QuotaExceeded")],
)  # fmt: skip
def test_a_workspace_that_has_its_nodes_is_not_told_that_others_of_its_group_wait(
    placed: list[str | None], reason: str
) -> None:
    settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    first = step(inference(), world=replace(WORLD, settings=settings))
    assert first.wish is not None
    group = first.wish.group.name
    word = NodeWord(message="no quota", refusal=RefusalKind.QUOTA)
    pods = [
        {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": f"worker-{number}", "namespace": "team", "creationTimestamp": NOW.isoformat(),
                "labels": {"kairay.dev/workspace": "my-tuning", "kairay.dev/role": "worker"},
            },
            "spec": {"nodeSelector": {GROUP_LABEL: group}, "containers": [], **({"nodeName": name} if name else {})},
            "status": {"phase": "Running" if name else "Pending"},
        }
        for number, name in enumerate(placed)
    ]  # fmt: skip
    told = step(inference(), *pods, world=replace(WORLD, settings=settings, words={group: word}))
    assert condition(told, "ResourceReady")[1] == reason


@pytest.mark.parametrize(
    ("reason", "message"), [("QuotaExceeded", "none left"), ("NodesComing", "waiting for 1 node")]
)
def test_what_was_said_of_nodes_holds_until_the_keeper_of_a_new_process_has_looked(
    reason: str, message: str
) -> None:
    provided = replace(WORLD, settings=read_settings({"KAIRAY_NODES_PROVIDER": "aks"}))
    first = step(inference(), world=provided, nodes=())
    assert first.wish is not None
    group = first.wish.group.name
    word = NodeWord(message=message, refusal=RefusalKind(reason) if reason in list(RefusalKind) else None)
    said = step(inference(), world=replace(provided, words={group: word}), nodes=())
    manifest = after(inference(), said)
    again = step(manifest, world=replace(provided, heard=frozenset()), nodes=())
    assert again.status["conditions"] == said.status["conditions"]
    well = step(manifest, world=replace(provided, heard=frozenset({group})), nodes=())
    assert well.status["conditions"][0]["reason"] == "NodesOnDemand"
