"""Pods that wait without a word: their events are read seldom, told in status, and forgotten when they start."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from controller_stage import NOW, Stage
from kairay.controller.events import Events, Recorder, news
from kairay.controller.pod_events import MOST_ASKED, PodEvents
from kairay.errors import KairayError, TransientError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import CLAIM, EVENT, POD, RAY_JOB, Key, Manifest

TUNING = {
    "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
    "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}  # fmt: skip
NO_SECRET = 'MountVolume.SetUp failed for volume "login-0" : secret "push" not found'
SAYS = (
    "there is no Secret push in namespace team; create it: kubectl -n team create secret docker-registry push"
)


class Waiting(Stage):
    """A tuning Workspace whose head has a node since `NOW` and waits for its volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.put(tuning=TUNING)
        self.passes(2)
        self.head = self.put_pod("head", role="head", status=creating())

    def put_pod(self, name: str, *, role: str, status: Manifest, spec: Manifest | None = None) -> Manifest:
        labels = {"kairay.dev/workspace": "mine", "kairay.dev/role": role, "kairay.dev/revision": "r"}
        return self.cluster.put({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "team", "labels": labels},
            "spec": {"nodeName": "gpu-1", **(spec or {})}, "status": status,
        })  # fmt: skip

    def say(self, about: Manifest, reason: str, message: str, count: int = 1) -> None:
        """As the kubelet does: one event, counted on."""
        metadata = about["metadata"]
        self.cluster.put({
            "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message,
            "count": count,
            "metadata": {"name": f"{metadata['name']}.{reason.lower()}", "namespace": "team"},
            "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata["uid"]},
            "lastTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        })  # fmt: skip

    @property
    def asked(self) -> int:
        return self.cluster.calls["list", EVENT.kind]


def creating(**more: Any) -> Manifest:
    state = {"waiting": {"reason": "ContainerCreating"}}
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW.isoformat()}
    containers = [{"name": "ray-head", "state": state, "ready": False}]
    return {"phase": "Pending", "conditions": [placed], "containerStatuses": containers, **more}


RUNNING = creating(
    phase="Running", containerStatuses=[{"name": "ray-head", "state": {"running": {}}, "ready": True}]
)


def test_a_missing_secret_is_said_within_half_a_minute_and_forgotten_when_the_pod_starts() -> None:
    stage = Waiting()
    assert stage.passes() == pytest.approx(20.0), "most pods start sooner"
    assert stage.asked == 0
    stage.say(stage.head, "FailedMount", NO_SECRET)
    again = stage.after(20)
    assert again == pytest.approx(15.0)
    assert stage.condition("JobStarted") == ("ReferenceMissing", stage.status()["message"])
    assert SAYS in stage.status()["message"]
    assert stage.status()["state"] == "Pending"
    # The secret is created, so the kubelet goes on.
    stage.cluster.set_status(Key(POD, "team", "head"), RUNNING)
    assert stage.passes() is None
    assert stage.condition("JobStarted")[0] == "JobWaiting"
    assert "Secret" not in stage.status()["message"]


def test_while_the_pod_pulls_its_image_the_old_fault_is_not_said_any_more() -> None:
    stage = Waiting()
    stage.say(stage.head, "FailedMount", NO_SECRET)
    stage.after(20)
    stage.now += timedelta(seconds=15)
    stage.say(stage.head, "Pulling", 'Pulling image "ghcr.io/kairay/ray:1"')
    stage.passes()
    assert stage.condition("JobStarted")[0] == "JobWaiting"
    assert "its node pulls the image ghcr.io/kairay/ray:1" in stage.status()["message"]


def test_another_count_of_the_same_fault_writes_nothing() -> None:
    stage = Waiting()
    stage.say(stage.head, "FailedMount", NO_SECRET)
    stage.after(20)
    writes = stage.cluster.writes
    for count in range(2, 8):
        stage.now += timedelta(seconds=15)
        stage.say(stage.head, "FailedMount", NO_SECRET, count=count)
        stage.passes()
    assert stage.cluster.writes == writes
    assert SAYS in stage.status()["message"]


def test_passes_for_other_reasons_ask_for_no_events_in_between_and_say_the_same() -> None:
    stage = Waiting()
    stage.say(stage.head, "FailedMount", NO_SECRET)
    stage.after(20)
    before = stage.status()
    for _ in range(10):
        stage.after(1)
    assert stage.asked == 1
    assert stage.status() == before


def test_who_has_waited_long_is_asked_after_more_seldom() -> None:
    stage = Waiting()
    assert stage.after(80) == pytest.approx(20.0)
    assert stage.after(3600) == pytest.approx(120.0)


def test_nothing_that_runs_or_says_why_it_waits_costs_a_call() -> None:
    stage = Waiting()
    unplaced = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    stage.cluster.set_status(Key(POD, "team", "head"), RUNNING)
    stage.put_pod("worker", role="worker", status={"phase": "Pending", "conditions": [unplaced]})
    assert stage.after(600) is None
    assert stage.asked == 0


def test_a_pod_that_serves_an_earlier_adapter_is_not_what_a_job_waits_for() -> None:
    stage = Waiting()
    stage.cluster.remove(Key(POD, "team", "head"))
    refused = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    status = creating(containerStatuses=[{"name": "ray-worker", "image": "x", "state": refused}])
    serves = stage.put_pod("worker", role="worker", status=status)
    del serves["metadata"]["labels"]["kairay.dev/revision"]
    stage.cluster.put(serves)
    stage.passes()
    assert stage.condition("JobStarted")[0] == "JobWaiting"


def test_a_claim_that_nobody_fulfils_is_told_for_its_pod() -> None:
    stage = Waiting()
    stage.cluster.set_status(Key(POD, "team", "head"), RUNNING)
    job = stage.cluster.all(RAY_JOB)[0]["metadata"]["name"]
    stage.cluster.set_status(
        Key(RAY_JOB, "team", job), {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
    )
    claim = stage.cluster.set_status(Key(CLAIM, "team", "mine-run"), {"phase": "Pending"})
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": message}],
    }
    worker = stage.put_pod("worker", role="worker", status=status)
    del worker["spec"]["nodeName"]
    worker["spec"]["volumes"] = [{"name": "run", "persistentVolumeClaim": {"claimName": "mine-run"}}]
    stage.cluster.put(worker)
    stage.say(claim, "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    assert stage.after(20) == pytest.approx(15.0)
    assert stage.condition("WorkspaceSucceeded")[0] == "ClaimNotBound"
    assert "claim mine-run: there is no storage class fast" in stage.status()["message"]


def test_a_claim_that_many_pods_share_is_asked_after_once() -> None:
    cluster = FakeCluster(now=lambda: NOW)
    events = PodEvents(cluster, lambda _: None)
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    unplaced = {"type": "PodScheduled", "status": "False", "message": message}
    claim = {"metadata": {"name": "run", "uid": "uid-run"}, "status": {"phase": "Pending"}}
    pods = [
        {
            "metadata": {"name": f"w-{n}", "uid": f"uid-{n}", "creationTimestamp": "2026-11-24T11:00:00Z"},
            "spec": {"volumes": [{"name": "run", "persistentVolumeClaim": {"claimName": "run"}}]},
            "status": {"phase": "Pending", "conditions": [unplaced]},
        }
        for n in range(4)
    ]
    asyncio.run(events.hear(("team", "mine"), pods, lambda _: claim, NOW))
    assert cluster.calls["list", EVENT.kind] == 1


def test_events_that_may_not_be_read_change_nothing_else() -> None:
    stage = Waiting()
    stage.cluster.fail_next("list", EVENT, KairayError("events: forbidden", reason="Forbidden"))
    assert stage.after(20) == pytest.approx(15.0)
    assert "its head is starting" in stage.status()["message"]


def test_what_was_heard_holds_while_the_server_cannot_be_asked() -> None:
    stage = Waiting()
    stage.say(stage.head, "FailedMount", NO_SECRET)
    stage.after(20)
    stage.cluster.fail_next("list", EVENT, TransientError("the server is busy", retry_after=1.0))
    stage.after(15)
    assert SAYS in stage.status()["message"]


def test_one_pass_asks_after_a_few_pods_and_the_next_after_the_others() -> None:
    cluster = FakeCluster(now=lambda: NOW)
    events = PodEvents(cluster, lambda _: None)
    pods = [
        {
            "metadata": {
                "name": f"w-{number}",
                "uid": f"uid-{number}",
                "creationTimestamp": "2026-11-24T11:00:00Z",
            }
        }
        for number in range(MOST_ASKED + 2)
    ]

    def hear(seconds: float) -> float | None:
        heard = asyncio.run(
            events.hear(("team", "mine"), pods, lambda _: None, NOW + timedelta(seconds=seconds))
        )
        return heard.again

    assert hear(0) == pytest.approx(1.0), "two are still to be asked"
    assert cluster.calls["list", EVENT.kind] == MOST_ASKED
    assert hear(1) == pytest.approx(119.0)
    assert cluster.calls["list", EVENT.kind] == MOST_ASKED + 2


# -- events of ours --------------------------------------------------------------------------------------------------


class Recording(Waiting):
    """With the recorder that a controller has."""

    def recorder(self) -> Recorder:
        return Events(self.cluster, lambda: self.now, lambda error: pytest.fail(str(error)))

    def ours(self) -> list[tuple[str, str]]:
        found = (each for each in self.cluster.all(EVENT) if each["involvedObject"]["kind"] == "Workspace")
        return [(each["type"], each["reason"]) for each in found]


def test_a_refused_workspace_has_its_first_warning_once() -> None:
    stage = Recording()
    told = len(stage.ours())
    stage.put(tuning={**TUNING, "config": "not-there"}, status=stage.status())
    stage.passes(3)
    assert stage.ours()[told:] == [("Warning", "InvalidInput")]


def test_one_kind_of_trouble_is_one_warning_however_often_its_words_change() -> None:
    stage = Recording()
    told = len(stage.ours())
    stage.say(stage.head, "FailedMount", NO_SECRET)
    stage.after(20)
    stage.now += timedelta(seconds=15)
    stage.say(stage.head, "FailedMount", NO_SECRET.replace("push", "another"), count=2)
    stage.passes(3)
    assert "no Secret another" in stage.status()["message"]
    assert stage.ours()[told:] == [("Warning", "ReferenceMissing")]
    stage.cluster.set_status(Key(POD, "team", "head"), creating(phase="Failed", reason="Evicted"))
    stage.passes(3)
    assert stage.ours()[told:] == [("Warning", "ReferenceMissing"), ("Warning", "PodStopped")]


def test_conditions_that_say_the_same_of_one_cause_are_one_piece_of_news() -> None:
    same = {"status": "False", "reason": "InvalidInput", "message": "no"}
    other = {
        "type": "InferenceReady",
        "status": "False",
        "reason": "NotServed",
        "message": "tuning.serve is false",
    }
    after = [{"type": "ResourceReady", **same}, {"type": "WorkspaceSucceeded", **same}, other]
    assert [each["type"] for each in news({}, {"conditions": after})] == ["ResourceReady", "InferenceReady"]
    assert not list(news({"conditions": after}, {"conditions": after}))
