"""Models that the catalogue lacks: a real API server, the controller as a process, hub and registry on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from answering import LLAMA_8B, AnsweringServer, answering_server, listing
from bare import BareApiServer, eventually
from kairay.crd.install import text_of
from kairay.kube.objects import RAY_SERVICE, WORKSPACE
from rights import TEAM, api_server_with_rights, controller

pytestmark = pytest.mark.cluster


@pytest.fixture
def models() -> Iterator[AnsweringServer]:
    with answering_server() as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[BareApiServer]:
    with api_server_with_rights() as found:
        found.api.apply_all(text_of("kuberay/install/policies.yaml"))
        yield found


def test_what_can_be_looked_up_is_served_and_the_rest_is_told_why_not(
    server: BareApiServer, models: AnsweringServer, tmp_path: Path
) -> None:
    models.publish("org/model", LLAMA_8B, listing({"config.json": 700, "model.safetensors": 16 * 10**9}))
    files = {"config.json": json.dumps(LLAMA_8B).encode(), "model.safetensors": bytes(10_000)}
    artifact = models.push("team/mine", "v1", files)
    names = {
        "hub": "org/model", "artifact": artifact, "gone": "org/gone", "folder": "/models/mine",
        "elsewhere": "registry.internal/team/mine:1",
    }  # fmt: skip
    for name, model in names.items():
        server.api.apply(workspace(name, model), TEAM)
    place = {"HF_ENDPOINT": models.url, "KAIRAY_MODEL_REGISTRIES": models.place, "HF_HOME": str(tmp_path)}
    with controller(server, tmp_path, **place):
        for name in ("hub", "artifact"):
            assert arguments(server, name)["preset"] == names[name]
        for name, said in (
            ("gone", "the hub knows no such model"), ("folder", "is a folder"), ("elsewhere", "models.registries"),
        ):  # fmt: skip
            eventually(f"{name} is refused", lambda name=name, said=said: said in message(server, name))
            assert server.api.find(RAY_SERVICE.path(TEAM, name)) is None
    assert not [path for path in models.asked if "folder" in path]


def workspace(name: str, model: str) -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": name},
        "resource": {"labelSelector": {"matchLabels": {"app": name}}},
        "inference": {"preset": {"name": model}},
    }  # fmt: skip


def arguments(server: BareApiServer, name: str) -> dict[str, Any]:
    """What the service's application is told."""
    path = RAY_SERVICE.path(TEAM, name)
    service = eventually(f"{name} is served", lambda: server.api.find(path))
    found: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    return found


def message(server: BareApiServer, name: str) -> str:
    status = server.api.get(WORKSPACE.path(TEAM, name)).get("status") or {}
    return str(status.get("message", ""))
