"""Pods that no rule of the cluster lets be made: told in status, asked for seldom, forgotten when they come."""

from __future__ import annotations

from typing import Any

import pytest

from controller_stage import Stage
from kairay.controller.refusals import NotChangedError, NotMadeError
from kairay.errors import KairayError
from kairay.kube.errors import DeniedError
from kairay.kube.objects import (
    CLAIM,
    DEPLOYMENT,
    EVENT,
    POD,
    RAY_CLUSTER,
    RAY_JOB,
    RAY_SERVICE,
    Key,
    Manifest,
)

PRESET = {"name": "phi-3-mini-128k-instruct"}
TUNING = {
    "preset": PRESET, "method": "qlora", "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}  # fmt: skip
CLUSTER = "mine-x1y2z"
SAYS = "cannot be made in namespace team: quota gpu is used up (pods: 1 wanted, 4 of 4 used): free some of it"
QUOTA = "exceeded quota: gpu, requested: pods=1, used: pods=4, limited: pods=4"


def failure(role: str = "Head", suffix: str = "4hh4r") -> Manifest:
    """The status of a RayCluster, as KubeRay 1.6 writes it after a try; each has another name."""
    reason = f"FailedCreate{role}Pod"
    words = f'{reason}\npods "{CLUSTER}-{role.lower()}-{suffix}" is forbidden: {QUOTA}'
    return {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": reason, "message": words}]}


class Refusing(Stage):
    """A Workspace whose pods cannot be made."""

    def put_pod(self, role: str, *, ready: bool = True, **labels: str) -> None:
        ours = {"kairay.dev/workspace": "mine", "kairay.dev/role": role, "ray.io/cluster": CLUSTER, **labels}
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        self.cluster.put({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": role, "namespace": "team", "labels": ours},
            "spec": {"nodeName": "gpu-1"}, "status": status,
        })  # fmt: skip

    def says_in_event(self, reason: str, message: str, kind: str, uid: str = "other") -> None:
        self.cluster.put({
            "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message,
            "metadata": {"name": f"{uid}.{reason.lower()}", "namespace": "team"},
            "involvedObject": {"kind": kind, "uid": uid}, "lastTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        })  # fmt: skip

    @property
    def asked(self) -> int:
        return self.cluster.calls["get", RAY_CLUSTER.kind]


class Job(Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.put(tuning=TUNING)
        self.passes(2)
        self.name = str(self.cluster.all(RAY_JOB)[0]["metadata"]["name"])

    def says(self, cluster: Manifest, **status: Any) -> None:
        told = {"rayClusterName": CLUSTER, "rayClusterStatus": cluster, **status}
        self.cluster.set_status(Key(RAY_JOB, "team", self.name), told)
        self.passes()


class Service(Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.put(inference={"preset": PRESET, "scaling": {"minReplicas": 0, "maxReplicas": 2}})
        self.passes(2)
        self.says("pendingServiceStatus")

    def says(self, part: str, app: str = "", deployment: str = "", **status: Any) -> None:
        deployments = {"chat": {"status": deployment}} if deployment else {}
        apps = {"mine": {"status": app, "serveDeploymentStatuses": deployments}} if app else {}
        told = {part: {"rayClusterName": CLUSTER, "applicationStatuses": apps}, **status}
        self.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), told)

    def cluster_says(self, status: Manifest) -> None:
        where = {"name": CLUSTER, "namespace": "team"}
        self.cluster.put(
            {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": where, "status": status}
        )

    def answers(self, deployment: str) -> None:
        self.says(
            "activeServiceStatus", "RUNNING", deployment, conditions=[{"type": "Ready", "status": "True"}]
        )
        self.passes(2)


# -- a job -----------------------------------------------------------------------------------------------------------


def test_a_job_whose_head_cannot_be_made_says_so_at_once_and_asks_for_nothing() -> None:
    stage = Job()
    stage.says(failure(), jobDeploymentStatus="Initializing")
    reason, message = stage.condition("JobStarted")
    assert reason == "NamespaceQuotaExceeded"
    assert f"RayJob {stage.name}: its head pod {SAYS}" in message
    assert stage.status()["message"] == message
    assert stage.status()["state"] == "Pending"
    assert stage.asked == 0


def test_one_try_after_another_writes_nothing_and_a_new_process_says_the_same() -> None:
    stage = Job()
    stage.says(failure(), jobDeploymentStatus="Initializing")
    before = stage.cluster.writes
    for suffix in ("aaaaa", "bbbbb", "ccccc"):
        stage.says(failure(suffix=suffix), jobDeploymentStatus="Initializing")
    stage.restart()
    stage.passes(2)
    assert stage.cluster.writes == before


def test_it_is_forgotten_when_the_head_comes_even_before_kuberay_says_so() -> None:
    stage = Job()
    stage.says(failure(), jobDeploymentStatus="Initializing")
    stage.put_pod("head", ready=False, **{"kairay.dev/revision": "r"})
    stage.passes()
    assert stage.condition("JobStarted")[0] == "JobWaiting"
    assert "quota" not in stage.status()["message"]
    stage.says({}, jobDeploymentStatus="Initializing")
    assert stage.condition("JobStarted")[0] == "JobWaiting"


def test_a_running_job_whose_worker_cannot_be_made_says_so_where_the_work_is_held() -> None:
    stage = Job()
    stage.put_pod("head", **{"kairay.dev/revision": "r"})
    stage.says(failure("Worker"), jobDeploymentStatus="Running", jobStatus="RUNNING")
    assert stage.condition("WorkspaceSucceeded")[0] == "NamespaceQuotaExceeded"
    assert f"waits for its worker: a worker pod {SAYS}" in stage.status()["message"]
    assert stage.condition("JobStarted")[0] == "JobRunning"
    stage.says({}, jobDeploymentStatus="Running", jobStatus="RUNNING")
    assert stage.condition("WorkspaceSucceeded")[0] == "Tuning"


def test_a_job_whose_cluster_cannot_be_made_at_all_is_told_what_kuberay_says_in_an_event() -> None:
    stage = Job()
    stage.says({}, jobDeploymentStatus="Initializing")
    assert stage.passes() == pytest.approx(20.0)
    stage.says_in_event("CreatedRayCluster", "another one", "RayService")
    job = stage.cluster.all(RAY_JOB)[0]
    words = (
        f'Failed to create RayCluster team/{CLUSTER}: rayclusters.ray.io "{CLUSTER}" is forbidden: {QUOTA}'
    )
    stage.says_in_event("FailedToCreateRayCluster", words, "RayJob", job["metadata"]["uid"])
    assert stage.after(20) == pytest.approx(15.0)
    assert stage.condition("JobStarted")[0] == "NamespaceQuotaExceeded"
    assert f"rayclusters.ray.io/{CLUSTER} {SAYS}" in stage.status()["message"]
    stage.put_pod("head", ready=False, **{"kairay.dev/revision": "r"})
    stage.after(1)
    assert stage.condition("JobStarted")[0] == "JobWaiting"


# -- a service -------------------------------------------------------------------------------------------------------


def test_a_service_whose_head_does_not_come_is_asked_for_its_cluster_after_a_while() -> None:
    stage = Service()
    stage.cluster_says(failure())
    assert stage.passes() == pytest.approx(20.0), "most heads come sooner"
    assert stage.asked == 0
    assert stage.after(20) == pytest.approx(15.0)
    assert stage.condition("InferenceReady")[0] == "NamespaceQuotaExceeded"
    assert f"RayService mine: its head pod {SAYS}" in stage.status()["message"]


def test_passes_in_between_ask_nothing_write_nothing_and_say_the_same() -> None:
    stage = Service()
    stage.cluster_says(failure())
    stage.after(20)
    before = stage.cluster.writes
    for _ in range(10):
        stage.after(1)
    assert (stage.asked, stage.cluster.writes) == (1, before)
    stage.cluster_says(failure(suffix="zz9k2"))
    stage.after(10)
    assert (stage.asked, stage.cluster.writes) == (2, before)
    stage.restart()
    stage.passes()
    assert (stage.asked, stage.cluster.writes) == (3, before), "a new process asks at once"


def test_who_waits_long_is_asked_after_more_seldom() -> None:
    stage = Service()
    stage.cluster_says(failure())
    stage.after(20)
    assert stage.after(240) == pytest.approx(60.0)
    assert stage.after(3600) == pytest.approx(120.0)


def test_when_the_head_is_there_nobody_is_asked_and_nothing_is_said_any_more() -> None:
    stage = Service()
    stage.cluster_says(failure())
    stage.after(20)
    stage.put_pod("head", ready=False)
    stage.after(1)
    assert stage.condition("InferenceReady")[0] == "Starting"
    assert "quota" not in stage.status()["message"]
    assert stage.asked == 1


def test_a_worker_that_cannot_be_made_is_told_while_the_application_starts() -> None:
    stage = Service()
    stage.put_pod("head")
    stage.cluster_says(failure("Worker"))
    stage.says("pendingServiceStatus", "DEPLOYING", "UPDATING")
    stage.after(20)
    assert f"RayService mine: a worker pod {SAYS}" in stage.status()["message"]


def test_a_service_at_zero_whose_replica_cannot_come_says_so_and_stays_ready() -> None:
    stage = Service()
    stage.put_pod("head")
    stage.answers("HEALTHY")
    stage.after(600)
    assert stage.status()["message"] == "no replica now; the next request starts one and waits"
    assert stage.asked == 0, "nothing is wanted"
    stage.cluster_says(failure("Worker"))
    stage.answers("UPSCALING")
    assert stage.condition("InferenceReady")[0] == "ScaledToZero"
    assert f"no replica now, and none can come: a worker pod {SAYS}" in stage.status()["message"]
    assert stage.status()["state"] == "Ready"


def test_a_service_that_answers_tells_of_the_replica_that_cannot_come_besides() -> None:
    stage = Service()
    stage.put_pod("head")
    stage.put_pod("worker")
    stage.cluster_says(failure("Worker"))
    stage.answers("UPSCALING")
    stage.after(20)
    assert f"RayService mine answers; besides, a worker pod {SAYS}" in stage.status()["message"]
    stage.answers("HEALTHY")
    assert stage.status()["message"] == "RayService mine answers"


def test_where_its_status_says_nothing_the_events_of_the_cluster_are_read() -> None:
    stage = Service()
    stage.cluster_says({})
    made = stage.cluster.find(RAY_CLUSTER, "team", CLUSTER)
    assert made is not None
    words = f'Failed creating service team/{CLUSTER}-head-svc, services "{CLUSTER}-head-svc" is forbidden: {QUOTA}'
    stage.says_in_event("FailedToCreateService", words, "RayCluster", made["metadata"]["uid"])
    stage.after(20)
    assert f"RayService mine: services/{CLUSTER}-head-svc {SAYS}" in stage.status()["message"]
    before = stage.cluster.calls["list", EVENT.kind]
    stage.put_pod("head")
    stage.answers("UPSCALING")
    assert stage.cluster.calls["list", EVENT.kind] == before, (
        "its worker is missing, and of that the status tells"
    )
    assert stage.status()["message"] == "no replica now; the next request starts one and waits"


def test_a_cluster_that_may_not_be_read_changes_nothing_else() -> None:
    stage = Service()
    stage.cluster.fail_next("get", RAY_CLUSTER, KairayError("rayclusters: forbidden", reason="Forbidden"))
    assert stage.after(20) == pytest.approx(15.0)
    assert "its cluster is starting" in stage.status()["message"]


def test_what_was_told_holds_while_the_server_cannot_be_asked() -> None:
    stage = Service()
    stage.cluster_says(failure())
    stage.after(20)
    stage.cluster.fail_next("get", RAY_CLUSTER, KairayError("no", reason="Forbidden"))
    stage.after(15)
    assert SAYS in stage.status()["message"]


# -- a template and our own objects ----------------------------------------------------------------------------------


def test_a_template_whose_pod_cannot_be_made_says_what_its_deployment_says() -> None:
    stage = Refusing()
    container = {"name": "own", "image": "registry.example/own:1", "ports": [{"containerPort": 8080}]}
    stage.put(inference={"template": {"spec": {"containers": [container]}}})
    stage.passes(2)
    told = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": f'pods "mine-5f7d9c6b8-" is forbidden: {QUOTA}'}  # fmt: skip
    stage.cluster.set_status(Key(DEPLOYMENT, "team", "mine"), {"conditions": [told]})
    stage.passes()
    reason, message = stage.condition("InferenceReady")
    assert (reason, f"Deployment mine: its pod {SAYS}" in message) == ("NamespaceQuotaExceeded", True)
    stage.cluster.set_status(Key(DEPLOYMENT, "team", "mine"), {"availableReplicas": 1})
    stage.passes()
    assert stage.condition("InferenceReady") == ("Serving", "Deployment mine answers")


def test_a_claim_that_a_quota_denies_is_told_and_tried_again() -> None:
    stage = Refusing()
    stage.put(tuning=TUNING)
    usage = "requested: requests.storage=20Gi, used: requests.storage=90Gi, limited: requests.storage=100Gi"
    words = f'persistentvolumeclaims "mine-run" is forbidden: exceeded quota: disk, {usage}'
    stage.cluster.fail_next("apply", CLAIM, DeniedError(words), times=2)
    with pytest.raises(NotMadeError):
        stage.passes()
    says = "persistentvolumeclaims/mine-run cannot be made in namespace team: quota disk is used up"
    assert stage.condition("WorkspaceReady")[0] == "NamespaceQuotaExceeded"
    assert says in stage.status()["message"]
    writes = stage.cluster.calls["apply_status", "Workspace"]
    with pytest.raises(NotMadeError):
        stage.passes()
    assert stage.cluster.calls["apply_status", "Workspace"] == writes
    stage.passes(2)
    assert "quota" not in stage.status()["message"]
    assert stage.cluster.all(RAY_JOB)


def test_an_edit_that_a_rule_denies_does_not_take_the_word_from_what_runs() -> None:
    stage = Service()
    stage.put_pod("head")
    stage.answers("HEALTHY")
    before = stage.status()
    made = {"preset": PRESET, "scaling": {"minReplicas": 0, "maxReplicas": 1}}
    stage.put(inference=made, status=before)
    stage.cluster.fail_next("apply", RAY_SERVICE, DeniedError('rayservices.ray.io "mine" is forbidden: no'))
    with pytest.raises(NotChangedError):
        stage.passes()
    said = (
        "rayservices.ray.io/mine cannot be changed in namespace team: no; more: kubectl -n team describe"
        " rayservices mine"
    )
    assert stage.condition("ResourceReady") == ("NotAllowed", said)
    after = stage.status()
    assert (
        after["message"]
        == f"{before['message']}; {said}; Kairay tries again by itself, and what runs goes on"
    )
    assert {key: after[key] for key in ("state", "inference", "plan", "observedGeneration")} == {
        key: before[key] for key in ("state", "inference", "plan", "observedGeneration")
    }
    assert [each for each in after["conditions"] if each["type"] != "ResourceReady"] == [
        each for each in before["conditions"] if each["type"] != "ResourceReady"
    ]
    stage.passes()
    assert stage.status()["message"] == before["message"]


def test_pods_of_another_cluster_are_no_sign_of_the_one_that_is_missing() -> None:
    stage = Service()
    stage.cluster_says(failure())
    stage.put_pod("head", **{"ray.io/cluster": "mine-older"})
    stage.after(20)
    assert stage.cluster.find(POD, "team", "head") is not None
    assert SAYS in stage.status()["message"]
