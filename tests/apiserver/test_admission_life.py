"""Admission over an object's life: versions, edits, missing tables, its end, and the installation by kubectl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from admission import NO_SOURCE, PATH, inference, put, refusal, tuning, unknown_preset
from bare import BareApiServer, eventually
from onebox.api import ApiError, Manifest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]


def test_rules_hold_for_the_older_version_too(server: BareApiServer) -> None:
    old = put("apiVersion", "kaito.sh/v1alpha1")
    assert "there is no preset" in refusal(server, inference(old, unknown_preset))
    assert "exactly one" in refusal(server, inference(old, NO_SOURCE))


def test_both_versions_write_read_and_edit_the_same_object(server: BareApiServer) -> None:
    old = {**tuning(), "apiVersion": "kaito.sh/v1alpha1"}
    server.api.apply(old)
    new = server.api.get(f"{PATH}/mine")
    assert new["tuning"] == old["tuning"]
    server.api.apply(tuning(put("tuning.input.urls", ["https://example.com/b.parquet"])))
    read = server.api.get(f"{PATH}/mine".replace("v1beta1", "v1alpha1"))
    assert read["tuning"]["input"]["urls"] == ["https://example.com/b.parquet"]
    server.api.delete(f"{PATH}/mine")


@pytest.mark.parametrize("remains", [None, {}])
def test_a_missing_or_empty_table_lets_workspaces_through(
    server: BareApiServer, remains: Manifest | None
) -> None:
    path = "/api/v1/namespaces/kairay-system/configmaps/kairay-presets"
    table = server.api.get(path)
    if remains is None:
        server.api.delete(path)
    else:
        server.api.patch(path, {"data": None})
    eventually("the policy allows", lambda: refusal(server, inference(unknown_preset)) == "")
    server.api.apply({key: table[key] for key in ("apiVersion", "kind", "data")} | {
        "metadata": {"name": "kairay-presets", "namespace": "kairay-system"}
    })  # fmt: skip
    eventually("the policy refuses", lambda: "no preset" in refusal(server, inference(unknown_preset)))


def test_an_object_that_breaks_a_rule_can_still_be_deleted(server: BareApiServer) -> None:
    """Made while the tables were missing, held by a finalizer: an edit of it is refused, its end is not."""
    path, table = f"{PATH}/mine", "/api/v1/namespaces/kairay-system/configmaps/kairay-presets"
    held = put("metadata.finalizers", ["kairay.dev/test"])
    names = server.api.get(table)["data"]
    server.api.patch(table, {"data": None})
    eventually("the policy allows", lambda: refusal(server, inference(unknown_preset)) == "")
    server.api.apply(inference(unknown_preset, held))
    server.api.patch(table, {"data": names})
    other = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces/other"
    unknown = inference(unknown_preset, put("metadata.name", "other"))
    eventually("the policy refuses", lambda: "no preset" in refusal(server, unknown))
    assert server.api.find(other) is None
    server.api.patch(path, {"metadata": {"labels": {"team": "a"}}})
    with pytest.raises(ApiError, match="there is no preset"):
        server.api.patch(path, {"inference": {"config": "another"}})
    server.api.delete(path)
    server.api.patch(path, {"metadata": {"finalizers": None}})
    eventually("it is gone", lambda: server.api.find(path) is None)


def test_kubectl_applies_the_whole_installation_twice_and_shows_the_columns(server: BareApiServer) -> None:
    kubectl = [str(server.tools / "kubectl"), f"--kubeconfig={server.kubeconfig}"]
    if not Path(kubectl[0]).exists():
        pytest.skip("kubectl is not built on this machine; run `make cluster-tools`")
    apply = ["apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "kuberay" / "install")]
    for _ in range(2):
        subprocess.run([*kubectl, *apply], check=True, capture_output=True, timeout=60)
    server.api.apply(tuning())
    said = subprocess.run(
        [*kubectl, "get", "wk", "-o", "wide"], check=True, capture_output=True, text=True
    ).stdout
    server.api.delete(f"{PATH}/mine")
    assert said.split("\n")[0].split() == [
        "NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "STATE", "PROGRESS", "AGE",
        "JOBSTARTED", "NODES", "URL", "MESSAGE",
    ]  # fmt: skip
