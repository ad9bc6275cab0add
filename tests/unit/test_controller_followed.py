"""A service that runs is followed though a later release would refuse it; what its user edits is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller_stage import Stage
from followed_work import (
    LATER,
    MOVED,
    PLANNED_ANEW,
    SIZE,
    OtherModels,
    all_smaller,
    annotate,
    answer,
    cheaper,
    chosen_is_too_small,
    conditions,
    edit,
    exposed,
    follows,
    front_type,
    larger_context,
    serving,
    smaller_gpus,
    undo,
)
from kairay import plan_config_keys
from kairay.controller.refusals import NotMadeError
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.errors import TransientError
from kairay.kube.errors import DeniedError
from kairay.kube.objects import NETWORK_POLICY, NODE, RAY_SERVICE, SERVICE, Key
from kairay.plan_config_keys import Key as ConfigKey
from kairay.presets import Preset
from kairay.skus import load_skus


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
