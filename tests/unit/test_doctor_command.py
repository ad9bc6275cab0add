"""`kairay doctor` as a person types it, against an API server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from answering import SMALL_LLAMA, answering_server, listing
from command_line import kairay
from doctor_scenes import (
    OBJECTS,
    SAYS,
    config_map,
    controller,
    lease,
    node,
    resource_list,
    unavailable,
    workload,
)
from kairay.kube.objects import Manifest, key_of
from served_cluster import kubeconfig, served

ROOT = Path(__file__).resolve().parents[2]


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
