"""What the API server accepts and refuses, with the sentence that one reads: KAITO's cases and a table of rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from admission import (
    NO_SOURCE,
    Change,
    changed,
    inference,
    put,
    refusal,
    too_large,
    tuning,
    unknown_preset,
    unknown_size,
)
from bare import BareApiServer
from kairay.crd.rules import RULES
from onebox.api import Manifest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("make", [tuning, inference])
def test_a_plain_workspace_is_accepted(server: BareApiServer, make: Callable[[], Manifest]) -> None:
    assert refusal(server, make()) == ""


VLLM = put("metadata.annotations", {"kaito.sh/runtime": "vllm"})
TRANSFORMERS = put("metadata.annotations", {"kaito.sh/runtime": "transformers"})

KAITO_CREATE = {
    "E1": (inference(unknown_size), "instanceType"),
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
    "accelerator-count": (None, inference(put("resource.partition", {"mode": "accelerator"}))),
    "accelerator-without-profile": (
        None, inference(put("resource.partition", {"mode": "accelerator", "profile": "1g.10gb", "count": 2})),
    ),
    "preset-or-template": (None, inference(put("inference.template", {"spec": {}}))),
    "inference-preset-immutable": (inference(), inference(put("inference.preset.name", "phi-4"))),
    "adapter-names": (None, inference(lambda m: m["inference"]["adapters"].append(m["inference"]["adapters"][0]))),
    "replica-bounds": (None, inference(put("inference.scaling", {"minReplicas": 3, "maxReplicas": 2}))),
    "adapter-strength": (None, inference(put("inference.adapters.0.strength", "2"))),
    "adapter-source": (None, inference(NO_SOURCE)),
    "adapter-image": (None, inference(put("inference.adapters.0.source.image", "oci://registry.example/law:1"))),
    "input-image": (None, tuning(put("tuning.input", {"image": "registry.example/my data:1"}))),
    "output-image": (None, tuning(put("tuning.output.image", "https://registry.example/a:1"))),
    "inference-preset-name": (None, inference(put("inference.preset.name", ""))),
    "tuning-preset-name": (None, tuning(put("tuning.preset.name", ""))),
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


@pytest.mark.parametrize("strength", ["0", "1", "0.5", ".5", "1.0", "1e-1", ""])
def test_strengths_that_the_types_take_are_accepted(server: BareApiServer, strength: str) -> None:
    assert refusal(server, inference(put("inference.adapters.0.strength", strength))) == ""


@pytest.mark.parametrize("strength", ["-0.1", "1.01", "half", "1e2", "."])
def test_other_strengths_are_refused(server: BareApiServer, strength: str) -> None:
    assert "from 0 to 1 in quotes" in refusal(
        server, inference(put("inference.adapters.0.strength", strength))
    )


@pytest.mark.parametrize(
    "manifest",
    [
        tuning(put("tuning.output", {"image": "", "volumeSource": {"emptyDir": {}}})),
        tuning(put("tuning.input.image", "")),
        inference(put("resource.instanceType", "")),
    ],
)
def test_an_empty_text_is_as_if_not_given(server: BareApiServer, manifest: Manifest) -> None:
    assert refusal(server, manifest) == ""


def test_a_method_may_be_written_in_another_case(server: BareApiServer) -> None:
    assert refusal(server, tuning(put("tuning.method", "QLoRA")), tuning()) == ""


def test_a_refused_preset_comes_with_its_neighbours(server: BareApiServer) -> None:
    near = refusal(server, inference(put("inference.preset.name", "mistral-8b"))).partition("near it: ")[2]
    names = near.partition(";")[0].split(", ")
    assert {"mistral-7b", "mistral-7b-instruct"} < set(names)
    assert names == sorted(names)
    assert "phi" not in near
    everything = refusal(server, inference(put("inference.preset.name", "zzz")))
    assert "there are: " in everything
    assert "phi…, qwen…" in everything
    assert "falcon" not in everything
    assert len(everything) < 600, everything


def test_a_deprecated_preset_is_refused_with_what_has_taken_its_place(server: BareApiServer) -> None:
    said = refusal(server, inference(put("inference.preset.name", "Llama-2-7b-Chat")))
    assert "preset llama-2-7b-chat is deprecated since May 2025 and gone; use llama-3.1-8b-instruct" in said


def test_a_retired_size_and_one_that_azure_may_have_are_accepted(server: BareApiServer) -> None:
    for size in ("Standard_NC6s_v3", "standard_nc24ads_a100_v4", "Standard_ND999_future"):
        assert refusal(server, inference(put("resource.instanceType", size))) == ""


LARGE = put("inference.preset.name", "deepseek-v3-0324")


def test_weights_that_no_eight_machines_of_the_size_hold_are_refused(server: BareApiServer) -> None:
    said = refusal(server, inference(too_large))
    assert "the weights of deepseek-v3-0324 are 641 GiB; 8 machines of Standard_NC4as_T4_v3" in said
    assert "hold 128 GiB; leave it out to have one chosen" in said


@pytest.mark.parametrize(
    "changes",
    [
        [put("resource.instanceType", "Standard_ND96isr_H200_v5")],
        [put("resource.instanceType", "Standard_NC96ads_A100_v4")],
        [put("resource.instanceType", "Standard_ND999_future")],
        [put("resource.instanceType", None)],
        [put("resource.instanceType", "Standard_NC4as_T4_v3"), put("inference.config", "loads-in-4-bits")],
        [
            put("resource.instanceType", "Standard_NC4as_T4_v3"),
            put("inference.preset.name", "org/some-model"),
        ],
    ],
)
def test_all_else_about_memory_is_for_the_controller_to_say(
    server: BareApiServer, changes: list[Change]
) -> None:
    assert refusal(server, inference(LARGE, *changes)) == ""


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
