"""Least rights: the controller as its own account, through everything that it does, on a real API server.

kuberay/install/rbac.yaml is compared with the API server's audit log in both directions. Nobody runs the Ray objects
here, so the test writes what KubeRay's operator would; nothing garbage-collects, so what a deleted Workspace leaves has
to be cleared away by the controller itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bare import BareApiServer, eventually
from kairay.errors import KairayError
from kairay.kube.client import Client
from kairay.kube.connect import connect
from kairay.kube.objects import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    RAY_CLUSTER,
    RAY_JOB,
    RAY_SERVICE,
    SECRET,
    SERVICE,
    WORKSPACE,
    Kind,
)
from node_keeping import LABELS, keep_until_cordoned
from onebox.api import Manifest
from rights import NAMESPACE, RIGHTS, TEAM, Audit, Right, api_server_with_rights, controller, held, kubeconfig

pytestmark = pytest.mark.cluster

FINALIZERS = Right("kaito.sh", "workspaces/finalizers", "update")
WITHOUT_A_REQUEST = {
    FINALIZERS: "asked by the plugin OwnerReferencesPermissionEnforcement of whoever writes blockOwnerDeletion",
}
"""Rights that no request shows, and why they are held."""


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return Audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def guarded(audit: Audit) -> Iterator[BareApiServer]:
    """An API server that writes the account's requests down, with Kairay's CRD and rights."""
    plugins = (
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        # A claim's finalizer is taken away by a controller that does not run here.
        "--disable-admission-plugins=StorageObjectInUseProtection",
    )
    with api_server_with_rights(*audit.arguments, *plugins) as server:
        add_node(server, "gpu", {"app": "gpu"})
        yield server


@pytest.fixture(scope="module")
def done(guarded: BareApiServer, audit: Audit) -> Audit:
    """The audit log after everything that a controller does."""
    try:
        with controller(guarded, audit.folder):
            make_all(guarded)
            wait_for_a_secret(guarded)
            miss_a_head(guarded)
            finish_job(guarded)
            stop_serving(guarded)
            tune_anew(guarded)
            delete_and_make_again(guarded)
        cordon_idle_node(guarded, audit.folder)
    except AssertionError as error:
        pytest.fail(f"{error}; refused: {audit.refused() or 'nothing'}")
    return audit


def test_nothing_that_the_controller_does_is_refused(done: Audit) -> None:
    assert done.refused() == []


def test_every_right_is_used_or_says_why_it_is_held(done: Audit) -> None:
    idle = held(RIGHTS) - done.used() - set(WITHOUT_A_REQUEST)
    assert sorted(map(str, idle)) == []


def test_what_is_used_is_what_the_file_gives(done: Audit) -> None:
    """Nothing comes from rights that every account has."""
    assert sorted(map(str, done.used() - held(RIGHTS))) == []


def test_without_the_right_to_finalizers_an_owned_object_is_refused(
    guarded: BareApiServer, done: Audit, tmp_path: Path
) -> None:
    narrow = next(each for each in RIGHTS if each["kind"] == "ClusterRole")
    rules = [rule for rule in narrow["rules"] if rule["resources"] != ["workspaces/finalizers"]]
    guarded.api.apply({**narrow, "rules": rules})
    owner = guarded.api.get(WORKSPACE.path(TEAM, "chat"))
    reference = {"apiVersion": owner["apiVersion"], "kind": "Workspace", "name": "chat"}
    reference |= {"uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}
    metadata = {"name": "owned", "namespace": TEAM, "ownerReferences": [reference]}

    def refusal() -> str:
        async def apply() -> None:
            async with Client(connect({"KUBECONFIG": str(path)})) as client:
                await client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

        try:
            asyncio.run(apply())
        except KairayError as error:
            return error.message
        return ""

    path = kubeconfig(guarded, tmp_path / "kubeconfig")
    assert "blockOwnerDeletion" in eventually("the right is gone", refusal)
    guarded.api.apply(narrow)


# -- the way through everything --------------------------------------------------------------------------------------


def make_all(server: BareApiServer) -> None:
    """Each kind of Workspace; what they become stands when this returns."""
    for each in workspaces():
        server.api.apply(each)
    for kind, name in (
        (RAY_SERVICE, "chat"), (SECRET, "chat-api-keys"), (NETWORK_POLICY, "chat"), (DEPLOYMENT, "own"),
        (SERVICE, "own"), (CLAIM, "tune-run"), (SERVICE, "tune"),
    ):  # fmt: skip
        appears(server, kind, name)
    eventually("a RayJob is made", lambda: jobs(server))
    for name in ("chat", "own", "tune"):
        eventually(f"{name} has a status", lambda name=name: status(server, name).get("conditions"))


def wait_for_a_secret(server: BareApiServer) -> None:
    """As the kubelet would: a pod has a node for an hour, and that its Secret is missing stands in an event alone."""
    labels = {"kairay.dev/workspace": "chat", "kairay.dev/role": "worker", "ray.io/serve": "true"}
    made = server.api.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waits", "labels": labels},
        "spec": {"nodeName": "gpu", "containers": [{"name": "ray-worker", "image": "none"}]},
    }, TEAM)  # fmt: skip
    now = datetime.now(UTC)
    server.api.apply({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "waits.1"},
        "type": "Warning", "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "login-0" : secret "pull" not found',
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": "waits", "namespace": TEAM, "uid": made["metadata"]["uid"],
        },
        "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }, TEAM)  # fmt: skip
    since = (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": since}
    server.api.patch(
        f"/api/v1/namespaces/{TEAM}/pods/waits/status",
        {"status": {"phase": "Pending", "conditions": [placed]}},
    )
    eventually(
        "what is missing is said", lambda: "no Secret pull" in status(server, "chat").get("message", "")
    )
    server.api.delete(f"/api/v1/namespaces/{TEAM}/pods/waits", grace_seconds=0)
    eventually("it is forgotten", lambda: "no Secret pull" not in status(server, "chat").get("message", ""))


def miss_a_head(server: BareApiServer) -> None:
    """As KubeRay would: a service has a cluster whose head cannot be made, and then can."""
    cluster = "chat-x1y2z"
    container = {"name": "ray-head", "image": "none"}
    group = {"rayStartParams": {}, "template": {"spec": {"containers": [container]}}}
    server.api.apply({
        "apiVersion": RAY_CLUSTER.api_version, "kind": "RayCluster", "metadata": {"name": cluster},
        "spec": {"headGroupSpec": group},
    }, TEAM)  # fmt: skip
    quota = "exceeded quota: all, requested: pods=1, used: pods=4, limited: pods=4"
    words = f'FailedCreateHeadPod\npods "{cluster}-head-4hh4r" is forbidden: {quota}'
    told = {
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod", "message": words,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    server.api.patch(f"{RAY_CLUSTER.path(TEAM, cluster)}/status", {"status": {"conditions": [told]}})
    part = {"pendingServiceStatus": {"rayClusterName": cluster}}
    server.api.patch(f"{RAY_SERVICE.path(TEAM, 'chat')}/status", {"status": part})
    says = "its head pod cannot be made in namespace team: quota all is used up"
    eventually("the quota is told", lambda: says in status(server, "chat").get("message", ""), 40)
    labels = {"kairay.dev/workspace": "chat", "kairay.dev/role": "head", "ray.io/cluster": cluster}
    server.api.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "chat-head", "labels": labels},
        "spec": {"containers": [container]},
    }, TEAM)  # fmt: skip
    eventually("it is forgotten", lambda: says not in status(server, "chat").get("message", ""))
    server.api.delete(f"/api/v1/namespaces/{TEAM}/pods/chat-head", grace_seconds=0)


def finish_job(server: BareApiServer) -> None:
    """As KubeRay would: a cluster with a head and a token, and a job that has succeeded."""
    cluster, name = "tune-cluster", jobs(server)[0]["metadata"]["name"]
    labels = {"kairay.dev/workspace": "tune", "kairay.dev/role": "head", "ray.io/cluster": cluster}
    token = {"auth_token": base64.b64encode(b"token").decode()}
    server.api.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": cluster}, "data": token}, TEAM
    )
    server.api.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "head", "labels": labels},
        "spec": {"containers": [{"name": "head", "image": "none"}]},
    }, TEAM)  # fmt: skip
    # Nobody listens there: the figures are missing, the adapter counts.
    address = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running"}
    server.api.patch(f"/api/v1/namespaces/{TEAM}/pods/head/status", {"status": address})
    ended = {
        "jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "jobId": "job", "rayClusterName": cluster,
        "endTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    server.api.patch(f"{RAY_JOB.path(TEAM, name)}/status", {"status": ended})
    eventually("tuning has succeeded", lambda: status(server, "tune").get("tuning", {}).get("outcome"))
    appears(server, RAY_SERVICE, "tune")
    disappears(server, CLAIM, "tune-run")


def stop_serving(server: BareApiServer) -> None:
    tuning = workspaces()[2]["tuning"]
    server.api.patch(WORKSPACE.path(TEAM, "tune"), {"tuning": {**tuning, "serve": False}})
    disappears(server, RAY_SERVICE, "tune")


def tune_anew(server: BareApiServer) -> None:
    """Other data are another revision: its job comes, the old one goes."""
    old = jobs(server)[0]["metadata"]["name"]
    other = {"tuning": {"input": {"urls": ["https://example.com/other.jsonl"]}}}
    server.api.patch(WORKSPACE.path(TEAM, "tune"), other)
    disappears(server, RAY_JOB, old)
    eventually("another RayJob is made", lambda: jobs(server))


def delete_and_make_again(server: BareApiServer) -> None:
    """What the first ones left goes before what the second ones want comes."""
    job = jobs(server)[0]["metadata"]["name"]
    for each in workspaces():
        name = each["metadata"]["name"]
        path = WORKSPACE.path(TEAM, name)
        if name == "tune":
            # The same revision as the one that stands, so that the job and its file are in the way too.
            each["tuning"]["input"]["urls"] = ["https://example.com/other.jsonl"]
        server.api.delete(path)
        eventually("it is gone", lambda path=path: server.api.find(path) is None)
        server.api.apply(each)
    for owner, kind, name in (
        ("chat", RAY_SERVICE, "chat"), ("chat", NETWORK_POLICY, "chat"), ("own", DEPLOYMENT, "own"),
        ("own", SERVICE, "own"), ("tune", CLAIM, "tune-run"), ("tune", CONFIG_MAP, job), ("tune", RAY_JOB, job),
    ):  # fmt: skip
        uid = server.api.get(WORKSPACE.path(TEAM, owner))["metadata"]["uid"]
        path = kind.path(TEAM, name)
        eventually(
            f"{kind.kind} {name} is the new one's",
            lambda path=path, uid=uid: uid in owners(server.api.find(path)),
            40,
        )


def cordon_idle_node(server: BareApiServer, folder: Path) -> None:
    """What a controller that brings nodes does besides: looks for others' pods, remembers, cordons."""
    add_node(server, "idle", LABELS)
    connection = connect({"KUBECONFIG": str(kubeconfig(server, folder / "kubeconfig"))})
    try:
        asyncio.run(keep_until_cordoned(connection, NAMESPACE, 20))
    except TimeoutError as error:
        raise AssertionError("no node was cordoned") from error


