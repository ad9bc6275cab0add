"""What was seen of a cluster becomes findings: each lack is named with its remedy, and nothing else is told off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from doctor_scenes import (
    SKU_TAINT,
    SPOT_TAINT,
    account,
    controller,
    engine,
    lease,
    node,
    operator,
    plugin,
    storage,
    unavailable,
    whole,
    workload,
)
from kairay.cluster.checks import check, check_version
from kairay.cluster.checks_nodes import check_need, selects_node, tolerates, why_no_gpus
from kairay.cluster.findings import Finding, Status, Unseen
from kairay.cluster.observed import KarpenterSeen, Need, NodeClass
from kairay.kube.interface import Right

DENIED = Unseen(why="deployments is forbidden; ask for the right to GET it", denied=True)
CLASS = NodeClass(group="karpenter.azure.com", kind="AKSNodeClass", name="default")
AKS, KARPENTER = {"KAIRAY_NODES_PROVIDER": "aks"}, {"KAIRAY_NODES_PROVIDER": "karpenter"}


def complaints(findings: Iterable[Finding]) -> list[Finding]:
    return [each for each in findings if each.status is not Status.OK]


def only(**changes: Any) -> Finding:
    (found,) = complaints(check(whole(**changes)))
    return found


def test_a_cluster_that_lacks_nothing_has_no_complaint() -> None:
    assert complaints(check(whole())) == []


def test_same_input_same_findings() -> None:
    assert check(whole()) == check(whole())


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"version": "v1.30.9"}, "Kubernetes", "1.31 or newer: upgrade"),
        (
            {"resources": {"ray.io/v1": frozenset({"rayclusters", "rayjobs", "rayservices"})}},
            "Workspaces",
            "kubectl apply --server-side -k kuberay/install",
        ),
        (
            {
                "resources": {
                    "kaito.sh/v1beta1": frozenset({"workspaces"}),
                    "ray.io/v1": frozenset({"rayclusters"}),
                }
            },
            "KubeRay's kinds",
            "no RayJob and no RayService",
        ),
        ({"deployments": (controller(),)}, "KubeRay's operator", "no Deployment runs it"),
        (
            {"deployments": (controller(), operator("quay.io/kuberay/operator:v1.5.1"))},
            "KubeRay's operator",
            "v1.5.1; Kairay needs 1.6",
        ),
        (
            {"deployments": (controller(), unavailable(operator(), "image cannot be pulled."))},
            "KubeRay's operator",
            "image cannot be pulled",
        ),
        ({"deployments": (operator(),)}, "controller", "install Kairay"),
        (
            {"deployments": (unavailable(controller(), "Deployment does not have minimum availability."), operator())},
            "controller",
            "does not have minimum availability; look at kubectl -n kairay-system describe pods",
        ),
        ({"lease": None}, "controller's leader", "no controller leads"),
        ({"lease": lease("2026-11-25T11:55:00.000000Z")}, "controller's leader", "until 300 s ago"),
        ({"storage_classes": ()}, "storage", "no default StorageClass"),
        ({"settings": {"KAIRAY_STORAGE_CLASS": "fast"}}, "storage", "names fast, which is not there"),
        (
            {"daemon_sets": (engine(),), "nodes": (node(gpus=0),)},
            "device plugin",
            "no DaemonSet advertises GPUs",
        ),
        ({"nodes": ()}, "GPU nodes", "provider is `existing`"),
        ({"settings": AKS, "daemon_sets": (plugin({"key": "sku", "operator": "Exists"}), engine())},
         "device plugin", "does not tolerate kubernetes.azure.com/scalesetpriority=spot:NoSchedule"),
        ({"settings": KARPENTER, "daemon_sets": (plugin({"key": "x"}), engine())},
         "device plugin", "does not tolerate sku=gpu:NoSchedule"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(changes: dict[str, Any], name: str, says: str) -> None:
    found = next(each for each in complaints(check(whole(**changes))) if each.name == name)
    assert found.status is Status.MISSING
    assert says in found.sentence


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"version": "devel"}, "Kubernetes", "'devel'"),
        (
            {"deployments": (controller(), operator("mirror.example/base:1"))},
            "KubeRay's operator",
            "not in its name",
        ),
        ({"tables": {"kairay-presets": True}}, "admission tables", "no ConfigMap kairay-sizes"),
        ({"storage_classes": (storage(),)}, "shared storage", "ReadWriteMany"),
        ({"daemon_sets": (plugin(),)}, "network policies", "no DaemonSet of an engine"),
    ],
)
def test_what_may_do_is_a_warning(changes: dict[str, Any], name: str, says: str) -> None:
    found = only(**changes)
    assert (found.name, found.status) == (name, Status.WARNING)
    assert says in found.sentence


def test_an_api_server_that_does_not_answer_is_one_finding() -> None:
    (found,) = check(whole(version=Unseen(why="https://ml does not answer; check your network")))
    assert found == check_version(Unseen(why="https://ml does not answer; check your network"), "https://ml")
    assert found.status is Status.MISSING


def test_what_may_not_be_read_is_a_warning_and_not_called_missing() -> None:
    changes = dict.fromkeys(
        ("version", "deployments", "daemon_sets", "nodes", "storage_classes", "lease"), DENIED
    )
    found = complaints(check(whole(**changes)))
    assert {each.status for each in found} == {Status.WARNING}
    assert all("ask for the right" in each.sentence for each in found)


def test_a_right_that_is_missing_is_named_with_what_needs_it() -> None:
    rights = whole().rights | {
        Right(verb="create", group="kaito.sh", resource="workspaces", namespace="team"): False,
        Right(verb="create", resource="services", subresource="proxy", namespace="team"): False,
    }
    own, proxy = complaints(check(whole(rights=rights)))
    assert own.status is Status.MISSING
    assert "you may not create workspaces.kaito.sh in namespace team" in own.sentence
    assert proxy.status is Status.WARNING
    assert "create services/proxy" in proxy.sentence
    assert "kairay chat" in proxy.sentence


def test_no_storage_is_wanted_where_the_settings_say_so() -> None:
    assert only(storage_classes=(), settings={"KAIRAY_RUN_STORAGE": "0"}).name == "shared storage"


def test_nodes_that_a_provider_brings_need_not_be_there() -> None:
    assert complaints(check(whole(settings=AKS, nodes=()))) == []


def test_managed_pools_advertise_gpus_without_a_daemon_set() -> None:
    assert complaints(check(whole(daemon_sets=(engine(),)))) == []


@pytest.mark.parametrize(
    ("sick", "daemon_sets", "says"),
    [
        (node(gpus=0, ready=False), (plugin(),), "not Ready"),
        (node(gpus=0), (), "no device plugin runs"),
        (node(gpus=0, taints=(SKU_TAINT,)), (plugin(SPOT_TAINT),), "does not tolerate its taint sku=gpu:NoSchedule"),
        (
            node(gpus=0),
            (plugin(nodeSelector={"gpu": "yes"}),),
            "does not select it",
        ),
        (node(gpus=0, capacity=1), (plugin(),), "unhealthy"),
        (node(gpus=0), (plugin(),), "driver may be missing"),
        (node(gpus=0, taints=({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},)), (plugin(),),
         "driver may be missing"),
        (node(gpus=0), DENIED, "could not be seen"),
    ],
)  # fmt: skip
def test_a_node_without_its_gpus_is_told_the_likely_cause(sick: Any, daemon_sets: Any, says: str) -> None:
    assert says in why_no_gpus(sick, daemon_sets)
    found = [
        each for each in check(whole(nodes=(sick,), daemon_sets=daemon_sets)) if each.name == "GPU nodes"
    ]
    assert [each.status for each in found] == [Status.WARNING if "not Ready" in says else Status.MISSING]
    assert found[0].sentence.startswith("none is advertised on gpu-1")


def test_a_node_that_has_just_come_is_only_looked_at() -> None:
    young = node(gpus=0, created="2026-11-25T11:55:00Z")
    assert only(nodes=(node("healthy"), young)).status is Status.WARNING


@pytest.mark.parametrize(
    "labels",
    [
        {"kubernetes.azure.com/accelerator": "nvidia"},
        {"nvidia.com/gpu.present": "true"},
        {"node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"},
    ],
)
def test_nodes_with_gpus_are_known_by_labels_and_size(labels: dict[str, str]) -> None:
    assert only(nodes=(node("healthy"), node(gpus=0, labels=labels))).name == "GPU nodes"


def test_nodes_without_gpus_are_no_concern() -> None:
    plain = node("cpu-1", gpus=0, labels={"node.kubernetes.io/instance-type": "Standard_D4s_v5"})
    assert complaints(check(whole(nodes=(node(), plain)))) == []


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "sku", "operator": "Exists"}, True),
        ({"key": "sku", "value": "gpu"}, True),
        ({"key": "sku", "value": "gpu", "effect": "NoExecute"}, False),
        ({"key": "sku", "value": "cpu"}, False),
        ({"key": "gpu", "operator": "Exists"}, False),
        ({}, False),
    ],
)
def test_tolerations_are_read_as_the_scheduler_does(toleration: dict[str, str], fits: bool) -> None:
    assert tolerates([toleration], SKU_TAINT) is fits
    assert tolerates([], {**SKU_TAINT, "effect": "PreferNoSchedule"})


@pytest.mark.parametrize(
    ("operator_", "values", "fits"),
    [("In", ["nvidia"], True), ("In", ["amd"], False), ("NotIn", ["amd"], True), ("Exists", [], True),
     ("DoesNotExist", [], False)],
)  # fmt: skip
def test_required_affinity_decides_where_a_plugin_runs(operator_: str, values: list[str], fits: bool) -> None:
    term = {"matchExpressions": [{"key": "accelerator", "operator": operator_, "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert selects_node(plugin(affinity={"nodeAffinity": required}), node()) is fits


def karpenter(**changes: Any) -> KarpenterSeen:
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    given: dict[str, Any] = {
        "pools": frozenset({"nodepools", "nodeclaims"}),
        "wanted": CLASS,
        "node_class": ready,
    }
    return KarpenterSeen(**{**given, **changes})


def test_karpenter_with_a_ready_node_class_has_no_complaint() -> None:
    assert complaints(check(whole(settings=KARPENTER, karpenter=karpenter()))) == []


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"pools": frozenset()}, "Karpenter", "no NodePool and no NodeClaim"),
        ({"node_class": None}, "node class", "there is no AKSNodeClass.karpenter.azure.com default"),
        ({"node_class": {}}, "node class", "says nothing yet"),
        (
            {
                "node_class": {
                    "status": {"conditions": [{"type": "Ready", "status": "False", "message": "no subnet"}]}
                }
            },
            "node class",
            "is not ready: no subnet",
        ),
    ],
)
def test_what_karpenter_lacks_is_named(changes: dict[str, Any], name: str, says: str) -> None:
    found = only(settings=KARPENTER, karpenter=karpenter(**changes))
    assert (found.name, found.status) == (name, Status.MISSING)
    assert says in found.sentence


def test_a_workspace_without_nodes_says_what_its_status_would() -> None:
    need = Need(workspace="w", ready=False, sentence="no node has the labels app=w")
    assert [*check_need(need, whole())] == [
        Finding(name="Workspace w", status=Status.MISSING, sentence="no node has the labels app=w")
    ]
    (hidden,) = check_need(need, whole(nodes=DENIED))
    assert hidden.status is Status.WARNING


def test_an_amd_plugin_is_a_device_plugin_and_an_account_alone_is_no_finding() -> None:
    amd = workload("DaemonSet", "amdgpu-device-plugin-daemonset", "rocm/k8s-device-plugin")
    assert complaints(check(whole(daemon_sets=(amd, engine()), account=account()))) == []
