"""`kairay doctor` from the look at a cluster to the exit code, over an API server in memory and one on loopback."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from answering import SMALL_LLAMA, answering_server, listing
from command_line import kairay
from doctor_scenes import (
    NOW,
    account,
    config_map,
    controller,
    engine,
    lease,
    node,
    operator,
    plugin,
    resource_list,
    storage,
    unavailable,
    workload,
)
from kairay.cluster.checks import check
from kairay.cluster.doctor import observe
from kairay.cluster.findings import Status
from kairay.cluster.observed import KarpenterSeen, Observed
from kairay.errors import KairayError, TransientError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import DEPLOYMENT, NODE, Manifest, key_of
from served_cluster import kubeconfig, served

ROOT = Path(__file__).resolve().parents[2]
SAYS: dict[str, Manifest] = {
    "/version": {"gitVersion": "v1.34.1"},
    "/apis/kaito.sh/v1beta1": resource_list("workspaces", "workspaces/status"),
    "/apis/ray.io/v1": resource_list("rayclusters", "rayjobs", "rayservices"),
}
OBJECTS = (
    controller(), operator(), plugin(), engine(), node(), storage(),
    storage("files", "file.csi.azure.com", default=False), lease(), account(),
    config_map("kairay-presets"), config_map("kairay-sizes"),
)  # fmt: skip


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


# The command itself, against an API server on loopback.


def fresh_lease() -> Manifest:
    return lease("2999-01-01T00:00:00.000000Z")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Points the command at a cluster of these objects."""
    monkeypatch.delenv("KAIRAY_NODES_PROVIDER", raising=False)
    with ExitStack() as stack:

        def point(*objects: Manifest, **says: Manifest) -> None:
            url = stack.enter_context(served(objects, {**SAYS, **says}))
            monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, url))

        yield point


def whole_but(*changed: Manifest) -> tuple[Manifest, ...]:
    keys = {key_of(each) for each in (*changed, fresh_lease())}
    return (*(each for each in OBJECTS if key_of(each) not in keys), fresh_lease(), *changed)


def test_a_whole_cluster_ends_with_0_and_ticks(capsys: pytest.CaptureFixture[str], on: Any) -> None:
    on(*whole_but())
    code, out, err = kairay(capsys, "doctor")
    assert (code, err) == (0, "")
    assert "✓ Kubernetes" in out
    assert "✗" not in out
    assert out.splitlines()[-1].startswith("0 missing, 0 to look at")


def test_something_missing_is_crossed_and_ends_with_4(capsys: pytest.CaptureFixture[str], on: Any) -> None:
    on(*whole_but(unavailable(controller(), "no image")))
    code, out, _ = kairay(capsys, "doctor")
    assert code == 4
    assert "✗ controller " in out
    assert "no image" in out


def test_json_has_a_name_a_status_and_a_sentence(capsys: pytest.CaptureFixture[str], on: Any) -> None:
    on(*whole_but())
    code, out, _ = kairay(capsys, "doctor", "-o", "json")
    assert code == 0
    assert all(set(each) == {"name", "status", "sentence"} for each in json.loads(out))
    assert "v1.34.1" in json.loads(out)[0]["sentence"]


@pytest.mark.parametrize(
    ("labels", "code", "says"),
    [
        ({"app": "quickstart", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}, 0, "✓ Workspace"),
        ({"accelerator": "nvidia"}, 4, "no node has the labels app=quickstart"),
    ],
)  # fmt: skip
def test_a_workspace_is_checked_as_the_controller_would(
    capsys: pytest.CaptureFixture[str], on: Any, labels: dict[str, str], code: int, says: str
) -> None:
    on(*whole_but(node(labels=labels)))
    ended, out, _ = kairay(capsys, "doctor", "-w", str(ROOT / "examples" / "quickstart" / "workspace.yaml"))
    assert ended == code, out
    assert says in out


@pytest.mark.parametrize(
    ("hub", "model", "says"),
    [
        ("true", "org/model", "add a node with 1 × Tesla T4"),
        ("true", "org/gone", "the hub knows no such model"),
        ("false", "org/model", "models are not looked up on the hub here"),
        ("true", "/models/mine", "is a folder"),
    ],
)
def test_a_model_that_the_catalogue_lacks_is_looked_up_as_the_controller_would(
    capsys: pytest.CaptureFixture[str], on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    hub: str, model: str, says: str,
) -> None:  # fmt: skip
    written = (ROOT / "examples" / "quickstart" / "workspace.yaml").read_text()
    file = tmp_path / "workspace.yaml"
    file.write_text(written.replace("smollm2-135m-instruct", model))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with answering_server() as server:
        server.publish("org/model", SMALL_LLAMA, listing())
        on(*whole_but(config_map("kairay-controller", KAIRAY_MODEL_HUB=hub, HF_ENDPOINT=server.url)))
        ended, out, _ = kairay(capsys, "doctor", "-w", str(file))
    assert ended == 4, out
    assert says in out


