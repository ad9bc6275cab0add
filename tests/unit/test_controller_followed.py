"""What runs is followed though a later release would refuse it, in real passes; what its user edits is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from controller_stage import Stage
from kairay import plan_config_keys
from kairay.controller.refusals import NotMadeError
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.errors import InputError, TransientError
from kairay.kube.errors import DeniedError
from kairay.kube.objects import NETWORK_POLICY, NODE, RAY_JOB, RAY_SERVICE, SERVICE, WORKSPACE, Key, Manifest
from kairay.plan_config_keys import Key as ConfigKey
from kairay.presets import Preset, find_preset
from kairay.skus import load_skus

SIZE = "Standard_NC24ads_A100_v4"
INFERENCE = {"preset": {"name": "phi-3-mini-128k-instruct"}, "config": "own"}
TUNING = {
    **INFERENCE, "method": "qlora", "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}  # fmt: skip
CONFIG = "vllm: {max-num-seqs: 8}"
TRAINING_CONFIG = "training_config: {TrainingArguments: {max_length: 1024}}"
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "endTime": "2026-11-24T11:00:00Z"}
PLANNED_ANEW = "kept as it was planned; planned anew it would be refused: "
MOVED = "kept as it was planned; planned anew it would move from "


class OtherModels:
    """What a later release, or the hub of today, says of any model."""

    def __init__(self, say: Callable[[Preset], Preset]) -> None:
        self._say = say

    async def preset(self, name: str, now: datetime) -> Preset:
        return self._say(find_preset(name))


def gone(preset: Preset) -> Preset:
    raise InputError(f"{preset.name}: the hub knows no such model")


def smaller_gpus(stage: Stage) -> None:
    """As if the estimate had grown."""
    stage.skus = {**load_skus(), SIZE: replace(load_skus()[SIZE], bytes_per_gpu=2**30)}


def all_smaller(stage: Stage) -> None:
    stage.skus = {name: replace(size, bytes_per_gpu=2**30) for name, size in load_skus().items()}


def larger_model(stage: Stage) -> None:
    stage.models = OtherModels(
        lambda preset: replace(preset, model=replace(preset.model, weight_bytes=2**40, parameters=2**39))
    )


def model_is_gone(stage: Stage) -> None:
    stage.models = OtherModels(gone)


LATER: list[Callable[[Stage], None]] = [smaller_gpus, all_smaller, larger_model, model_is_gone]


def write_config(stage: Stage, text: str, key: str = "inference_config.yaml") -> None:
    stage.cluster.put({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "team"},
        "data": {key: text},
    })  # fmt: skip


def answer(stage: Stage, cluster: str = "mine-abcde") -> None:
    """The operator's word: the service is up."""
    stage.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), {
        "activeServiceStatus": {
            "rayClusterName": cluster, "applicationStatuses": {"mine": {"status": "RUNNING"}},
        },
        "conditions": [{"type": "Ready", "status": "True"}],
    })  # fmt: skip


def serving(stage: Stage, **inference: Any) -> Manifest:
    """A service that answers."""
    write_config(stage, CONFIG)
    stage.put(inference={**INFERENCE, **inference})
    stage.passes(2)
    answer(stage)
    stage.passes(3)
    assert stage.status()["state"] == "Ready"
    return stage.cluster.all(RAY_SERVICE)[0]


def edit(stage: Stage, **parts: Any) -> None:
    """The Workspace as its user writes it anew."""
    found = stage.cluster.find(WORKSPACE, "team", "mine")
    assert found is not None
    stage.cluster.put({**found, **parts})


def conditions(stage: Stage) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in stage.status()["conditions"]}


def follows(stage: Stage) -> str | None:
    front = stage.cluster.find(SERVICE, "team", "mine")
    assert front is not None
    return str(front["spec"]["selector"]["ray.io/cluster"])


def front_type(stage: Stage) -> str:
    front = stage.cluster.find(SERVICE, "team", "mine")
    assert front is not None
    return str(front["spec"]["type"])


