"""Edits that cannot be taken up now: what answers is told truly, and is never opened without its keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller_stage import Stage
from followed_work import (
    TUNING,
    annotate,
    answer,
    cheaper,
    conditions,
    edit,
    exposed,
    follows,
    front_type,
    hub_away,
    no_longer,
    serving,
    tuned,
    without_answer,
)
from kairay.controller import reconcile
from kairay.controller.refusals import NotChangedError
from kairay.errors import InputError
from kairay.kube.errors import DeniedError
from kairay.kube.objects import RAY_SERVICE, SERVICE, Key


@pytest.mark.parametrize("part", ["inference", "tuning"])
def test_an_empty_config_is_none(part: str) -> None:
    stage = Stage()
    work = {**TUNING, "config": ""}
    stage.put(**{part: work if part == "tuning" else {"preset": TUNING["preset"], "config": ""}})
    stage.passes()
    assert conditions(stage)["ResourceReady"] == ("True", "NodesReady")


def test_a_service_without_keys_that_has_no_cluster_for_a_while_is_not_opened() -> None:
    stage = Stage()
    tuned(stage)
    hub_away(stage)
    stage.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), {})
    exposed(stage)
    without_answer(stage, 2)
    answer(stage, "mine-fghij")
    without_answer(stage, 2)
    assert (follows(stage), front_type(stage)) == ("mine-fghij", "ClusterIP")


def test_a_service_without_keys_goes_before_the_front_is_opened() -> None:
    stage = Stage()
    tuned(stage)
    edit(stage, tuning={**TUNING, "serve": False})
    exposed(stage)
    stage.passes()
    assert (front_type(stage), stage.cluster.all(RAY_SERVICE)) == ("ClusterIP", [])
    stage.passes()
    assert front_type(stage) == "LoadBalancer"


def test_keys_stay_on_while_the_front_may_not_be_closed() -> None:
    stage = Stage()
    serving(stage)
    exposed(stage)
    stage.passes(3)
    before = stage.cluster.all(RAY_SERVICE)[0]
    annotate(stage, "kaito.sh/enablelb", "False")
    stage.cluster.fail_next("apply", SERVICE, DeniedError("no"), times=20)
    for _ in range(3):
        with pytest.raises(NotChangedError):
            stage.passes()
    assert front_type(stage) == "LoadBalancer"
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]


def test_a_tuned_service_opened_after_its_job_is_followed_by_a_release_that_cannot_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    tuned(stage)
    exposed(stage)
    stage.passes(3)
    ready = conditions(stage)
    monkeypatch.setattr(reconcile, "parse_workspace", no_longer)
    stage.restart()
    answer(stage, "mine-fghij")
    stage.passes(2)
    assert (stage.status()["state"], conditions(stage)) == ("Ready", ready)
    assert (follows(stage), front_type(stage)) == ("mine-fghij", "LoadBalancer")


@pytest.mark.parametrize("change", [cheaper, exposed])
def test_an_edit_of_what_serves_an_adapter_waits_for_the_hub_and_the_service_stays_ready(
    change: Callable[[Stage], None],
) -> None:
    stage = Stage()
    tuned(stage)
    told, ready = stage.status(), conditions(stage)
    hub_away(stage)
    change(stage)
    without_answer(stage, 2)
    after = stage.status()
    assert (after["state"], conditions(stage)) == ("Ready", ready)
    assert after["inference"] == told["inference"]


@pytest.mark.parametrize("change", [cheaper, exposed])
def test_an_edit_of_what_serves_an_adapter_is_denied_and_the_service_stays_ready(
    change: Callable[[Stage], None],
) -> None:
    stage = Stage()
    tuned(stage)
    told = stage.status()
    change(stage)
    stage.cluster.fail_next("apply", RAY_SERVICE, DeniedError("no"), times=2)
    for _ in range(2):
        with pytest.raises(NotChangedError):
            stage.passes()
    after = stage.status()
    assert (after["state"], after["inference"]) == ("Ready", told["inference"])
    assert conditions(stage)["InferenceReady"] == ("True", "ScaledToZero")


def test_a_denial_is_said_once_while_its_service_starts() -> None:
    stage = Stage()
    serving(stage)
    stage.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), {})
    stage.cluster.fail_next("apply", SERVICE, DeniedError("no"), times=2)
    with pytest.raises(NotChangedError):
        stage.passes()
    said = stage.status()["message"]
    assert said.startswith("RayService mine: its cluster is starting; services/mine cannot be changed")
    assert said.count("services/mine cannot be changed") == 1


def test_a_front_that_the_api_server_finds_invalid_is_told() -> None:
    stage = Stage()
    serving(stage)
    answer(stage, "mine-fghij")
    stage.cluster.fail_next("apply", SERVICE, InputError("spec.ports: invalid"), times=2)
    with pytest.raises(InputError):
        stage.passes()
    assert "spec.ports: invalid" in stage.status()["message"]


def test_an_older_adapters_service_is_not_ready_while_the_new_one_cannot_be_served() -> None:
    stage = Stage()
    tuned(stage)
    edit(stage, tuning={**TUNING, "input": {"urls": ["https://example.com/b.jsonl"]}})
    stage.passes(2)
    stage.end_job(jobDeploymentStatus="Running", jobStatus="RUNNING")
    stage.passes()
    hub_away(stage)
    stage.end_job(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED", endTime="2026-11-24T11:00:00Z")
    without_answer(stage, 3)
    exposed(stage)
    without_answer(stage, 2)
    assert conditions(stage)["WorkspaceSucceeded"] == ("True", "AdapterPushed")
    assert conditions(stage)["InferenceReady"] == ("False", "HubUnreachable")