def workspaces() -> list[Manifest]:
    preset = {"name": "phi-3-mini-128k-instruct"}
    container = {"name": "own", "image": "registry.example/own:1", "ports": [{"containerPort": 8080}]}
    template = {"spec": {"containers": [container]}}
    tuning = {
        "preset": preset, "method": "qlora", "input": {"urls": ["https://example.com/train.jsonl"]},
        "output": {"image": "registry.example/team/adapter:1", "imagePushSecret": "push"},
    }  # fmt: skip
    exposed = {"kaito.sh/enablelb": "True"}
    return [
        workspace("chat", {"inference": {"preset": preset}}, exposed),
        workspace("own", {"inference": {"template": template}}, {}),
        workspace("tune", {"tuning": tuning}, {}),
    ]


def workspace(name: str, work: Manifest, annotations: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": name, "namespace": TEAM, "annotations": annotations},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "gpu"}},
        },
        **work,
    }  # fmt: skip


def add_node(server: BareApiServer, name: str, labels: dict[str, str]) -> None:
    labels = {"node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4", **labels}
    server.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    room = {"cpu": "24", "memory": "220Gi", "nvidia.com/gpu": "1", "pods": "110"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"allocatable": room, "capacity": room, "conditions": [ready]}
    server.api.patch(f"/api/v1/nodes/{name}/status", {"status": status})