@pytest.mark.parametrize(
    ("there", "code", "says"),
    [
        ("in the file", 4, "_batch_size 100000; lower that in ConfigMap own"),
        ("on the cluster", 4, "_batch_size 100000; lower that in ConfigMap own"),
        ("on the cluster, small", 0, "✓ Workspace quickstart"),
        ("nowhere", 4, "tuning.config: there is no ConfigMap own in namespace team; apply it"),
        ("without its key", 4, "ConfigMap own has no key training_config.yaml; put the text under"),
        ("with a wrong value", 4, "ConfigMap own: TrainingArguments.per_device_train_batch_size is"),
        ("forbidden", 0, "! Workspace quickstart   planned with the preset's own settings: tuning.config: "),
    ],
)
def test_a_persons_own_config_is_counted_as_the_controller_would(
    capsys: pytest.CaptureFixture[str], on: Any, tmp_path: Path, there: str, code: int, says: str
) -> None:
    file = tmp_path / "workspace.yaml"
    documents = [QUICK, *([own_config(LARGE)] if there == "in the file" else [])]
    file.write_text(yaml.safe_dump_all(documents))
    on_cluster = {
        "in the file": own_config("1"), "on the cluster": own_config(LARGE), "on the cluster, small": own_config("64"),
        "without its key": own_config("64", key="config.yaml"), "with a wrong value": own_config("many"),
    }.get(there)  # fmt: skip
    path = "/api/v1/namespaces/team/configmaps/own"
    on(
        *whole_but(node(labels=LABELS), *([on_cluster] if on_cluster else [])),
        **({path: {"kind": "Status", "code": 403, "message": "you may not"}} if there == "forbidden" else {}),
    )
    ended, out, _ = kairay(capsys, "doctor", "-w", str(file))
    assert says in out
    assert ended == code, out


@pytest.mark.parametrize(("price", "code"), [("2.0", 0), ("3.5", 4)])
def test_a_limit_is_checked_at_the_controllers_prices(
    capsys: pytest.CaptureFixture[str], on: Any, tmp_path: Path, price: str, code: int
) -> None:
    file = tmp_path / "workspace.yaml"
    work = {key: value for key, value in QUICK["tuning"].items() if key != "config"}
    limited = {**QUICK["resource"], "maxHourlyCostUSD": 3}
    file.write_text(yaml.safe_dump({**QUICK, "resource": limited, "tuning": work}))
    text = f"name,usd_per_hour\nStandard_NC24ads_A100_v4,{price}\n"
    settings = config_map("kairay-controller", KAIRAY_PRICES="/etc/kairay/prices/prices.csv")
    on(*whole_but(node(labels=LABELS), settings, config_map("kairay-prices", **{"prices.csv": text})))
    ended, out, _ = kairay(capsys, "doctor", "-w", str(file))
    assert ended == code, out
    assert "prices                 the operator's for 1 size" in out


LARGE = "100000"
QUICK = yaml.safe_load((ROOT / "examples" / "quickstart" / "workspace.yaml").read_text())
QUICK["tuning"]["config"] = "own"
LABELS = {"app": "quickstart", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}


def own_config(rows: str, *, key: str = "training_config.yaml") -> Manifest:
    """A person's own settings: so many rows at once."""
    text = f"training_config: {{TrainingArguments: {{per_device_train_batch_size: {rows}}}}}"
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "team"},
        "data": {key: text},
    }  # fmt: skip


def test_a_setting_that_the_controller_cannot_read_is_a_finding(
    capsys: pytest.CaptureFixture[str], on: Any
) -> None:
    on(*whole_but(config_map("kairay-controller", KAIRAY_NODES_PROVIDER="gcp")))
    code, out, _ = kairay(capsys, "doctor")
    assert code == 4
    assert "KAIRAY_NODES_PROVIDER='gcp'" in out


def test_a_live_kaito_is_missing_its_end(capsys: pytest.CaptureFixture[str], on: Any) -> None:
    kaito = workload("Deployment", "kaito-workspace", "mcr.microsoft.com/aks/kaito/workspace:0.12.0", "kaito")
    kaito["metadata"]["labels"] = kaito["spec"]["template"]["metadata"]["labels"] = {
        "app.kubernetes.io/name": "workspace"
    }
    kaito["spec"]["replicas"] = 1
    on(*whole_but(kaito))
    code, out, _ = kairay(capsys, "doctor")
    assert code == 4, out
    assert "✗ KAITO" in out
    assert "kaito/kaito-workspace" in out


def test_karpenter_with_a_ready_node_class_is_ticked(capsys: pytest.CaptureFixture[str], on: Any) -> None:
    api = "karpenter.azure.com/v1beta1"
    says = {
        "/apis/karpenter.sh/v1": resource_list("nodepools", "nodeclaims"),
        "/apis/karpenter.azure.com": {"preferredVersion": {"groupVersion": api}},
        f"/apis/{api}": resource_list("aksnodeclasses", "aksnodeclasses/status", kind="AKSNodeClass"),
        f"/apis/{api}/aksnodeclasses/default": {
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}
        },
    }
    on(*whole_but(config_map("kairay-controller", KAIRAY_NODES_PROVIDER="karpenter")), **says)
    code, out, _ = kairay(capsys, "doctor")
    assert code == 0, out
    assert "AKSNodeClass.karpenter.azure.com default is ready" in out


def test_no_kubeconfig_and_no_server_are_findings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, out, err = kairay(capsys, "doctor")
    assert (code, err) == (4, "")
    assert "✗ Kubernetes" in out
    with served((), {}) as url:
        pass
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, url))
    code, out, err = kairay(capsys, "doctor")
    assert (code, err) == (4, "")
    assert "does not answer" in out


def test_a_file_that_is_not_there_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = kairay(capsys, "doctor", "-w", "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in err


def test_a_deployment_list_is_read_for_all_namespaces() -> None:
    cluster = cluster_of()
    look(cluster)
    assert cluster.calls["list", DEPLOYMENT.kind] == 1
