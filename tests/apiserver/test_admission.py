"""What the API server accepts and refuses, with the sentence that one reads: KAITO's cases and a table of rules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bare import BareApiServer, eventually
from kairay.crd.install import text_of
from kairay.crd.rules import RULES
from onebox.api import ApiError, Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
PATH = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces"
Change = Callable[[Manifest], object]


@pytest.fixture(scope="module")
def server(api_server: BareApiServer) -> BareApiServer:
    """The API server with our CRD, policies and tables."""
    api = api_server.api
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kairay-system"}})
    api.apply_all(text_of("kuberay/install/crd.yaml"))
    api_server.wait_for_crds()
    api.apply_all(text_of("kuberay/install/policies.yaml"))
    # Policies take effect a moment after they are written.
    eventually(
        "the policies are enforced", lambda: "no preset" in refusal(api_server, inference(unknown_preset))
    )
    return api_server


def tuning(*changes: Change) -> Manifest:
    return changed({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine"},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "mine"}},
        },
        "tuning": {
            "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
            "input": {"urls": ["https://example.com/a.parquet"]},
            "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
        },
    }, *changes)  # fmt: skip


def inference(*changes: Change) -> Manifest:
    base = tuning()
    del base["tuning"]
    base["inference"] = {
        "preset": {"name": "phi-3-mini-128k-instruct"},
        "adapters": [{"source": {"name": "law", "image": "registry.example/law:1"}, "strength": "0.5"}],
    }
    return changed(base, *changes)


def changed(manifest: Manifest, *changes: Change) -> Manifest:
    found = copy.deepcopy(manifest)
    for change in changes:
        change(found)
    return found


def put(path: str, value: Any) -> Change:
    """Set the field at a dotted path; None removes it."""

    def change(manifest: Manifest) -> None:
        *parents, last = path.split(".")
        found: Any = manifest
        for part in parents:
            found = found[int(part)] if part.isdigit() else found.setdefault(part, {})
        if value is None:
            found.pop(last, None)
        else:
            found[last] = value

    return change


unknown_preset = put("inference.preset.name", "phi-33")


def refusal(server: BareApiServer, manifest: Manifest, before: Manifest | None = None) -> str:
    """Why the API server refuses it (or the edit from `before`); empty when it takes it. Nothing stays."""
    path = f"{PATH}/{manifest['metadata']['name']}"
    try:
        if before is not None:
            server.api.apply(before)
        server.api.apply(manifest)
    except ApiError as error:
        return error.message
    finally:
        server.api.delete(path)
        eventually("it is gone", lambda: server.api.find(path) is None)
    return ""


@pytest.mark.parametrize("make", [tuning, inference])
def test_a_plain_workspace_is_accepted(server: BareApiServer, make: Callable[[], Manifest]) -> None:
    assert refusal(server, make()) == ""


VLLM = put("metadata.annotations", {"kaito.sh/runtime": "vllm"})
TRANSFORMERS = put("metadata.annotations", {"kaito.sh/runtime": "transformers"})
NO_SOURCE = put("inference.adapters.0.source.image", None)

KAITO_CREATE = {
    "E1": (inference(put("resource.instanceType", "Standard_invalid")), "instanceType"),
    "E2": (inference(unknown_preset), "there is no preset phi-33"),
    "E3": (inference(VLLM), "leave strength out; vLLM has none"),
    "E4": (inference(VLLM, put("inference.adapters.0.strength", None)), ""),
    "E5": (inference(TRANSFORMERS), ""),
    "E6": (inference(TRANSFORMERS, NO_SOURCE), "exactly one of image and volumeSource"),
    "E7": (
        inference(VLLM, put("inference.adapters.0.strength", None), NO_SOURCE),
        "exactly one of image and volume",
    ),
    "E8": (
        inference(put("inference.config", "mine"), put("resource.instanceType", "Standard_NC48ads_A100_v4")),
        "",
    ),
    "E9": (tuning(put("tuning.input", None)), "tuning.input"),
    "E10": (tuning(put("tuning.output", None)), "tuning.output"),
    "E11": (tuning(put("tuning.preset", None)), "tuning.preset"),
}
OTHER_LABELS = put("resource.labelSelector", {"matchLabels": {"app": "other"}})
OTHER_SIZE = put("resource.instanceType", "Standard_NC48ads_A100_v4")
KAITO_UPDATE = {
    "E12": (inference(), OTHER_LABELS, "labelSelector cannot be changed"),
    "E13": (inference(), OTHER_SIZE, "instanceType cannot be changed once set"),
    "E14": (tuning(), put("tuning.preset.name", "phi-4"), "preset cannot be changed"),
    "E15": (tuning(), put("tuning.method", "lora"), "method cannot be changed"),
    "E16": (inference(), put("inference.preset.name", "phi-4"), "preset cannot be changed"),
}


@pytest.mark.parametrize("case", KAITO_CREATE)
def test_kaitos_cases_of_creation(server: BareApiServer, case: str) -> None:
    manifest, words = KAITO_CREATE[case]
    said = refusal(server, manifest)
    assert words in said if words else said == ""


@pytest.mark.parametrize("case", KAITO_UPDATE)
def test_kaitos_cases_of_update(server: BareApiServer, case: str) -> None:
    before, change, words = KAITO_UPDATE[case]
    assert words in refusal(server, changed(before, change), before)


def toggled(manifest: Manifest) -> None:
    manifest["inference"] = {"preset": manifest.pop("tuning")["preset"]}


MIG = put("resource.partition", {"mode": "mig", "profile": "1g.10gb"})
BROKEN: dict[str, tuple[Manifest | None, Manifest]] = {
    "name": (None, inference(put("metadata.name", "1st"))),
    "inference-or-tuning": (None, tuning(put("inference", {"preset": {"name": "phi-4"}}))),
    "not-toggled": (tuning(), tuning(toggled)),
    "no-partition-for-tuning": (None, tuning(MIG)),
    "count-immutable": (inference(put("resource.count", 1)), inference(put("resource.count", 2))),
    "instance-type-immutable": (inference(), inference(OTHER_SIZE)),
    "partition-immutable": (inference(), inference(MIG)),
    "label-selector-immutable": (inference(), inference(OTHER_LABELS)),
    "own-label": (None, inference(put("resource.labelSelector.matchLabels", {"kaito.sh/workspace": "mine"}))),
    "mig-profile": (None, inference(put("resource.partition", {"mode": "mig", "profile": "huge"}))),
    "mig-without-count": (
        None, inference(put("resource.partition", {"mode": "mig", "profile": "1g.10gb", "count": 2})),
    ),
    "preset-or-template": (None, inference(put("inference.template", {"spec": {}}))),
    "inference-preset-immutable": (inference(), inference(put("inference.preset.name", "phi-4"))),
    "adapter-names": (None, inference(lambda m: m["inference"]["adapters"].append(m["inference"]["adapters"][0]))),
    "replica-bounds": (None, inference(put("inference.scaling", {"minReplicas": 3, "maxReplicas": 2}))),
    "adapter-strength": (None, inference(put("inference.adapters.0.strength", "2"))),
    "adapter-source": (None, inference(NO_SOURCE)),
    "adapter-urls": (None, inference(put("inference.adapters.0.source.urls", ["https://example.com/a"]))),
    "tuning-preset-immutable": (tuning(), tuning(put("tuning.preset.name", "phi-4"))),
    "method-immutable": (tuning(), tuning(put("tuning.method", "lora"))),
    "input": (None, tuning(put("tuning.input.image", "registry.example/data:1"))),
    "input-name-immutable": (tuning(put("tuning.input.name", "a")), tuning(put("tuning.input.name", "b"))),
    "input-urls": (None, tuning(put("tuning.input.urls", ["ftp://example.com/a"]))),
    "output": (None, tuning(put("tuning.output.volumeSource", {"emptyDir": {}}))),
    "push-secret": (None, tuning(put("tuning.output.imagePushSecret", None))),
}  # fmt: skip


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_every_rule_refuses_with_its_own_sentence(server: BareApiServer, rule: str) -> None:
    before, manifest = BROKEN[rule]
    message = next(each.message for each in RULES if each.name == rule)
    assert message in refusal(server, manifest, before)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/a",
        "http://127.0.0.1/a",
        "http://10.1.2.3/a",
        "http://[::1]/a",
        "http://192.168.0.1/a",
        "http://169.254.169.254/latest",
    ],
)
def test_addresses_of_the_inside_are_refused(server: BareApiServer, url: str) -> None:
    assert "private network" in refusal(server, tuning(put("tuning.input.urls", [url])))


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_example_is_accepted(server: BareApiServer, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text("utf-8")):
        if manifest["kind"] == "Workspace":
            assert refusal(server, manifest) == ""


def test_the_walk_throughs_file_is_accepted_with_its_placeholders(server: BareApiServer) -> None:
    image = put("tuning.output.image", "ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:0.0.1")
    secret = put("tuning.output.imagePushSecret", "ACR_REGISTRY_SECRET_HERE")
    assert refusal(server, tuning(image, secret, put("resource.instanceType", "Standard_NC6s_v3"))) == ""


def test_another_method_is_refused_with_those_that_there_are(server: BareApiServer) -> None:
    assert 'supported values: "lora", "qlora"' in refusal(server, tuning(put("tuning.method", "dpo")))


def test_a_hub_id_is_no_unknown_preset(server: BareApiServer) -> None:
    assert refusal(server, inference(put("inference.preset.name", "org/some-model"))) == ""


def test_both_versions_write_read_and_edit_the_same_object(server: BareApiServer) -> None:
    old = {**tuning(), "apiVersion": "kaito.sh/v1alpha1"}
    server.api.apply(old)
    new = server.api.get(f"{PATH}/mine")
    assert new["tuning"] == old["tuning"]
    server.api.apply(tuning(put("tuning.input.urls", ["https://example.com/b.parquet"])))
    read = server.api.get(f"{PATH}/mine".replace("v1beta1", "v1alpha1"))
    assert read["tuning"]["input"]["urls"] == ["https://example.com/b.parquet"]
    server.api.delete(f"{PATH}/mine")


def test_a_missing_table_lets_workspaces_through(server: BareApiServer) -> None:
    path = "/api/v1/namespaces/kairay-system/configmaps/kairay-presets"
    table = server.api.get(path)
    server.api.delete(path)
    eventually("the policy allows", lambda: refusal(server, inference(unknown_preset)) == "")
    server.api.apply({key: table[key] for key in ("apiVersion", "kind", "data")} | {
        "metadata": {"name": "kairay-presets", "namespace": "kairay-system"}
    })  # fmt: skip
