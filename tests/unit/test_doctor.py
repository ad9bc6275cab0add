"""`kairay doctor` from the look at a cluster to the findings, over an API server in memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from doctor_scenes import NOW, OBJECTS, SAYS, config_map, controller, node, resource_list
from kairay.cluster.checks import check
from kairay.cluster.doctor import observe
from kairay.cluster.findings import Status
from kairay.cluster.observed import KarpenterSeen, Observed
from kairay.errors import KairayError, TransientError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import DEPLOYMENT, NODE, Manifest


def cluster_of(*objects: Manifest, says: Mapping[str, Manifest] = SAYS) -> FakeCluster:
    cluster = FakeCluster()
    cluster.says = dict(says)
    for each in objects or OBJECTS:
        cluster.put(each)
    return cluster


def look(cluster: FakeCluster, **environment: str) -> Observed:
    return asyncio.run(
        observe(cluster, server="https://ml", namespace="team", environment=environment, now=NOW)
    )


def complaints(seen: Observed) -> dict[str, Status]:
    return {each.name: each.status for each in check(seen) if each.status is not Status.OK}


def test_a_whole_cluster_has_no_complaint_and_nothing_is_written() -> None:
    cluster = cluster_of()
    assert complaints(look(cluster)) == {}
    assert cluster.writes == 0


def test_an_empty_cluster_lacks_everything_by_name() -> None:
    cluster = cluster_of(node("cpu", gpus=0, labels={}), says={"/version": {"gitVersion": "v1.34.1"}})
    found = complaints(look(cluster))
    missing = {name for name, status in found.items() if status is Status.MISSING}
    expected = {"Workspaces", "KubeRay's kinds", "KubeRay's operator", "controller", "storage", "GPU nodes"}
    assert missing == expected


def test_a_server_that_does_not_answer_is_asked_once() -> None:
    cluster = cluster_of()
    cluster.fail_next("discover", None, TransientError("https://ml does not answer"))
    assert complaints(look(cluster)) == {"Kubernetes": Status.MISSING}
    assert sum(cluster.calls.values()) == 1


def test_one_list_that_is_forbidden_leaves_the_rest() -> None:
    cluster = cluster_of()
    cluster.fail_next("list", NODE, KairayError("nodes is forbidden", reason="Forbidden"))
    assert complaints(look(cluster)) == {"GPU nodes": Status.WARNING}


def test_rights_are_asked_for_the_namespace_that_is_meant() -> None:
    cluster = cluster_of()
    cluster.denied = {"create workspaces.kaito.sh", "get secrets"}
    sentences = [each.sentence for each in check(look(cluster)) if each.name == "your rights"]
    assert any("create workspaces.kaito.sh in namespace team" in each for each in sentences)
    assert any("get secrets in namespace team" in each for each in sentences)


def test_in_the_controllers_pod_its_own_account_is_no_person() -> None:
    seen = look(cluster_of(), KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert "your rights" not in [each.name for each in check(seen)]


def test_settings_are_the_controllers_then_this_machines() -> None:
    cluster = cluster_of()
    cluster.put(config_map("kairay-controller", KAIRAY_NODES_PROVIDER="karpenter", KAIRAY_RUN_STORAGE="0"))
    written = controller()
    written["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "KAIRAY_RUN_STORAGE", "value": "5Gi"}, {"name": "KAIRAY_NAMESPACE", "valueFrom": {}},
    ]  # fmt: skip
    cluster.put(written)
    seen = look(cluster, KAIRAY_NODES_PROVIDER="aks", KAIRAY_AKS_CLUSTER="ml", HOME="/root")
    assert seen.settings == {
        "KAIRAY_NODES_PROVIDER": "karpenter", "KAIRAY_AKS_CLUSTER": "ml", "KAIRAY_RUN_STORAGE": "5Gi",
    }  # fmt: skip


def test_the_controllers_price_file_is_read_and_a_persons_own_is_not(tmp_path: Path) -> None:
    cluster = cluster_of()
    cluster.put(config_map("kairay-prices", **{"prices.csv": "of the cluster"}))
    seen = look(cluster, KAIRAY_PRICES="/home/me/prices.csv")
    assert ("KAIRAY_PRICES" in seen.settings, seen.prices) == (False, "of the cluster")
    file = tmp_path / "prices.csv"
    file.write_text("of the pod")
    seen = look(cluster, KUBERNETES_SERVICE_HOST="10.0.0.1", KAIRAY_PRICES=str(file))
    assert (seen.settings["KAIRAY_PRICES"], seen.prices, seen.in_pod) == (str(file), "of the pod", True)
    assert look(cluster_of(), KUBERNETES_SERVICE_HOST="10.0.0.1").prices is None


def test_a_controller_in_another_namespace_is_found() -> None:
    moved = [
        {**each, "metadata": {**each["metadata"], "namespace": "ops"}}
        if each["metadata"].get("namespace") == "kairay-system"
        else each
        for each in OBJECTS
    ]
    seen = look(cluster_of(*moved))
    assert (seen.namespace, complaints(seen)) == ("ops", {})


def test_aks_without_its_names_says_which() -> None:
    found = {each.name: each.sentence for each in check(look(cluster_of(), KAIRAY_NODES_PROVIDER="aks"))}
    assert "KAIRAY_AKS_SUBSCRIPTION" in found["Azure"]
    found = {
        each.name: each.sentence
        for each in check(look(cluster_of(), KAIRAY_NODES_PROVIDER="aks", KAIRAY_AKS_CLUSTER="ml"))
    }
    assert "need KAIRAY_AKS_SUBSCRIPTION and KAIRAY_AKS_RESOURCE_GROUP too" in found["Azure"]


def test_without_azures_clients_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kairay.cluster.doctor_azure", None)
    names = ("SUBSCRIPTION", "RESOURCE_GROUP", "CLUSTER")
    seen = look(cluster_of(), KAIRAY_NODES_PROVIDER="aks", **{f"KAIRAY_AKS_{name}": "x" for name in names})
    found = {each.name: each.sentence for each in check(seen)}
    assert "install kairay[azure]" in found["Azure"]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, "AKSNodeClass.karpenter.azure.com default"),
        (
            {
                "KAIRAY_KARPENTER_NODE_CLASS_GROUP": "karpenter.k8s.aws",
                "KAIRAY_KARPENTER_NODE_CLASS_KIND": "EC2NodeClass",
                "KAIRAY_KARPENTER_NODE_CLASS_NAME": "gpu",
            },
            "EC2NodeClass.karpenter.k8s.aws gpu",
        ),
    ],
)
def test_the_node_class_is_the_one_that_the_settings_name(settings: dict[str, str], wanted: str) -> None:
    seen = look(cluster_of(), KAIRAY_NODES_PROVIDER="karpenter", **settings)
    assert isinstance(seen.karpenter, KarpenterSeen)
    assert str(seen.karpenter.wanted) == wanted


def test_a_node_class_that_cannot_have_its_name_is_a_finding() -> None:
    told = {"KAIRAY_KARPENTER_NODE_CLASS_NAME": "Not A Name"}
    found = {e.name: e for e in check(look(cluster_of(), KAIRAY_NODES_PROVIDER="karpenter", **told))}
    assert found["Karpenter"].status is Status.MISSING
    assert "KAIRAY_KARPENTER_NODE_CLASS_NAME='Not A Name'" in found["Karpenter"].sentence


def test_karpenters_kinds_and_its_node_class_are_looked_up_as_the_server_names_them() -> None:
    cluster = cluster_of()
    assert complaints(look(cluster, KAIRAY_NODES_PROVIDER="karpenter")) == {
        "Karpenter": Status.MISSING, "node class": Status.MISSING,
    }  # fmt: skip
    cluster.says |= {
        "/apis/karpenter.sh/v1": resource_list("nodepools", "nodeclaims"),
        "/apis/karpenter.azure.com": {"preferredVersion": {"groupVersion": "karpenter.azure.com/v1beta1"}},
        "/apis/karpenter.azure.com/v1beta1": resource_list("aksnodeclasses", kind="AKSNodeClass"),
    }
    found = {each.name: each.sentence for each in check(look(cluster, KAIRAY_NODES_PROVIDER="karpenter"))}
    assert "there is no AKSNodeClass.karpenter.azure.com default" in found["node class"]


def test_a_deployment_list_is_read_for_all_namespaces() -> None:
    cluster = cluster_of()
    look(cluster)
    assert cluster.calls["list", DEPLOYMENT.kind] == 1