@pytest.mark.parametrize("later", LATER)
def test_a_service_that_runs_stays_ready_and_as_it_is_though_a_later_release_refuses_it(
    later: Callable[[Stage], None],
) -> None:
    stage = Stage()
    before = serving(stage)
    told = stage.status()
    later(stage)
    stage.restart()
    stage.passes(2)
    after = stage.status()
    assert conditions(stage) == {
        each["type"]: (each["status"], each["reason"]) for each in told["conditions"]
    }
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert after["state"] == "Ready"
    assert after["inference"] == told["inference"]
    assert PLANNED_ANEW in after["message"]
    assert after["plan"]["reasons"][0].startswith(PLANNED_ANEW)
    assert after["plan"] == {
        **told["plan"],
        "reasons": [after["plan"]["reasons"][0], *told["plan"]["reasons"]],
    }
    written = stage.cluster.writes
    stage.restart()
    stage.passes(3)
    assert (stage.status(), stage.cluster.writes) == (after, written)


def test_the_message_says_what_to_change() -> None:
    stage = Stage()
    serving(stage)
    smaller_gpus(stage)
    edit(stage, resource={"instanceType": SIZE, "labelSelector": {"matchLabels": {"app": "mine"}}})
    stage.skus = load_skus()
    stage.restart()
    stage.passes(2)
    smaller_gpus(stage)
    stage.restart()
    stage.passes()
    assert "set resource.instanceType to" in stage.status()["message"]


def test_a_value_of_the_config_that_a_later_release_refuses_is_said_and_rolls_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    before = serving(stage)

    def refuse(value: object) -> object:
        raise ValueError(f"{value!r}; no longer")

    monkeypatch.setattr(
        plan_config_keys, "SERVING", {"max-num-seqs": ConfigKey(wish="max_requests", read=refuse)}
    )
    monkeypatch.setattr("kairay.plan_config.SERVING", plan_config_keys.SERVING)
    stage.restart()
    stage.passes(2)
    assert stage.status()["state"] == "Ready"
    assert "ConfigMap own: vllm.max-num-seqs is 8; no longer" in stage.status()["message"]
    assert stage.cluster.all(RAY_SERVICE) == [before]


def test_once_it_fits_again_it_is_planned_again() -> None:
    stage = Stage()
    before = serving(stage)
    told = stage.status()
    smaller_gpus(stage)
    stage.restart()
    stage.passes(2)
    stage.skus = load_skus()
    stage.restart()
    stage.passes(2)
    assert stage.status() == told
    assert stage.cluster.all(RAY_SERVICE) == [before]


def test_the_service_in_front_goes_on_following_the_cluster_that_answers() -> None:
    stage = Stage()
    serving(stage)
    smaller_gpus(stage)
    stage.restart()
    answer(stage, "mine-fghij")
    stage.passes(2)
    assert follows(stage) == "mine-fghij"
    assert stage.status()["state"] == "Ready"
    stage.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), {})
    stage.passes(2)
    assert conditions(stage)["InferenceReady"] == ("False", "Starting")


def test_a_service_that_sleeps_stays_ready_and_its_nodes_come_after_a_restart() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    serving(stage, scaling={"minReplicas": 0})
    groups = stage.board.groups()
    assert groups
    all_smaller(stage)
    stage.restart()
    stage.passes()
    assert conditions(stage)["InferenceReady"] == ("True", "ScaledToZero")
    assert stage.board.groups() == groups
    assert PLANNED_ANEW in stage.status()["message"]


def chosen_is_too_small(stage: Stage) -> str:
    """In a later release, and another size is not; the name of the size that was chosen."""
    chosen = str(stage.status()["plan"]["instanceType"])
    stage.skus = {**load_skus(), chosen: replace(load_skus()[chosen], bytes_per_gpu=2**30)}
    stage.restart()
    return chosen


def test_a_service_does_not_move_to_another_size_by_a_later_release_alone() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    before = serving(stage)
    groups, told = stage.board.groups(), stage.status()
    size = chosen_is_too_small(stage)
    stage.passes(2)
    after = stage.status()
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert (after["state"], stage.board.groups()) == ("Ready", groups)
    assert f"{MOVED}{size} to " in after["message"]
    assert after["plan"] == {
        **told["plan"],
        "reasons": [after["plan"]["reasons"][0], *told["plan"]["reasons"]],
    }
    cheaper(stage)
    stage.passes(2)
    assert stage.status()["plan"]["instanceType"] != size
    assert stage.cluster.all(RAY_SERVICE) != [before]
    assert MOVED not in stage.status()["message"]