# -- what stands -----------------------------------------------------------------------------------------------------


def appears(server: BareApiServer, kind: Kind, name: str) -> None:
    eventually(f"{kind.kind} {name} is there", lambda: server.api.find(kind.path(TEAM, name)))


def disappears(server: BareApiServer, kind: Kind, name: str) -> None:
    eventually(f"{kind.kind} {name} is gone", lambda: server.api.find(kind.path(TEAM, name)) is None)


def jobs(server: BareApiServer) -> list[Manifest]:
    return server.api.items(RAY_JOB.path(TEAM))


def status(server: BareApiServer, name: str) -> Manifest:
    found: Manifest = server.api.get(WORKSPACE.path(TEAM, name)).get("status") or {}
    return found


def owners(manifest: Manifest | None) -> list[str]:
    """UIDs."""
    return [each["uid"] for each in (manifest or {"metadata": {}})["metadata"].get("ownerReferences", ())]


def test_an_audit_log_is_read_for_what_it_is(tmp_path: Path) -> None:
    """The comparison itself: an apply that makes an object needs two rights, a refusal is none that is held."""
    events = [
        event("patch", "services", 201), event("patch", "secrets", 403), event("list", "rayjobs", 200, "ray.io"),
        event("patch", "workspaces", 200, "kaito.sh", "status"), {"verb": "get"},
    ]  # fmt: skip
    lines = "".join(f"{json.dumps(each)}\n" for each in events)
    (tmp_path / "audit.log").write_text(f'{lines}{{"verb": "cut')
    audit = Audit(tmp_path)
    assert audit.refused() == ["patch secrets"]
    assert sorted(map(str, audit.used())) == [
        "create services", "list rayjobs.ray.io", "patch services", "patch workspaces/status.kaito.sh",
    ]  # fmt: skip


def event(verb: str, resource: str, code: int, group: str = "", part: str = "") -> Manifest:
    about = (
        {"resource": resource}
        | ({"apiGroup": group} if group else {})
        | ({"subresource": part} if part else {})
    )
    return {"verb": verb, "objectRef": about, "responseStatus": {"code": code}}
