"""What the controller wants of a service or a user's own template, and what it says of them in status."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from decided_work import NOW, WORLD, after, condition, drawn, inference, kinds, made, step, workspace
from kairay.controller.settings import NodeSettings, Provider, Settings, read_settings
from kairay.kube.objects import Manifest
from kairay.nodes.actions import NodeWord
from kairay.nodes.interface import GROUP_LABEL, RefusalKind

# -- serving ---------------------------------------------------------------------------------------------------------


def serving(manifest: Manifest, *, app: str = "RUNNING", **more: Any) -> Manifest:
    service = drawn(step(manifest), "RayService")
    status = {
        "activeServiceStatus": {
            "rayClusterName": "my-tuning-abcde", "applicationStatuses": {"my-tuning": {"status": app, **more}},
        },
        "conditions": [{"type": "Ready", "status": "True"}],
    }  # fmt: skip
    return made(service, **status)


def front(cluster: str = "my-tuning-abcde") -> Manifest:
    """The Service, once it has followed the cluster."""
    service = made(drawn(step(inference()), "Service"))
    return {**service, "spec": {"selector": {"ray.io/cluster": cluster, "ray.io/serve": "true"}}}


def test_the_service_follows_the_cluster_that_answers() -> None:
    assert drawn(step(inference()), "Service")["spec"]["selector"]["ray.io/cluster"] == "my-tuning.none"
    behind = step(inference(), serving(inference()), front("my-tuning.none"))
    assert condition(behind, "WorkspaceReady") == ("False", "Starting")
    ready = step(inference(), serving(inference()), front())
    assert drawn(ready, "Service")["spec"]["selector"]["ray.io/cluster"] == "my-tuning-abcde"
    assert condition(ready, "WorkspaceReady") == ("True", "Serving")
    assert ready.status["state"] == "Ready"
    assert ready.status["inference"]["url"] == "http://my-tuning.team.svc:80"


def test_a_service_scaled_to_zero_is_ready() -> None:
    manifest = inference(scaling={"minReplicas": 0})
    assert condition(step(manifest, serving(manifest), front()), "InferenceReady") == ("True", "ScaledToZero")


def test_a_deployment_that_failed_says_why() -> None:
    broken = serving(
        inference(), app="DEPLOY_FAILED", serveDeploymentStatuses={"Chat": {"message": "no such adapter"}}
    )
    failed = step(inference(), broken)
    assert condition(failed, "InferenceReady") == ("False", "ServingFailed")
    assert "no such adapter" in failed.status["message"]


def test_a_pod_that_waits_is_named_with_its_reason() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "worker-1", "namespace": "team", "labels": {"kairay.dev/workspace": "my-tuning"}},
        "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: insufficient nvidia.com/gpu"},
        ]},
    }  # fmt: skip
    starting = serving(inference(), app="DEPLOYING")
    waiting = step(inference(), starting, pod)
    assert "worker-1" in waiting.status["message"]
    assert "insufficient nvidia.com/gpu" in waiting.status["message"]


def test_adapters_are_an_edit_in_place() -> None:
    before = drawn(step(inference()), "RayService")
    adapters = [{"source": {"name": "law", "image": "registry.example/team/law:1"}}]
    after_edit = drawn(step(inference(adapters=adapters)), "RayService")
    assert before["spec"]["rayClusterConfig"] == after_edit["spec"]["rayClusterConfig"]
    assert before["spec"]["serveConfigV2"] != after_edit["spec"]["serveConfigV2"]


def test_a_load_balancer_asks_for_keys_and_changes_no_pod() -> None:
    exposed = inference()
    exposed["metadata"] = {**exposed["metadata"], "annotations": {"kaito.sh/enablelb": "True"}}
    opened = step(exposed)
    assert drawn(opened, "Service")["spec"]["type"] == "LoadBalancer"
    assert opened.keys == "my-tuning-api-keys"
    config = drawn(step(inference()), "RayService")["spec"]["rayClusterConfig"]
    assert drawn(opened, "RayService")["spec"]["rayClusterConfig"] == config


def test_a_missing_config_map_is_a_condition() -> None:
    refused = step(inference(config="mine"), config_problem="inference.config: there is no ConfigMap mine")
    assert condition(refused, "WorkspaceReady") == ("False", "InvalidInput")
    assert "there is no ConfigMap mine" in refused.status["message"]


def test_an_unknown_preset_is_a_condition() -> None:
    refused = step(inference(preset={"name": "phi-33"}))
    assert "phi-33" in refused.status["message"]
    assert not refused.objects


TEMPLATE = {"spec": {"containers": [{"name": "mine", "image": "i:1", "ports": [{"containerPort": 9000}]}]}}


def test_a_template_becomes_a_deployment_with_a_service_on_its_first_port() -> None:
    first = step(workspace(inference={"template": TEMPLATE}))
    assert kinds(first) == ["Deployment", "Service"]
    assert drawn(first, "Service")["spec"]["ports"][0]["targetPort"] == 9000
    assert drawn(first, "Deployment")["spec"]["template"]["spec"]["nodeSelector"] == {"app": "my-tuning"}
    live = made(drawn(first, "Deployment"), availableReplicas=1)
    assert condition(step(workspace(inference={"template": TEMPLATE}), live), "WorkspaceReady") == (
        "True",
        "Serving",
    )


def test_a_template_without_a_port_says_what_to_give() -> None:
    refused = step(
        workspace(inference={"template": {"spec": {"containers": [{"name": "a", "image": "i:1"}]}}})
    )
    assert "containerPort" in refused.status["message"]


# -- status ----------------------------------------------------------------------------------------------------------


def test_the_same_look_gives_the_same_status() -> None:
    manifest = after(inference(), step(inference(), serving(inference()), front()))
    later = replace(WORLD, now=datetime(2026, 11, 24, 13, 0, tzinfo=UTC))
    assert step(manifest, serving(inference()), front(), world=later).status == manifest["status"]


def test_a_condition_keeps_its_time_until_it_turns() -> None:
    manifest = after(inference(), step(inference()))
    later = replace(WORLD, now=datetime(2026, 11, 24, 13, 0, tzinfo=UTC))
    turned = step(manifest, serving(inference()), front(), world=later)
    times = {each["type"]: each["lastTransitionTime"] for each in turned.status["conditions"]}
    assert times["ResourceReady"] == "2026-11-24T12:00:00Z"
    assert times["WorkspaceReady"] == "2026-11-24T13:00:00Z"


@pytest.mark.parametrize(
    ("placed", "reason"),
    [([], "QuotaExceeded"), (["n1"], "NodesOnDemand"), (["n1", None], "QuotaExceeded")],
)  # fmt: skip
def test_a_workspace_that_has_its_nodes_is_not_told_that_others_of_its_group_wait(
    placed: list[str | None], reason: str
) -> None:
    settings = Settings(nodes=NodeSettings(provider=Provider.AKS))
    first = step(inference(), world=replace(WORLD, settings=settings))
    assert first.wish is not None
    group = first.wish.group.name
    word = NodeWord(message="no quota", refusal=RefusalKind.QUOTA)
    pods = [
        {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": f"worker-{number}", "namespace": "team", "creationTimestamp": NOW.isoformat(),
                "labels": {"kairay.dev/workspace": "my-tuning", "kairay.dev/role": "worker"},
            },
            "spec": {"nodeSelector": {GROUP_LABEL: group}, "containers": [], **({"nodeName": name} if name else {})},
            "status": {"phase": "Running" if name else "Pending"},
        }
        for number, name in enumerate(placed)
    ]  # fmt: skip
    told = step(inference(), *pods, world=replace(WORLD, settings=settings, words={group: word}))
    assert condition(told, "ResourceReady")[1] == reason


@pytest.mark.parametrize(
    ("reason", "message"), [("QuotaExceeded", "none left"), ("NodesComing", "waiting for 1 node")]
)
def test_what_was_said_of_nodes_holds_until_the_keeper_of_a_new_process_has_looked(
    reason: str, message: str
) -> None:
    provided = replace(WORLD, settings=read_settings({"KAIRAY_NODES_PROVIDER": "aks"}))
    first = step(inference(), world=provided, nodes=())
    assert first.wish is not None
    group = first.wish.group.name
    word = NodeWord(message=message, refusal=RefusalKind(reason) if reason in list(RefusalKind) else None)
    said = step(inference(), world=replace(provided, words={group: word}), nodes=())
    manifest = after(inference(), said)
    again = step(manifest, world=replace(provided, heard=frozenset()), nodes=())
    assert again.status["conditions"] == said.status["conditions"]
    well = step(manifest, world=replace(provided, heard=frozenset({group})), nodes=())
    assert well.status["conditions"][0]["reason"] == "NodesOnDemand"
