"""Passes of the controller against an API server in memory: what is written, and above all what is not."""

from __future__ import annotations

from controller_stage import Stage
from kairay.controller.triggers import concerned
from kairay.kube.objects import (
    CONFIG_MAP,
    NODE,
    RAY_JOB,
    RAY_SERVICE,
    SECRET,
    SERVICE,
    WORKSPACE,
    Key,
)
from kairay.objects.metadata import WORKSPACE_LABEL

TUNING = {
    "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
    "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}  # fmt: skip
INFERENCE = {"preset": {"name": "phi-3-mini-128k-instruct"}}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "endTime": "2026-11-24T11:00:00Z"}


def test_what_has_not_changed_is_not_written_again() -> None:
    stage = Stage()
    stage.put(inference=INFERENCE)
    stage.passes(2)
    before = stage.cluster.writes
    stage.passes(5)
    stage.restart()
    stage.passes(5)
    assert stage.cluster.writes == before


def test_a_job_is_never_edited_and_made_once_however_often_the_controller_restarts() -> None:
    stage = Stage()
    stage.put(tuning=TUNING)
    for _ in range(4):
        stage.passes(2)
        stage.restart()
    assert stage.cluster.calls["apply", RAY_JOB.kind] == 1


def test_a_deleted_job_and_a_wiped_status_ask_for_no_other_job() -> None:
    stage = Stage()
    stage.put(tuning=TUNING)
    stage.passes(2)
    name = stage.end_job(**DONE)
    stage.passes(2)
    assert stage.status()["tuning"]["outcome"] == "Succeeded"
    stage.cluster.remove(Key(RAY_JOB, "team", name))
    stage.restart()
    stage.passes(3)
    assert not stage.cluster.all(RAY_JOB)


def test_an_edit_there_and_back_ends_with_one_job() -> None:
    stage = Stage()
    stage.put(tuning=TUNING)
    stage.passes(2)
    first = stage.cluster.all(RAY_JOB)[0]["metadata"]["name"]
    stage.put(tuning={**TUNING, "input": {"urls": ["https://example.com/b.jsonl"]}}, status=stage.status())
    stage.passes(2)
    assert [job["metadata"]["name"] for job in stage.cluster.all(RAY_JOB)] != [first]
    stage.put(tuning=TUNING, status=stage.status())
    stage.passes(2)
    assert [job["metadata"]["name"] for job in stage.cluster.all(RAY_JOB)] == [first]


def test_an_object_of_somebody_else_is_left_alone_and_named() -> None:
    stage = Stage()
    other = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mine", "namespace": "team"},
        "spec": {},
    }
    stage.cluster.put(other)
    stage.put(inference=INFERENCE)
    assert stage.passes(2) is not None, "nothing tells when it has gone"
    assert "Service team/mine is there already" in stage.status()["message"]
    found = stage.cluster.find(SERVICE, "team", "mine")
    assert found is not None
    assert found["spec"] == {}


def test_what_kaito_made_for_the_same_workspace_is_left_alone_and_named() -> None:
    stage = Stage()
    made = stage.put(inference=INFERENCE)
    owner = {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "name": "mine", "uid": made["metadata"]["uid"],
        "controller": True,
    }  # fmt: skip
    stage.cluster.put({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "mine", "namespace": "team", "ownerReferences": [owner]},
        "spec": {"selector": {"kaito.sh/workspace": "mine"}},
    })  # fmt: skip
    stage.passes(2)
    assert "kubectl -n team delete services mine" in stage.status()["message"]
    found = stage.cluster.find(SERVICE, "team", "mine")
    assert found is not None
    assert found["spec"] == {"selector": {"kaito.sh/workspace": "mine"}}
    stage.cluster.remove(Key(SERVICE, "team", "mine"))
    stage.passes(2)
    found = stage.cluster.find(SERVICE, "team", "mine")
    assert found is not None
    assert "kaito.sh/workspace" not in found["spec"]["selector"]


def test_what_a_deleted_namesake_left_goes_before_ours_comes() -> None:
    stage = Stage()
    stale = [{"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "name": "mine", "uid": "another"}]
    stage.cluster.put({
        "apiVersion": "ray.io/v1", "kind": "RayService",
        "metadata": {"name": "mine", "namespace": "team", "ownerReferences": stale,
                     "labels": {WORKSPACE_LABEL: "mine"}},
    })  # fmt: skip
    made = stage.put(inference=INFERENCE)
    stage.passes(2)
    found = stage.cluster.find(RAY_SERVICE, "team", "mine")
    assert found is not None
    assert found["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


def test_keys_are_made_once_when_the_service_is_exposed() -> None:
    stage = Stage()
    made = stage.put(inference=INFERENCE)
    stage.passes(2)
    assert stage.cluster.find(SECRET, "team", "mine-api-keys") is None
    made["metadata"]["annotations"] = {"kaito.sh/enablelb": "True"}
    stage.cluster.put(made)
    stage.passes(2)
    keys = stage.cluster.find(SECRET, "team", "mine-api-keys")
    stage.passes(2)
    assert keys is not None
    assert stage.cluster.find(SECRET, "team", "mine-api-keys") == keys


def test_a_deleted_workspace_is_left_to_kubernetes() -> None:
    stage = Stage()
    stage.put(inference=INFERENCE)
    stage.passes(2)
    stage.cluster.remove(Key(WORKSPACE, "team", "mine"))
    before = stage.cluster.writes
    stage.passes(2)
    assert stage.cluster.writes == before


def test_a_node_that_is_gone_is_said_at_once() -> None:
    stage = Stage()
    stage.put(inference=INFERENCE)
    stage.passes(2)
    stage.cluster.remove(Key(NODE, "", "gpu-1"))
    stage.passes()
    reasons = {each["type"]: each["reason"] for each in stage.status()["conditions"]}
    assert reasons["ResourceReady"] == "NodesMissing"


def test_data_in_a_config_map_that_is_missing_holds_the_job_until_it_comes() -> None:
    stage = Stage()
    data = {"volumeSource": {"configMap": {"name": "questions"}}}
    stage.put(tuning={**TUNING, "input": data})
    stage.passes()
    assert "there is no ConfigMap questions in namespace team; apply it" in stage.status()["message"]
    assert not stage.cluster.all(RAY_JOB)
    questions = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "questions", "namespace": "team"},
        "data": {"train.jsonl": ""},
    }  # fmt: skip
    stage.cluster.put(questions)
    workspaces = stage.cluster.all(WORKSPACE)
    assert concerned(CONFIG_MAP, None, questions, lambda: workspaces) == {("team", "mine")}
    stage.passes()
    assert len(stage.cluster.all(RAY_JOB)) == 1
    stage.cluster.remove(Key(CONFIG_MAP, "team", "questions"))
    stage.passes()
    assert "ConfigMap" not in stage.status()["message"], "a job that runs has read it"
