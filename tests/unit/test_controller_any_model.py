"""Workspaces that name a model of the hub or of a registry, through the real passes; both servers on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from answering import LLAMA_8B, AnsweringServer, answering_server, listing
from command_line import kairay
from controller_stage import Stage
from followed_work import conditions
from kairay.controller.models import ModelLookUp, look_up_model
from kairay.controller.reconcile import MODEL_SECONDS
from kairay.controller.settings import ModelSettings
from kairay.errors import TransientError
from kairay.kube.objects import CONFIG_MAP, RAY_JOB, RAY_SERVICE, Manifest

FILES = {
    "config.json": 700, "model.safetensors.index.json": 20_000,
    "model-00001-of-00002.safetensors": 8 * 10**9, "model-00002-of-00002.safetensors": 8 * 10**9,
}  # fmt: skip
NAMED = {"preset": {"name": "org/model", "presetOptions": {"modelAccessSecret": "my-token"}}}
TUNING = {
    **NAMED, "method": "qlora", "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering_server() as server:
        yield server


@pytest.fixture
def settings(server: AnsweringServer) -> ModelSettings:
    return ModelSettings(endpoint=server.url, registries=frozenset({server.place}))


@pytest.fixture
def stage(settings: ModelSettings, tmp_path: Path) -> Stage:
    return Stage(look_up(settings, tmp_path))


def look_up(settings: ModelSettings, home: Path) -> ModelLookUp:
    """That of a new process."""
    return ModelLookUp(lambda name: look_up_model(name, settings, {"HF_HOME": str(home)}))


def variables(template: Manifest) -> dict[str, Any]:
    """Of the pod's main container."""
    return {each["name"]: each for each in template["spec"]["containers"][0]["env"]}


def served(stage: Stage) -> tuple[dict[str, Any], Manifest]:
    """What the application is told, and the workers' pods."""
    service = stage.cluster.all(RAY_SERVICE)[0]
    application = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]
    workers = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]
    return application["args"], workers


