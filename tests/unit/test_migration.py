"""KAITO's Workspaces on the way to Kairay: the report, and the commands that a person runs."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from answering import SMALL_LLAMA, AnsweringServer, answering_server, listing
from command_line import kairay
from doctor_scenes import config_map, controller
from kairay.cli.as_controller import draw_as_controller
from kairay.cli.migrate import command_lines
from kairay.cluster.migration import (
    LEFT_KINDS,
    Migration,
    Outlook,
    Planner,
    draw_migration,
    find_migrations,
    look_ahead,
)
from kairay.cluster.observed import Observed
from kairay.controller.settings import ModelSettings, Settings
from kairay.errors import KairayError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import CONFIG_MAP, DEPLOYMENT, NODE, Manifest
from served_cluster import kubeconfig, served

UID = "6d1f6c9e-0000-4000-8000-000000000001"
TODAY = date(2026, 11, 24)
FINALIZER = "workspace.finalizer.kaito.sh"
INFERENCE = {"inference": {"preset": {"name": "phi-3-mini-128k-instruct"}}}
TUNING = {"tuning": {
    "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
    "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}}  # fmt: skip


def workspace(work: Manifest, status: Manifest | None = None, **metadata: Any) -> Manifest:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": "phi", "namespace": "team", "uid": UID, "finalizers": [FINALIZER], **metadata},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "phi"}},
        },
        **work, "status": status or {},
    }  # fmt: skip


def owned(kind: str, version: str = "v1", *, uid: str = UID, name: str = "phi", **parts: Any) -> Manifest:
    owner = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "name": "phi",
        "uid": uid,
        "controller": True,
    }
    metadata = {"name": name, "namespace": "team", "ownerReferences": [owner]}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}


def pods(gpus: int, **spec: Any) -> Manifest:
    container = {"name": "phi", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {"spec": {**spec, "template": {"spec": {"containers": [container]}}}}


def drawn(manifest: Manifest, *others: Manifest) -> Migration:
    return draw_migration(manifest, others, ahead(manifest))


def ahead(manifest: Manifest, *others: Manifest, settings: Settings | None = None) -> Outlook:
    """What the controller will say, with these other objects in the cluster."""
    cluster = FakeCluster()
    for each in others:
        cluster.put(each)
    return asyncio.run(look_ahead(cluster, manifest, planner(settings or Settings())))


def planner(settings: Settings) -> Planner:
    """As `kairay migrate` plans where no node is seen."""
    seen = Observed(server="https://ml", now=datetime.combine(TODAY, time(), UTC), version="v1.34.1")
    return lambda workspace, text: draw_as_controller(workspace, seen, settings, text).plan


def test_a_service_of_a_preset_keeps_its_name_and_changes_its_port_behind() -> None:
    found = drawn(
        workspace(INFERENCE),
        owned("StatefulSet", "apps/v1", **pods(2, replicas=3)),
        owned("Service"), owned("Service", name="phi-headless"), owned("Service", uid="another", name="other"),
    )  # fmt: skip
    assert (found.state, found.refused) == ("HandOver", "")
    assert any("port 80 " in line and "port 8000 in place of 5000" in line for line in found.changes)
    assert list(map(str, found.left)) == ["Service phi", "Service phi-headless", "StatefulSet phi (6 GPUs)"]
    assert found.commands[0] == (
        "kubectl -n team delete services/phi services/phi-headless statefulsets.apps/phi"
    )


def test_the_finalizer_is_taken_away_where_it_stands_and_only_if_it_does() -> None:
    (command,) = drawn(workspace(INFERENCE, finalizers=["other.example/x", FINALIZER])).commands
    patch = json.loads(shlex.split(command)[-1])
    assert patch == [
        {"op": "test", "path": "/metadata/finalizers/1", "value": FINALIZER},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]
    assert drawn(workspace(INFERENCE, finalizers=["other.example/x"])).commands == ()


def test_one_without_anything_of_kaito_is_kairays_already() -> None:
    assert drawn(workspace(INFERENCE, finalizers=[])).state == "Kairay's"


def test_what_is_refused_is_told_with_its_sentence() -> None:
    unknown = drawn(workspace({"inference": {"preset": {"name": "phi-33-mini"}}}))
    assert (unknown.state, unknown.changes) == ("Refused", ())
    assert "there is no preset 'phi-33-mini'; did you mean" in unknown.refused
    method = drawn(workspace({"tuning": {**TUNING["tuning"], "method": "dora"}}))
    assert method.refused.startswith("tuning.method: ")


def test_what_kaito_has_tuned_is_to_be_decided_before_kaito_stops() -> None:
    succeeded = {"conditions": [{"type": "WorkspaceSucceeded", "status": "True"}]}
    found = drawn(workspace(TUNING, succeeded), owned("Job", "batch/v1", **pods(1)))
    assert found.state == "Decide"
    assert "kubectl -n team delete workspace phi" in found.before[0]
    ours = {**succeeded, "tuning": {"revision": "abc123", "outcome": "Succeeded"}}
    assert drawn(workspace(TUNING, ours)).before == ()


@pytest.mark.parametrize(("status", "gpus"), [({}, 4), ({"completionTime": "2026-11-24T12:00:00Z"}, 0)])
def test_a_job_holds_gpus_until_it_has_ended(status: Manifest, gpus: int) -> None:
    found = drawn(workspace(TUNING), owned("Job", "batch/v1", **pods(2, parallelism=2), status=status))
    assert [each.gpus for each in found.left] == [gpus]


def test_a_member_of_an_inference_set_says_so() -> None:
    owners = [{"apiVersion": "kaito.sh/v1beta1", "kind": "InferenceSet", "name": "many", "uid": "another"}]
    found = drawn(workspace(INFERENCE, ownerReferences=owners))
    assert "InferenceSet many" in found.before[0]


def test_fields_and_annotations_without_meaning_here_are_named() -> None:
    annotations = {"kaito.sh/enablelb": "True", "kaito.sh/disable-benchmark": "true", "team.example/x": "1"}
    manifest = workspace(INFERENCE, annotations=annotations)
    manifest["resource"]["count"] = 2
    told = " ".join(drawn(manifest).changes)
    assert "resource.count 2 is not used" in told
    assert "annotation kaito.sh/disable-benchmark means nothing" in told
    assert "enablelb" not in told
    assert "team.example" not in told


def test_tuning_and_templates_say_what_differs() -> None:
    template = {"spec": {"containers": [{"name": "own", "ports": [{"containerPort": 8080}]}]}}
    assert "Deployment" in drawn(workspace({"inference": {"template": template}})).changes[0]
    assert "tuning.serve: false" in drawn(workspace(TUNING)).changes[-1]
    quiet = drawn(workspace({"tuning": {**TUNING["tuning"], "serve": False}}))
    assert not any("tuning.serve" in line for line in quiet.changes)


def test_the_commands_begin_with_a_copy_stop_kaito_and_end_with_the_workspaces() -> None:
    tuned = drawn(workspace(TUNING, {"conditions": [{"type": "WorkspaceSucceeded", "status": "True"}]}))
    refused = drawn(workspace({"inference": {}}))
    stops = ("kubectl -n kaito scale deployment/workspace --replicas=0",)
    lines = list(command_lines(stops, [tuned, refused]))
    comments = [line for line in lines if line.startswith("# team/phi: ")]
    assert len(comments) == 2
    assert "delete workspace phi" in comments[0]
    assert "refused: inference" in comments[1]
    commands = [line for line in lines if not line.startswith("#")]
    assert commands[0].startswith("kubectl get workspaces -A -o yaml > ")
    assert commands[1:] == [*stops, *tuned.commands, *refused.commands]
    assert all("\n" not in line for line in lines)


def test_a_cluster_is_read_and_what_kairay_made_is_not_kaitos() -> None:
    cluster = FakeCluster()
    made = cluster.put(workspace(INFERENCE))
    uid = made["metadata"]["uid"]
    cluster.put(owned("Service", uid=uid))
    ours = owned("Deployment", "apps/v1", uid=uid)
    ours["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kairay"}
    cluster.put(ours)
    before = cluster.writes
    for namespace, count in (("team", 1), (None, 1), ("elsewhere", 0)):
        found = asyncio.run(find_migrations(cluster, namespace, plan=planner(Settings())))
        assert len(found) == count
        assert all(list(map(str, each.left)) == ["Service phi"] for each in found)
    assert cluster.writes == before
    assert json.loads(json.dumps(drawn(workspace(INFERENCE)).to_dict()))["state"] == "HandOver"


# -- as the controller plans -----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering_server() as found:
        yield found


@pytest.mark.parametrize(
    ("hub", "model", "refused"),
    [
        (True, "org/model", ""),
        (True, "org/gone", "the hub knows no such model"),
        (False, "org/model", "models are not looked up on the hub here"),
        (True, "/models/mine", "is a folder, which pods on a cluster do not have"),
        (True, "registry.example/team/mine:1", "is not among the registries that Kairay asks"),
    ],
)
def test_a_model_is_looked_up_where_the_controller_asks_and_nowhere_else(
    server: AnsweringServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hub: bool,
    model: str,
    refused: str,
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    server.publish("org/model", SMALL_LLAMA, listing())
    settings = Settings(models=ModelSettings(hub=hub, endpoint=server.url))
    outlook = ahead(workspace({"inference": {"preset": {"name": model}}}), settings=settings)
    assert refused in outlook.refused
    assert bool(outlook.refused) is bool(refused)


def test_a_hub_that_nobody_reaches_refuses_nothing(
    server: AnsweringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    server.answers["/api/models/org/model?blobs=true"] = 503
    settings = Settings(models=ModelSettings(endpoint=server.url))
    outlook = ahead(workspace({"inference": {"preset": {"name": "org/model"}}}), settings=settings)
    assert outlook.refused == ""
    assert "hub" in outlook.sentences[0]


def own(data: dict[str, str]) -> Manifest:
    metadata = {"name": "own", "namespace": "team"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def test_a_persons_own_config_is_counted() -> None:
    configured = workspace({"inference": {**INFERENCE["inference"], "config": "own"}})
    text = {"inference_config.yaml": "vllm: {max-model-len: 4096}"}
    told = ahead(configured, own(text))
    assert "planned with ConfigMap own: vllm.max-model-len 4096" in told.sentences
    assert ahead(configured).refused == (
        "inference.config: there is no ConfigMap own in namespace team; apply it"
    )
    assert "has no key inference_config.yaml" in ahead(configured, own({})).refused
    wrong = {"inference_config.yaml": "vllm: {max-model-len: many}"}
    assert "ConfigMap own: vllm.max-model-len is" in ahead(configured, own(wrong)).refused


def test_a_config_that_may_not_be_read_is_told_and_refuses_nothing() -> None:
    configured = workspace({"inference": {**INFERENCE["inference"], "config": "own"}})
    cluster = FakeCluster()
    cluster.fail_next("get", CONFIG_MAP, KairayError("you may not", reason="Forbidden"))
    outlook = asyncio.run(look_ahead(cluster, configured, planner(Settings())))
    assert outlook.refused == ""
    assert outlook.sentences[0] == "inference.config: ConfigMap own was not seen: you may not"


# -- the command, against an API server on loopback ------------------------------------------------------------------

EMPTY = {
    kind.path(): {"metadata": {"resourceVersion": "1"}, "items": []} for kind in (*LEFT_KINDS, DEPLOYMENT, NODE)
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("phi-3-mini-128k-instruct", None, ["planned with default settings, as no Kairay is seen here", "HandOver"]),
        ("org/model", {}, ["planned with the settings of Kairay in namespace kairay-system", "HandOver"]),
        ("org/model", {"KAIRAY_MODEL_HUB": "false"}, ["refused: preset.name", "not looked up on the hub here"]),
    ],
)  # fmt: skip
def test_the_command_goes_by_the_settings_of_the_cluster(
    server: AnsweringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    model: str, settings: dict[str, str] | None, told: list[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    server.publish("org/model", SMALL_LLAMA, listing())
    objects = [
        workspace({"inference": {"preset": {"name": model}}}),
        owned("StatefulSet", "apps/v1", **pods(1)),
    ]
    if settings is not None:
        written = {"HF_ENDPOINT": server.url, **settings}
        objects += [controller(), config_map("kairay-controller", **written)]
    with served(tuple(objects), EMPTY) as url:
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, url))
        code, out, _ = kairay(capsys, "migrate")
    assert code == 0, out
    assert [word for word in told if word not in out] == []