def test_a_tuned_service_does_not_move_either_and_a_new_one_goes_where_it_fits() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    before = tuned(stage)
    size = chosen_is_too_small(stage)
    stage.passes(2)
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert stage.status()["state"] == "Ready"
    stage.cluster.remove(Key(RAY_SERVICE, "team", "mine"))
    stage.passes()
    assert stage.status()["plan"]["instanceType"] != size
    assert len(stage.cluster.all(RAY_SERVICE)) == 1


def test_a_service_moves_with_the_nodes_that_its_operator_gives_it() -> None:
    stage = Stage()
    before = serving(stage)
    node = stage.cluster.find(NODE, "", "gpu-1")
    assert node is not None
    node["metadata"]["labels"]["node.kubernetes.io/instance-type"] = "Standard_NC40ads_H100_v5"
    stage.cluster.put(node)
    stage.passes(2)
    assert stage.status()["plan"]["instanceType"] == "Standard_NC40ads_H100_v5"
    assert stage.cluster.all(RAY_SERVICE) != [before]


def found_node(stage: Stage, gpus: int) -> None:
    """A machine that no table knows, as NVIDIA's feature discovery labels it; its device plugin says how many GPUs."""
    found = {
        "product": "NVIDIA-A100-SXM4-80GB",
        "memory": "81920",
        "compute.major": "8",
        "compute.minor": "0",
    }
    labels = {"app": "mine", **{f"nvidia.com/gpu.{key}": value for key, value in found.items()}}
    room = {"cpu": "24", "memory": "220Gi", "nvidia.com/gpu": str(gpus)}
    stage.cluster.put({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1", "labels": labels},
        "status": {"allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    })  # fmt: skip


def without_gpus(stage: Stage) -> None:
    found_node(stage, 0)


def without_node(stage: Stage) -> None:
    stage.cluster.remove(Key(NODE, "", "gpu-1"))


@pytest.mark.parametrize(
    ("change", "reason"), [(without_gpus, "GpusMissing"), (without_node, "NodesMissing")]
)
def test_a_service_on_a_machine_that_no_table_knows_does_not_move_while_that_shows_no_gpu(
    change: Callable[[Stage], None], reason: str
) -> None:
    stage = Stage()
    found_node(stage, 1)
    before = serving(stage)
    told = stage.status()
    change(stage)
    stage.passes(2)
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert conditions(stage)["ResourceReady"] == ("False", reason)
    assert f"{MOVED}NVIDIA-A100-SXM4-80GB to " in stage.status()["message"]
    found_node(stage, 1)
    stage.passes(2)
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert stage.status()["plan"] == told["plan"]


def test_a_status_that_was_lost_moves_no_service() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    before = serving(stage)
    size = stage.status()["plan"]["instanceType"]
    dear = replace(load_skus()[size], usd_per_hour=1000.0)
    stage.skus = {**load_skus(), size: dear}
    edit(stage, status={})
    stage.restart()
    stage.passes(2)
    assert stage.status()["plan"]["instanceType"] == size
    assert [each["spec"] for each in stage.cluster.all(RAY_SERVICE)] == [before["spec"]]


def away(preset: Preset) -> Preset:
    raise TransientError(f"the hub cannot be reached for {preset.name}")


def test_nodes_are_wanted_after_a_restart_while_nobody_can_say_what_the_model_is() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    serving(stage)
    groups = stage.board.groups()
    stage.models = OtherModels(away)
    stage.restart()
    with pytest.raises(TransientError):
        stage.passes()
    assert stage.board.groups() == groups


def test_nodes_are_wanted_after_a_restart_while_an_object_beside_the_service_cannot_be_made() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    serving(stage)
    groups = stage.board.groups()
    stage.cluster.remove(Key(NETWORK_POLICY, "team", "mine"))
    stage.cluster.fail_next("apply", NETWORK_POLICY, DeniedError('networkpolicies "mine" is forbidden: no'))
    stage.restart()
    with pytest.raises(NotMadeError):
        stage.passes()
    assert stage.board.groups() == groups


def larger_context(stage: Stage) -> None:
    write_config(stage, "vllm: {max-model-len: 4096, max-num-seqs: 9}")


def cheaper(stage: Stage) -> None:
    edit(stage, resource={"labelSelector": {"matchLabels": {"app": "mine"}}, "maxHourlyCostUSD": 100})


def annotate(stage: Stage, name: str, value: str) -> None:
    found = stage.cluster.find(WORKSPACE, "team", "mine")
    assert found is not None
    edit(stage, metadata={**found["metadata"], "annotations": {name: value}})


def exposed(stage: Stage) -> None:
    annotate(stage, "kaito.sh/enablelb", "True")


def undo(stage: Stage) -> None:
    write_config(stage, CONFIG)
    found = stage.cluster.find(WORKSPACE, "team", "mine")
    assert found is not None
    metadata = {key: value for key, value in found["metadata"].items() if key != "annotations"}
    edit(stage, metadata=metadata, resource={"labelSelector": {"matchLabels": {"app": "mine"}}})


@pytest.mark.parametrize("later", LATER)
def test_a_followed_service_is_closed_at_its_users_word_and_not_touched_for_it(
    later: Callable[[Stage], None],
) -> None:
    stage = Stage()
    serving(stage)
    exposed(stage)
    stage.passes(3)
    before = stage.cluster.all(RAY_SERVICE)[0]
    assert front_type(stage) == "LoadBalancer"
    later(stage)
    stage.restart()
    annotate(stage, "kaito.sh/enablelb", "False")
    stage.passes(3)
    assert front_type(stage) == "ClusterIP"
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert stage.status()["state"] == "Ready"


@pytest.mark.parametrize("change", [larger_context, cheaper, exposed])
@pytest.mark.parametrize("followed", [True, False])
def test_an_edit_is_refused_and_what_runs_is_left_alone_until_it_is_taken_back(
    change: Callable[[Stage], None], *, followed: bool
) -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    before = serving(stage)
    groups, front = stage.board.groups(), stage.cluster.find(SERVICE, "team", "mine")
    all_smaller(stage)
    stage.restart()
    stage.passes(2 if followed else 0)
    change(stage)
    for _ in range(2):
        stage.passes(2)
        assert stage.status()["state"] == "NotReady"
        assert conditions(stage)["WorkspaceReady"] == ("False", "CannotBePlanned")
        assert conditions(stage)["InferenceReady"] == ("True", "Serving")
        assert stage.board.groups() == groups
        stage.restart()
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert stage.cluster.find(SERVICE, "team", "mine") == front
    undo(stage)
    stage.passes(2)
    assert stage.status()["state"] == "Ready"
    assert stage.cluster.all(RAY_SERVICE) == [before]


def test_a_status_that_was_lost_is_told_anew_from_what_runs() -> None:
    stage = Stage()
    before = serving(stage)
    told = stage.status()
    smaller_gpus(stage)
    edit(stage, status={})
    stage.restart()
    stage.passes(2)
    assert stage.status()["inference"] == told["inference"]
    assert (stage.status()["state"], stage.status()["revision"]) == ("Ready", told["revision"])
    assert stage.cluster.all(RAY_SERVICE) == [before]


def tuned(stage: Stage) -> Manifest:
    """A tuning that has ended, whose adapter is served."""
    write_config(stage, TRAINING_CONFIG, "training_config.yaml")
    stage.put(tuning=TUNING)
    stage.passes(2)
    stage.end_job(**DONE)
    stage.passes(2)
    answer(stage)
    stage.passes(3)
    assert stage.status()["state"] == "Ready"
    return stage.cluster.all(RAY_SERVICE)[0]


@pytest.mark.parametrize("later", LATER)
def test_the_service_of_a_tuned_adapter_is_followed_alike(later: Callable[[Stage], None]) -> None:
    stage = Stage()
    before = tuned(stage)
    told = conditions(stage)
    later(stage)
    stage.restart()
    stage.passes(2)
    assert conditions(stage) == told
    assert stage.status()["state"] == "Ready"
    assert stage.cluster.all(RAY_SERVICE) == [before]
    assert PLANNED_ANEW in stage.status()["message"]


def test_a_tuned_service_that_cannot_be_drawn_with_keys_is_not_opened() -> None:
    stage = Stage()
    before = tuned(stage)
    smaller_gpus(stage)
    stage.restart()
    exposed(stage)
    stage.passes(2)
    assert (front_type(stage), follows(stage)) == ("ClusterIP", "mine-abcde")
    assert conditions(stage)["InferenceReady"] == ("False", "CannotBePlanned")
    assert conditions(stage)["WorkspaceSucceeded"] == ("True", "AdapterPushed")
    assert stage.cluster.all(RAY_SERVICE) == [before]


def test_a_tuned_service_that_is_open_stays_so_where_an_edit_of_something_else_is_refused() -> None:
    stage = Stage()
    tuned(stage)
    exposed(stage)
    stage.passes(3)
    front = stage.cluster.find(SERVICE, "team", "mine")
    assert front is not None
    assert front["spec"]["type"] == "LoadBalancer"
    smaller_gpus(stage)
    stage.restart()
    cheaper(stage)
    stage.passes(2)
    assert conditions(stage)["InferenceReady"] == ("False", "CannotBePlanned")
    assert stage.cluster.find(SERVICE, "team", "mine") == front
    annotate(stage, "kaito.sh/enablelb", "False")
    stage.passes(2)
    assert (front_type(stage), follows(stage)) == ("ClusterIP", "mine-abcde")


def test_a_tuned_service_that_moved_wants_its_own_nodes_and_not_those_of_its_job() -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    tuned(stage)
    of_the_job = stage.board.groups()
    selector = {"labelSelector": {"matchLabels": {"app": "mine"}}}
    edit(stage, resource={**selector, "instanceType": "Standard_NC40ads_H100_v5"})
    stage.passes(2)
    groups = stage.board.groups()
    assert groups != of_the_job
    all_smaller(stage)
    stage.restart()
    stage.passes(2)
    assert stage.cluster.all(RAY_JOB)
    assert PLANNED_ANEW in stage.status()["message"]
    assert stage.board.groups() == groups
    edit(stage, resource={**selector, "instanceType": "Standard_NC48ads_A100_v4"})
    stage.restart()
    stage.passes(2)
    assert stage.status()["state"] == "NotReady"
    assert stage.board.groups() == groups


def begun(stage: Stage, text: str = TRAINING_CONFIG, **work: Any) -> str:
    """A tuning whose job runs; the job's name."""
    write_config(stage, text, "training_config.yaml")
    stage.put(tuning={**TUNING, **work})
    stage.passes(2)
    return stage.end_job(jobDeploymentStatus="Running", jobStatus="RUNNING")


@pytest.mark.parametrize("later", LATER)
def test_a_job_that_runs_is_followed_to_its_end(later: Callable[[Stage], None]) -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    begun(stage, serve=False)
    stage.passes()
    groups, told = stage.board.groups(), conditions(stage)
    later(stage)
    stage.restart()
    stage.passes(2)
    assert (conditions(stage), stage.board.groups()) == (told, groups)
    assert stage.status()["state"] == "Running"
    stage.end_job(**DONE)
    stage.passes(2)
    assert stage.status()["state"] == "Succeeded"


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("job_is_there", [True, False])
def test_of_what_has_ended_and_serves_nothing_a_later_release_says_nothing(
    later: Callable[[Stage], None], *, job_is_there: bool
) -> None:
    stage = Stage()
    name = begun(stage, serve=False)
    stage.end_job(**DONE)
    stage.passes(3)
    told, written = stage.status(), stage.cluster.writes
    assert told["state"] == "Succeeded"
    if not job_is_there:
        stage.cluster.remove(Key(RAY_JOB, "team", name))
    later(stage)
    stage.restart()
    stage.passes(2)
    assert (stage.status(), stage.cluster.writes) == (told, written)


def test_a_job_that_is_lost_is_not_made_again_for_what_would_be_refused() -> None:
    stage = Stage()
    begun(stage)
    smaller_gpus(stage)
    stage.restart()
    stage.end_job(jobDeploymentStatus="Failed", reason="JobStatusCheckTimeoutExceeded")
    stage.passes(4)
    assert stage.status()["state"] == "NotReady"
    assert conditions(stage)["WorkspaceReady"] == ("False", "CannotBePlanned")
    assert not stage.cluster.all(RAY_JOB)


def test_an_adapter_that_is_there_is_kept_where_its_service_cannot_be_planned() -> None:
    stage = Stage()
    begun(stage)
    smaller_gpus(stage)
    stage.restart()
    stage.end_job(**DONE)
    stage.passes(3)
    assert conditions(stage)["WorkspaceSucceeded"] == ("True", "AdapterPushed")
    assert conditions(stage)["InferenceReady"] == ("False", "CannotBePlanned")
    assert stage.status()["state"] == "NotReady"


@pytest.mark.parametrize("job_is_there", [True, False])
def test_a_failed_tuning_is_not_tried_again_with_a_config_that_is_refused(*, job_is_there: bool) -> None:
    stage = Stage()
    name = begun(stage, LARGE)
    stage.end_job(jobDeploymentStatus="Failed", jobStatus="FAILED", message="no")
    stage.passes(2)
    assert stage.status()["state"] == "Failed"
    without_room_for_large_batches(stage)
    stage.restart()
    stage.passes()
    assert stage.status()["state"] == "Failed"
    if not job_is_there:
        stage.cluster.remove(Key(RAY_JOB, "team", name))
    annotate(stage, "kairay.dev/retry", "1")
    stage.passes(2)
    assert (stage.status()["state"], conditions(stage)["WorkspaceReady"]) == (
        "NotReady",
        ("False", "CannotBePlanned"),
    )
    assert "per_device_train_batch_size 4" in stage.status()["message"]
    assert len(stage.cluster.all(RAY_JOB)) == job_is_there
    stage.skus = load_skus()
    stage.restart()
    stage.passes()
    assert stage.cluster.all(RAY_JOB)[-1]["metadata"]["name"].endswith("-2")


LARGE = "training_config: {TrainingArguments: {max_length: 16384, per_device_train_batch_size: 4}}"


def without_room_for_large_batches(stage: Stage) -> None:
    stage.skus = {**load_skus(), SIZE: replace(load_skus()[SIZE], bytes_per_gpu=24 * 2**30)}


def test_a_tuning_that_is_planned_without_its_refused_config_says_so() -> None:
    stage = Stage()
    begun(stage, LARGE)
    without_room_for_large_batches(stage)
    edit(stage, status={})
    stage.restart()
    stage.passes(2)
    said = stage.status()["plan"]["reasons"]
    assert stage.status()["state"] == "Running"
    assert any(
        each.startswith("ConfigMap own: it is refused, so the preset's own settings are planned with (")
        and "per_device_train_batch_size 4" in each
        for each in said
    )
    assert not any("was not seen" in each for each in said)


def test_what_was_planned_with_a_config_that_is_refused_later_is_still_told() -> None:
    stage = Stage()
    begun(stage, LARGE)
    stage.passes()
    told = stage.status()["plan"]
    without_room_for_large_batches(stage)
    stage.restart()
    stage.passes(2)
    plan = stage.status()["plan"]
    assert plan == {**told, "reasons": [plan["reasons"][0], *told["reasons"]]}
    assert any(each.startswith("planned with ConfigMap own: ") for each in told["reasons"])


def test_after_such_a_tuning_its_adapter_is_served() -> None:
    stage = Stage()
    begun(stage, LARGE)
    stage.passes()
    without_room_for_large_batches(stage)
    stage.restart()
    stage.end_job(**DONE)
    stage.passes(2)
    drawn = stage.cluster.all(RAY_SERVICE)
    assert len(drawn) == 1
    answer(stage)
    stage.passes(2)
    stage.restart()
    stage.passes(2)
    assert stage.status()["state"] == "Ready"
    assert [each["spec"] for each in stage.cluster.all(RAY_SERVICE)] == [each["spec"] for each in drawn]
    assert not any("was not seen" in each for each in stage.status()["plan"]["reasons"])
