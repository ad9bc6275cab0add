"""What runs is followed, and told truly, while nothing can be decided anew: the hub is away, a rule of the cluster
denies what was decided, or this release cannot read the Workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controller_stage import Stage
from followed_work import (
    DONE,
    NO_LONGER,
    PLANNED_ANEW,
    TRAINING_CONFIG,
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
    larger_context,
    no_longer,
    serving,
    tuned,
    without_answer,
    write_config,
)
from kairay.controller import reconcile
from kairay.controller.refusals import NotChangedError, NotMadeError
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.kube.errors import DeniedError
from kairay.kube.objects import DEPLOYMENT, NETWORK_POLICY, RAY_JOB, RAY_SERVICE, SERVICE, Key, Kind, Manifest

TRIED_AGAIN = "Kairay tries again by itself, and what runs goes on"
HUB = f"the hub cannot be reached; {TRIED_AGAIN}"


def worker(stage: Stage, name: str, cluster: str) -> None:
    labels = {"kairay.dev/workspace": "mine", "kairay.dev/role": "worker", "ray.io/cluster": cluster}
    stage.cluster.put({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "team", "labels": labels},
        "spec": {"nodeName": "gpu-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })  # fmt: skip


def denies(stage: Stage, kind: Kind, times: int = 1) -> None:
    words = f"{kind.plural} \"mine\" is forbidden: ValidatingAdmissionPolicy 'labels' denied request: no label team"
    stage.cluster.fail_next("apply", kind, DeniedError(words), times=times)


def denied(stage: Stage, count: int = 1, error: type[Exception] = NotChangedError) -> None:
    for _ in range(count):
        with pytest.raises(error):
            stage.passes()


def said(stage: Stage, kind: str) -> str:
    return str(next(each["message"] for each in stage.status()["conditions"] if each["type"] == kind))


def policy_is_open(stage: Stage) -> bool:
    """To everybody, and not to the namespace alone."""
    found = stage.cluster.find(NETWORK_POLICY, "team", "mine")
    assert found is not None
    return "from" not in found["spec"]["ingress"][1]


def open_service(stage: Stage) -> Manifest:
    """A service that answers, with keys, also from outside."""
    serving(stage)
    exposed(stage)
    stage.passes(3)
    assert (front_type(stage), policy_is_open(stage)) == ("LoadBalancer", True)
    return stage.cluster.all(RAY_SERVICE)[0]


# -- the hub is away -------------------------------------------------------------------------------------------------


def test_the_front_follows_another_cluster_while_the_hub_is_away_after_a_restart() -> None:
    stage = Stage()
    before = serving(stage)
    told = stage.status()
    hub_away(stage)
    answer(stage, "mine-fghij")
    worker(stage, "w", "mine-fghij")
    without_answer(stage, 2)
    after = stage.status()
    assert follows(stage) == "mine-fghij"
    assert (after["state"], after["message"]) == ("Ready", f"RayService mine answers; {HUB}")
    assert after["inference"] == {**told["inference"], "readyReplicas": 1}
    assert after["plan"] == told["plan"]
    assert conditions(stage)["ResourceReady"] == ("True", "NodesReady")
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]
    written = stage.cluster.writes
    without_answer(stage, 2)
    assert stage.cluster.writes == written


def test_a_service_that_falls_while_the_hub_is_away_is_told_so() -> None:
    stage = Stage()
    serving(stage)
    hub_away(stage)
    stage.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), {})
    without_answer(stage)
    assert (stage.status()["state"], conditions(stage)["WorkspaceReady"]) == (
        "Pending",
        ("False", "Starting"),
    )


def test_a_network_policy_that_goes_while_the_hub_is_away_comes_again() -> None:
    stage = Stage()
    serving(stage)
    hub_away(stage)
    stage.cluster.remove(Key(NETWORK_POLICY, "team", "mine"))
    without_answer(stage)
    assert not policy_is_open(stage)


@pytest.mark.parametrize("change", [None, cheaper, larger_context])
def test_what_is_open_is_closed_while_the_hub_is_away_whatever_is_edited_besides(
    change: Callable[[Stage], None] | None,
) -> None:
    stage = Stage()
    before = open_service(stage)
    hub_away(stage)
    if change is not None:
        change(stage)
    without_answer(stage)
    assert (front_type(stage), policy_is_open(stage)) == ("LoadBalancer", True)
    annotate(stage, "kaito.sh/enablelb", "False")
    answer(stage, "mine-fghij")
    without_answer(stage)
    assert (front_type(stage), policy_is_open(stage)) == ("ClusterIP", False)
    assert follows(stage) == "mine-fghij"
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]


def test_conditions_that_another_controller_left_are_left_while_an_edit_waits() -> None:
    stage = Stage()
    serving(stage)
    old = {"type": "NodeClaimReady", "status": "True", "reason": "Old", "message": "",
           "lastTransitionTime": "2026-11-24T11:00:00Z"}  # fmt: skip
    edit(stage, status={**stage.status(), "conditions": [*stage.status()["conditions"], old]})
    hub_away(stage)
    cheaper(stage)
    without_answer(stage)
    assert old in stage.status()["conditions"]


@pytest.mark.parametrize("change", [exposed, larger_context, cheaper])
def test_an_edit_waits_for_the_hub_and_the_old_service_is_followed(change: Callable[[Stage], None]) -> None:
    stage = Stage()
    before = serving(stage)
    told = stage.status()
    hub_away(stage)
    change(stage)
    answer(stage, "mine-fghij")
    without_answer(stage, 2)
    assert (follows(stage), front_type(stage), policy_is_open(stage)) == ("mine-fghij", "ClusterIP", False)
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]
    after = stage.status()
    assert (after["state"], after["observedGeneration"]) == ("Ready", told["observedGeneration"])
    assert after["message"] == f"RayService mine answers; {HUB}"


def running(stage: Stage, **work: Any) -> None:
    """A tuning whose job runs."""
    write_config(stage, TRAINING_CONFIG, "training_config.yaml")
    stage.put(tuning={**TUNING, **work})
    stage.passes(2)
    stage.end_job(jobDeploymentStatus="Running", jobStatus="RUNNING")
    stage.passes()
    assert stage.status()["state"] == "Running"


def test_a_tuning_is_followed_to_its_end_while_the_hub_is_away_and_served_when_it_is_back() -> None:
    stage = Stage()
    running(stage)
    hub_away(stage)
    assert stage.passes() == reconcile.PROGRESS_SECONDS, "its figures go on"
    stage.end_job(**DONE)
    without_answer(stage, 2)
    assert conditions(stage)["WorkspaceSucceeded"] == ("True", "AdapterPushed")
    assert conditions(stage)["InferenceReady"] == ("False", "HubUnreachable")
    assert (stage.status()["state"], stage.cluster.all(RAY_SERVICE)) == ("Pending", [])
    stage.models = Stage().models
    stage.restart()
    stage.passes()
    assert len(stage.cluster.all(RAY_SERVICE)) == 1


def test_a_job_whose_head_is_lost_while_the_hub_is_away_has_its_next_attempt_when_it_is_back() -> None:
    stage = Stage()
    running(stage)
    hub_away(stage)
    stage.end_job(jobDeploymentStatus="Failed", reason="JobStatusCheckTimeoutExceeded")
    without_answer(stage, 4)
    assert (stage.status()["state"], stage.cluster.all(RAY_JOB)) == ("Pending", [])
    stage.models = Stage().models
    stage.restart()
    stage.passes(2)
    assert [job["metadata"]["name"][-2:] for job in stage.cluster.all(RAY_JOB)] == ["-2"]


def test_another_tuning_waits_for_the_hub_and_what_is_served_is_followed() -> None:
    stage = Stage()
    before = tuned(stage)
    told = stage.status()
    hub_away(stage)
    edit(stage, tuning={**TUNING, "input": {"urls": ["https://example.com/b.jsonl"]}})
    answer(stage, "mine-fghij")
    without_answer(stage, 2)
    after = stage.status()
    assert follows(stage) == "mine-fghij"
    assert (after["tuning"], after["state"]) == (told["tuning"], "Ready")
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]
    assert len(stage.cluster.all(RAY_JOB)) == 1


# -- a rule of the cluster denies it ---------------------------------------------------------------------------------


def test_while_an_edit_is_denied_status_tells_what_runs_and_the_remedy() -> None:
    stage = Stage()
    before = serving(stage)
    told = stage.status()
    larger_context(stage)
    denies(stage, RAY_SERVICE, 4)
    denied(stage)
    answer(stage, "mine-fghij")
    worker(stage, "w", "mine-fghij")
    denied(stage, 2)
    after = stage.status()
    why = (
        "rayservices/mine cannot be changed in namespace team: ValidatingAdmissionPolicy labels denies it:"
        " no label team; ask whoever keeps that rule for an exception"
    )
    assert follows(stage) == "mine-fghij"
    assert after["inference"] == {**told["inference"], "readyReplicas": 1}
    assert conditions(stage) == {
        "ResourceReady": ("False", "NotAllowed"),
        "InferenceReady": ("True", "Serving"),
        "WorkspaceSucceeded": ("True", "Serving"),
        "WorkspaceReady": ("True", "Serving"),
    }
    assert said(stage, "ResourceReady") == why
    assert (after["state"], after["message"]) == (
        "Ready",
        f"RayService mine answers; {why}; {TRIED_AGAIN}",
    )
    written = stage.cluster.calls["apply_status", "Workspace"]
    denied(stage)
    assert stage.cluster.calls["apply_status", "Workspace"] == written
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]
    stage.passes(2)
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] != before["spec"]
    assert conditions(stage)["ResourceReady"] == ("True", "NodesReady")


def test_a_service_whose_keys_are_denied_is_not_opened() -> None:
    stage = Stage()
    serving(stage)
    exposed(stage)
    denies(stage, RAY_SERVICE, 3)
    denied(stage, 2)
    assert (front_type(stage), policy_is_open(stage)) == ("ClusterIP", False)
    calls = stage.cluster.calls["apply", NETWORK_POLICY.kind]
    denied(stage)
    assert stage.cluster.calls["apply", NETWORK_POLICY.kind] == calls, "it is not opened in between"
    stage.passes(2)
    assert (front_type(stage), policy_is_open(stage)) == ("LoadBalancer", True)


def test_what_is_open_is_closed_though_the_edit_besides_is_denied() -> None:
    stage = Stage()
    open_service(stage)
    annotate(stage, "kaito.sh/enablelb", "False")
    larger_context(stage)
    denies(stage, RAY_SERVICE)
    denied(stage)
    assert (front_type(stage), policy_is_open(stage)) == ("ClusterIP", False)


def test_a_front_that_may_not_be_opened_says_so_beside_the_truth_of_what_answers() -> None:
    stage = Stage()
    serving(stage)
    exposed(stage)
    denies(stage, SERVICE, 8)
    denied(stage, 3)
    assert said(stage, "ResourceReady").startswith("services/mine cannot be changed in namespace team: ")
    assert conditions(stage)["InferenceReady"] == ("True", "Serving")


def test_a_tuning_is_told_to_its_end_while_an_object_beside_it_cannot_be_made() -> None:
    stage = Stage()
    running(stage, serve=False)
    stage.cluster.remove(Key(NETWORK_POLICY, "team", "mine"))
    denies(stage, NETWORK_POLICY, 20)
    denied(stage, error=NotMadeError)
    assert conditions(stage)["ResourceReady"] == ("False", "NotAllowed")
    assert conditions(stage)["JobStarted"] == ("True", "JobRunning")
    stage.end_job(**DONE)
    denied(stage, 2, error=NotMadeError)
    assert stage.status()["tuning"]["outcome"] == "Succeeded"
    assert stage.status()["state"] == "Succeeded"


def test_a_template_whose_edit_is_denied_still_tells_whether_it_answers() -> None:
    stage = Stage()
    container = {"name": "own", "image": "registry.example/own:1", "ports": [{"containerPort": 8080}]}
    stage.put(inference={"template": {"spec": {"containers": [container]}}})
    stage.passes(2)
    stage.cluster.set_status(Key(DEPLOYMENT, "team", "mine"), {"availableReplicas": 1})
    stage.passes()
    edit(stage, inference={"template": {"spec": {"containers": [{**container, "image": "other:1"}]}}})
    denies(stage, DEPLOYMENT, 2)
    stage.cluster.set_status(Key(DEPLOYMENT, "team", "mine"), {"availableReplicas": 0})
    denied(stage)
    assert conditions(stage)["InferenceReady"] == ("False", "Starting")
    assert conditions(stage)["ResourceReady"] == ("False", "NotAllowed")


def test_a_template_is_closed_though_its_edit_besides_is_denied() -> None:
    stage = Stage()
    container = {"name": "own", "image": "registry.example/own:1", "ports": [{"containerPort": 8080}]}
    stage.put(inference={"template": {"spec": {"containers": [container]}}})
    exposed(stage)
    stage.passes(2)
    assert front_type(stage) == "LoadBalancer"
    edit(stage, inference={"template": {"spec": {"containers": [{**container, "image": "other:1"}]}}})
    annotate(stage, "kaito.sh/enablelb", "False")
    denies(stage, DEPLOYMENT)
    denied(stage)
    assert front_type(stage) == "ClusterIP"


# -- a release that cannot read the Workspace ------------------------------------------------------------------------


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage], None]:
    """A release whose validation refuses the Workspace."""

    def install(stage: Stage) -> None:
        monkeypatch.setattr(reconcile, "parse_workspace", no_longer)
        stage.restart()

    return install


def test_a_service_whose_workspace_a_release_cannot_read_stays_ready_and_is_followed(
    later: Callable[[Stage], None],
) -> None:
    stage = Stage()
    stage.settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    stage.restart()
    before = serving(stage)
    told, groups, ready = stage.status(), stage.board.groups(), conditions(stage)
    later(stage)
    answer(stage, "mine-fghij")
    stage.passes(2)
    after = stage.status()
    assert (follows(stage), stage.board.groups()) == ("mine-fghij", groups)
    assert (after["state"], conditions(stage)) == ("Ready", ready)
    assert after["message"] == f"RayService mine answers; {PLANNED_ANEW}{NO_LONGER}"
    assert after["plan"]["reasons"][0] == f"{PLANNED_ANEW}{NO_LONGER}"
    assert (after["inference"], after["revision"]) == (told["inference"], told["revision"])
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]
    written = stage.cluster.writes
    stage.restart()
    stage.passes(2)
    assert stage.cluster.writes == written


@pytest.mark.parametrize("status_is_lost", [True, False])
def test_what_was_tuned_is_followed_alike(later: Callable[[Stage], None], *, status_is_lost: bool) -> None:
    stage = Stage()
    before = tuned(stage)
    ready = conditions(stage)
    later(stage)
    if status_is_lost:
        edit(stage, status={})
    answer(stage, "mine-fghij")
    stage.passes(3)
    assert (stage.status()["state"], follows(stage)) == ("Ready", "mine-fghij")
    assert conditions(stage) == ready
    assert f"{PLANNED_ANEW}{NO_LONGER}" in stage.status()["message"]
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]


def test_a_job_whose_workspace_a_release_cannot_read_is_followed_to_its_end(
    later: Callable[[Stage], None],
) -> None:
    stage = Stage()
    running(stage)
    told = stage.status()
    later(stage)
    stage.passes()
    assert (stage.status()["state"], conditions(stage)["JobStarted"]) == ("Running", ("True", "JobRunning"))
    stage.end_job(**DONE)
    stage.passes(2)
    after = stage.status()
    assert after["tuning"]["adapter"]["image"] == "registry.example/team/a:1"
    assert after["tuning"]["revision"] == told["tuning"]["revision"]
    assert conditions(stage)["WorkspaceSucceeded"] == ("True", "AdapterPushed")
    assert conditions(stage)["InferenceReady"] == ("False", "CannotBePlanned")
    assert len(stage.cluster.all(RAY_JOB)) == 1


@pytest.mark.parametrize("change", [larger_context, cheaper, exposed])
def test_an_edit_of_what_cannot_be_read_is_refused_and_what_runs_is_followed(
    later: Callable[[Stage], None], change: Callable[[Stage], None]
) -> None:
    stage = Stage()
    before = serving(stage)
    later(stage)
    change(stage)
    answer(stage, "mine-fghij")
    stage.passes(2)
    assert (stage.status()["state"], stage.status()["message"]) == ("NotReady", NO_LONGER)
    assert conditions(stage)["WorkspaceReady"] == ("False", "InvalidInput")
    assert conditions(stage)["InferenceReady"] == ("True", "Serving")
    assert (follows(stage), front_type(stage), policy_is_open(stage)) == ("mine-fghij", "ClusterIP", False)
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]


@pytest.mark.parametrize("change", [None, cheaper])
def test_what_cannot_be_read_is_closed_at_its_users_word(
    later: Callable[[Stage], None], change: Callable[[Stage], None] | None
) -> None:
    stage = Stage()
    before = open_service(stage)
    later(stage)
    if change is not None:
        change(stage)
    annotate(stage, "kaito.sh/enablelb", "False")
    stage.passes(2)
    assert (front_type(stage), policy_is_open(stage)) == ("ClusterIP", False)
    assert stage.cluster.all(RAY_SERVICE)[0]["spec"] == before["spec"]


def test_of_a_workspace_that_cannot_be_read_nothing_is_made(later: Callable[[Stage], None]) -> None:
    stage = Stage()
    later(stage)
    stage.put(inference={"preset": {"name": "phi-3-mini-128k-instruct"}})
    stage.passes(2)
    assert (stage.status()["state"], stage.status()["message"]) == ("NotReady", NO_LONGER)
    assert stage.cluster.writes == 1


def test_an_edit_that_the_plan_refuses_lets_the_front_follow_and_close() -> None:
    stage = Stage()
    open_service(stage)
    edit(stage, inference={"preset": {"name": "no-such-model"}, "config": "own"})
    answer(stage, "mine-fghij")
    stage.passes(2)
    assert (stage.status()["state"], follows(stage), front_type(stage)) == (
        "NotReady",
        "mine-fghij",
        "LoadBalancer",
    )
    annotate(stage, "kaito.sh/enablelb", "False")
    stage.passes(2)
    assert (front_type(stage), policy_is_open(stage)) == ("ClusterIP", False)
