"""KubeRay's real operator and the controller on a real API server where quotas let no pod be made.

Nothing else runs here: a pod that is made stays Pending, and what a quota has used is written by the test and then
counted on by the API server.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bare import BareApiServer, eventually
from kairay.kube.objects import POD, RAY_CLUSTER, RAY_JOB, WORKSPACE
from onebox.api import Manifest
from rights import api_server_with_rights, controller

pytestmark = pytest.mark.cluster

PRESET = {"name": "phi-3-mini-128k-instruct"}
TUNING = {
    "preset": PRESET, "method": "qlora", "input": {"urls": ["https://example.com/train.jsonl"]},
    "output": {"image": "registry.example/team/adapter:1", "imagePushSecret": "push"},
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareApiServer]:
    """An API server with KubeRay's operator and the controller as its own account."""
    folder = tmp_path_factory.mktemp("unmade")
    with api_server_with_rights() as server:
        if not (server.tools / "ray-operator").exists():
            pytest.skip("ray-operator is not built on this machine; run `make cluster-tools`")
        with operator(server, folder / "operator.log"), controller(server, folder):
            yield server


def test_a_job_says_which_quota_holds_its_head_until_it_comes(server: BareApiServer) -> None:
    full(server, "jobs", "pods", 1)
    add_workspace(server, "jobs", {"tuning": TUNING})
    says = "its head pod cannot be made in namespace jobs: quota few is used up (pods: 1 wanted, 1 of 1 used)"
    told = eventually("the quota is told", lambda: status_with(server, "jobs", says))
    assert told is not None
    started = next(each for each in told["conditions"] if each["type"] == "JobStarted")
    assert (started["reason"], started["status"]) == ("NamespaceQuotaExceeded", "False")
    room_for_more(server, "jobs", "pods", says)
    # As Ray's autoscaler asks for a worker.
    quota(server, "jobs", "pods", hard=2, used=2)
    cluster = RAY_CLUSTER.path("jobs", server.api.items(RAY_CLUSTER.path("jobs"))[0]["metadata"]["name"])
    server.api.patch(cluster, [{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": 1}])
    eventually("the quota is told", partial(status_with, server, "jobs", "a worker pod cannot be made"))
    server.api.patch(cluster, [{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": 0}])
    eventually("it is forgotten", lambda: not status_with(server, "jobs", "quota"))


def test_kuberays_next_try_writes_no_status(server: BareApiServer) -> None:
    full(server, "tries", "pods", 1)
    add_workspace(server, "tries", {"tuning": TUNING})
    eventually("the quota is told", lambda: status_with(server, "tries", "quota few is used up"))
    before = server.api.get(WORKSPACE.path("tries", "mine"))["metadata"]["resourceVersion"]
    answers: set[str] = set()

    def tries() -> int:
        answers.add(failure(server, "tries"))
        return len(answers)

    # By the third the controller has had its pass after the second.
    eventually("KubeRay tries again, with other names", lambda: tries() >= 3, 60)
    assert server.api.get(WORKSPACE.path("tries", "mine"))["metadata"]["resourceVersion"] == before


def test_a_service_says_which_quota_holds_its_head_until_it_comes(server: BareApiServer) -> None:
    full(server, "serves", "pods", 1)
    add_workspace(server, "serves", {"inference": {"preset": PRESET}})
    says = (
        "its head pod cannot be made in namespace serves: quota few is used up (pods: 1 wanted, 1 of 1 used)"
    )
    told = eventually("the quota is told", lambda: status_with(server, "serves", says), 60)
    assert told is not None
    ready = next(each for each in told["conditions"] if each["type"] == "InferenceReady")
    assert (ready["reason"], ready["status"]) == ("NamespaceQuotaExceeded", "False")
    room_for_more(server, "serves", "pods", says)


def test_a_cluster_that_cannot_be_made_at_all_is_told_of_a_job_and_of_a_service(
    server: BareApiServer,
) -> None:
    for place, work in (("none", {"tuning": TUNING}), ("nowhere", {"inference": {"preset": PRESET}})):
        full(server, place, "count/rayclusters.ray.io", 1)
        add_workspace(server, place, work)
    for place in ("none", "nowhere"):
        says = (
            f"cannot be made in namespace {place}: quota few is used up (count/rayclusters.ray.io: 1 wanted"
        )
        eventually("the quota is told", partial(status_with, server, place, says), 60)


def test_a_claim_above_the_quota_is_told_and_made_when_there_is_room(server: BareApiServer) -> None:
    full(server, "claims", "persistentvolumeclaims", 1)
    add_workspace(server, "claims", {"tuning": TUNING})
    says = "persistentvolumeclaims/mine-run cannot be made in namespace claims: quota few is used up"
    eventually("the quota is told", lambda: status_with(server, "claims", says))
    quota(server, "claims", "persistentvolumeclaims", hard=9, used=1)
    eventually("it is forgotten", lambda: not status_with(server, "claims", "quota"), 60)


# -- what stands -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def operator(server: BareApiServer, log: Path) -> Iterator[None]:
    """KubeRay's, as the administrator; nobody asks for its metrics or its health."""
    arguments = ("--enable-leader-election=false", "--metrics-addr=0", "--health-probe-bind-address=0")
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(server.tools / "ray-operator"), *arguments], env=environment, stdout=output, stderr=output
        )
    try:
        yield
        assert process.poll() is None, f"the operator ended: {log.read_text('utf-8')[-2000:]}"
    finally:
        process.kill()
        process.wait()


def full(server: BareApiServer, place: str, what: str, hard: int) -> None:
    """A namespace with a quota that is used up, and that is enforced when this returns."""
    add_namespace(server, place)
    server.api.apply({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {what: str(hard)}},
    }, place)  # fmt: skip
    quota(server, place, what, hard=hard, used=hard)


def quota(server: BareApiServer, place: str, what: str, *, hard: int, used: int) -> None:
    status = {"hard": {what: str(hard)}, "used": {what: str(used)}}
    server.api.patch(f"/api/v1/namespaces/{place}/resourcequotas/few/status", {"status": status})


def room_for_more(server: BareApiServer, place: str, what: str, says: str) -> None:
    """The quota is raised, KubeRay is told to try at once, and the sentence goes when the head is there."""
    quota(server, place, what, hard=9, used=1)
    cluster = server.api.items(RAY_CLUSTER.path(place))[0]["metadata"]["name"]
    server.api.patch(RAY_CLUSTER.path(place, cluster), {"metadata": {"annotations": {"try": "again"}}})
    eventually("the head is there", lambda: server.api.items(POD.path(place)))
    eventually("it is forgotten", lambda: not status_with(server, place, says))


def failure(server: BareApiServer, place: str) -> str:
    """What the RayJob's copy of its cluster's status says."""
    status = server.api.items(RAY_JOB.path(place))[0]["status"]["rayClusterStatus"]
    return next(str(each["message"]) for each in status["conditions"] if each["type"] == "ReplicaFailure")


def add_namespace(server: BareApiServer, name: str) -> None:
    server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def add_workspace(server: BareApiServer, place: str, work: Manifest) -> None:
    resource = {"instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "mine"}}}
    server.api.apply({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine"}, "resource": resource,
        **work,
    }, place)  # fmt: skip


def status_with(server: BareApiServer, place: str, words: str) -> Manifest | None:
    """The Workspace's status, where its message has these words."""
    found: Manifest = server.api.get(WORKSPACE.path(place, "mine")).get("status") or {}
    return found if words in found.get("message", "") else None
