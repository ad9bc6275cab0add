"""Beside KAITO: what counts as live, the sentence, and that the gate opens when it is gone."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from kairay.controller.kaito import LOOK_SECONDS, WEBHOOK, KaitoGate, look_for_kaito, obstacle
from kairay.controller.log import Log
from kairay.errors import KairayError, TransientError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import DEPLOYMENT, VALIDATING_WEBHOOK, Manifest

KAITO_IMAGE = "mcr.microsoft.com/aks/kaito/workspace:0.12.0"


def deployment(
    image: str = KAITO_IMAGE, *, name: str = "workspace", namespace: str = "kaito-workspace", **parts: Any
) -> Manifest:
    container = {
        "name": "workspace",
        "image": image,
        "env": [{"name": each} for each in parts.pop("env", ())],
    }
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}, **parts},
    }  # fmt: skip


def webhook() -> Manifest:
    return {
        "apiVersion": VALIDATING_WEBHOOK.api_version, "kind": VALIDATING_WEBHOOK.kind,
        "metadata": {"name": WEBHOOK.name}, "webhooks": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "live"),
    [
        (deployment(), True),
        (deployment("localhost:5000/kaito/workspace@sha256:" + "0" * 64), True),
        (deployment("mirror.example/ai/controller:1", env=("PRESET_REGISTRY_NAME",)), True),
        (deployment(replicas=0), False),
        (deployment("registry.example/notkaito/workspace:1"), False),
        (deployment("mcr.microsoft.com/aks/kaito/ragengine:0.12.0"), False),
        (deployment("ghcr.io/kairay/controller:0.1.0", name="workspace"), False),
        (deployment("registry.example:5000/nginx"), False),
        (deployment(template={"spec": {}}), False),
    ],
)
def test_a_deployment_counts_when_it_runs_kaitos_controller(found: Manifest, live: bool) -> None:
    assert looked_for(found) is live


def test_one_that_is_on_its_way_out_does_not_count() -> None:
    found = deployment()
    found["metadata"] |= {"deletionTimestamp": "2026-11-24T12:00:00Z", "finalizers": ["example.com/slow"]}
    assert not looked_for(found)


def looked_for(found: Manifest) -> bool:
    cluster = FakeCluster()
    cluster.put(found)
    webhook, deployments = asyncio.run(look_for_kaito(cluster, everywhere=True))
    assert webhook is None
    return bool(deployments)


def test_the_sentence_names_what_is_live_and_the_commands_that_stop_it() -> None:
    said = obstacle(webhook(), [deployment()])
    assert said is not None
    assert "Deployment kaito-workspace/workspace, webhook validation.workspace.kaito.sh" in said
    assert (
        "kubectl -n kaito-workspace scale deployment/workspace --replicas=0 && "
        "kubectl delete validatingwebhookconfiguration validation.workspace.kaito.sh" in said
    )


def test_the_add_on_of_aks_is_turned_off_in_azure() -> None:
    said = obstacle(None, [deployment(namespace="kube-system", name="kaito-workspace")])
    assert said is not None
    assert "az aks update --disable-ai-toolchain-operator" in said
    assert "scale deployment" not in said


class Stage:
    """A gate over a cluster in memory; `at_sleep` changes the cluster while the gate waits."""

    def __init__(self, *changes: Any, namespaces: tuple[str, ...] = ()) -> None:
        self.cluster, self.stream = FakeCluster(), io.StringIO()
        self.slept: list[float] = []
        self._changes = list(changes)
        self.gate = KaitoGate(
            cluster=self.cluster, namespaces=namespaces, log=Log(self.stream), sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        assert not self.gate.is_open
        self.slept.append(seconds)
        self._changes.pop(0)()

    def wait(self) -> list[str]:
        asyncio.run(self.gate.wait())
        assert self.gate.is_open
        return [json.loads(line)["event"] for line in self.stream.getvalue().splitlines()]


def test_without_kaito_the_gate_opens_at_once_and_says_nothing() -> None:
    stage = Stage()
    stage.cluster.put(deployment("registry.example/shop:1"))
    assert stage.wait() == []
    assert stage.slept == []


def test_the_gate_stays_closed_until_deployment_and_webhook_are_gone_and_tells_each_change_once() -> None:
    stage = Stage(
        lambda: None,
        lambda: stage.cluster.put(deployment(replicas=0)),
        lambda: stage.cluster.remove(WEBHOOK),
    )
    stage.cluster.put(deployment())
    stage.cluster.put(webhook())
    assert stage.wait() == ["KAITO is here", "KAITO is here", "KAITO is gone"]
    assert stage.slept == [LOOK_SECONDS] * 3


def test_an_api_server_that_does_not_answer_keeps_the_gate_closed() -> None:
    stage = Stage(lambda: None)
    stage.cluster.fail_next("get", None, TransientError("does not answer"))
    assert stage.wait() == ["cannot look for KAITO yet"]
    assert stage.slept[0] < LOOK_SECONDS


def test_a_missing_right_is_an_error_and_no_open_gate() -> None:
    stage = Stage()
    stage.cluster.fail_next("get", None, KairayError("ask for the right to GET it", reason="Forbidden"))
    with pytest.raises(KairayError, match="right to GET"):
        stage.wait()
    assert not stage.gate.is_open


def test_with_rights_for_some_namespaces_only_the_webhook_is_looked_for() -> None:
    stage = Stage(lambda: stage.cluster.remove(WEBHOOK), namespaces=("team",))
    stage.cluster.put(deployment())
    stage.cluster.put(webhook())
    assert stage.wait() == ["KAITO is here", "KAITO is gone"]
    assert stage.cluster.calls["list", DEPLOYMENT.kind] == 0
