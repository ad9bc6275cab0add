"""A tuning that has begun, and the service of its adapter, are followed though a later release refuses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller_stage import Stage
from followed_work import (
    DONE,
    LATER,
    PLANNED_ANEW,
    SIZE,
    TRAINING_CONFIG,
    TUNING,
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
    smaller_gpus,
    tuned,
    write_config,
)
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.kube.objects import RAY_JOB, RAY_SERVICE, SERVICE, Key
from kairay.skus import load_skus


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