def test_a_model_of_the_hub_is_served_by_its_id_with_the_users_token(
    stage: Stage, server: AnsweringServer
) -> None:
    server.publish("org/model", LLAMA_8B, listing(FILES))
    stage.put(inference=NAMED)
    stage.passes(2)
    assert conditions(stage)["ResourceReady"] == ("True", "NodesReady")
    arguments, workers = served(stage)
    assert (arguments["preset"], arguments["modelName"]) == ("org/model", "org/model")
    secret = variables(workers)["HF_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert (secret["name"], secret["key"]) == ("my-token", "HF_TOKEN")
    fetch = workers["spec"]["initContainers"][0]
    assert fetch["command"][-2:] == ["--preset", "org/model"]
    assert len(server.asked) == 2, "the second pass asks nobody"


def test_a_model_of_the_hub_is_tuned(stage: Stage, server: AnsweringServer) -> None:
    server.publish("org/model", LLAMA_8B, listing(FILES))
    stage.put(tuning=TUNING)
    stage.passes(2)
    job = stage.cluster.all(RAY_JOB)[0]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    assert variables(head)["HF_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "my-token"
    config = stage.cluster.all(CONFIG_MAP)[0]
    assert [json.loads(text)["preset"] for text in config["data"].values()] == ["org/model"]


def test_its_plan_is_the_one_that_kairay_plan_shows(
    stage: Stage, server: AnsweringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server.publish("org/model", LLAMA_8B, listing(FILES))
    written = stage.put(inference=NAMED)
    stage.passes()
    told = stage.status()["plan"]
    for name, value in server.environment(tmp_path / "hub").items():
        monkeypatch.setenv(name, value)
    written = {key: written[key] for key in ("apiVersion", "kind", "resource", "inference")}
    written["resource"] = {**written["resource"], "instanceType": told["instanceType"]}
    file = tmp_path / "workspace.yaml"
    file.write_text(yaml.safe_dump({**written, "metadata": {"name": "mine"}}))
    code, out, _ = kairay(capsys, "plan", str(file), "-o", "json")
    assert code == 0
    plan = json.loads(out)
    assert plan["preset"] == "org/model"
    chosen = next(each for each in plan["candidates"] if each["chosen"])
    assert (chosen["instanceType"], chosen["nodes"]) == (told["instanceType"], told["nodes"])


def test_an_artifact_of_a_listed_registry_is_served_by_its_reference(
    stage: Stage, server: AnsweringServer
) -> None:
    files = {"config.json": json.dumps(LLAMA_8B).encode(), "model.safetensors": bytes(10_000)}
    reference = server.push("team/mine", "v1", files)
    stage.put(inference={"preset": {"name": reference, "presetOptions": {"imagePullSecrets": ["pull"]}}})
    stage.passes()
    arguments, workers = served(stage)
    assert arguments["preset"] == reference
    assert any(each.get("secret", {}).get("secretName") == "pull" for each in workers["spec"]["volumes"])


def test_a_folder_and_a_registry_that_is_not_listed_are_refused(stage: Stage) -> None:
    for name, said in (("/models/mine", "is a folder"), ("other.example/a/b:1", "models.registries")):
        stage.put(inference={"preset": {"name": name}})
        stage.passes()
        assert said in stage.status()["message"]
        assert conditions(stage)["WorkspaceReady"] == ("False", "InvalidInput")
    assert not stage.cluster.all(RAY_SERVICE)


def test_a_model_that_pods_could_not_load_is_refused_before_anything_is_made(
    stage: Stage, server: AnsweringServer
) -> None:
    server.publish(
        "org/model", LLAMA_8B, listing({"config.json": 700, "consolidated.safetensors": 8 * 10**9})
    )
    files = {"config.json": json.dumps(LLAMA_8B).encode(), "pytorch_model.bin": bytes(10_000)}
    for name, said in (
        ("org/model", "org/model on the hub: its weights are in their maker's own format only"),
        (
            server.push("team/mine", "v1", files),
            "its weights are pytorch_model.bin, a format that can run code",
        ),
    ):
        stage.put(inference={"preset": {"name": name}})
        stage.passes()
        assert said in stage.status()["message"]
        assert conditions(stage)["WorkspaceReady"] == ("False", "InvalidInput")
    assert not stage.cluster.all(RAY_SERVICE)


def test_a_refusal_is_looked_at_again_after_a_minute_without_an_edit(
    stage: Stage, server: AnsweringServer
) -> None:
    stage.put(inference=NAMED)
    assert stage.passes() == MODEL_SECONDS
    assert "the hub knows no such model" in stage.status()["message"]
    assert "secret kairay-hub" in stage.status()["message"]
    server.publish("org/model", LLAMA_8B, listing(FILES))
    stage.now += timedelta(seconds=MODEL_SECONDS)
    before = stage.cluster.writes
    assert stage.passes() is None
    assert stage.cluster.writes > before
    assert stage.cluster.all(RAY_SERVICE)


def test_a_hub_that_is_away_is_said_and_the_pass_is_repeated(stage: Stage, server: AnsweringServer) -> None:
    server.answers["/api/models/org/model?blobs=true"] = 503
    stage.put(inference=NAMED)
    for _ in range(3):
        with pytest.raises(TransientError):
            stage.passes()
    assert conditions(stage)["ResourceReady"] == ("False", "HubUnreachable")
    assert stage.status()["state"] == "Pending"
    said = "the hub cannot be reached for org/model (HTTPError); check that the controller can reach it"
    assert stage.status()["message"].startswith(said)
    assert stage.status()["message"].endswith("; Kairay tries again by itself")
    assert stage.cluster.writes == 1


def test_what_runs_goes_on_while_the_hub_is_away(
    stage: Stage, server: AnsweringServer, settings: ModelSettings, tmp_path: Path
) -> None:
    server.publish("org/model", LLAMA_8B, listing(FILES))
    stage.put(inference=NAMED)
    stage.passes(2)
    before, objects = stage.status(), stage.cluster.all(RAY_SERVICE)
    server.answers.clear()
    server.answers["/api/models/org/model?blobs=true"] = 503
    stage.models = look_up(settings, tmp_path)
    stage.restart()
    with pytest.raises(TransientError):
        stage.passes()
    assert stage.cluster.all(RAY_SERVICE) == objects
    after = stage.status()
    assert "the hub cannot be reached for org/model" in after.pop("message")
    assert after == {key: value for key, value in before.items() if key != "message"}
    server.publish("org/model", LLAMA_8B, listing(FILES))
    stage.now += timedelta(minutes=1)
    stage.passes()
    assert stage.status() == before
