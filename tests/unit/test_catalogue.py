"""The catalogue against KAITO's, which our users come from, and its facts against each other."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kairay.errors import InputError
from kairay.memory import embedding_parameters
from kairay.model_facts import REDISTRIBUTABLE
from kairay.presets import (
    FileFormat,
    ModelFacts,
    Preset,
    Quantisation,
    TuningMethod,
    find_preset,
    load_deprecated,
    load_presets,
)
from kairay.quantities import parse_bytes

FACTS = Path(__file__).parents[1] / "golden" / "model_facts.csv"
"""KAITO 0.12's own catalogue, as a table; an empty cell is a fact that it does not have."""
ROWS = {row["name"]: row for row in csv.DictReader(FACTS.read_text("utf-8").splitlines())}
COLUMNS = {
    "architectures": "architecture",
    "license": "license",
    "modelTokenLimit": "context_length",
    "hiddenSize": "hidden_size",
    "numHiddenLayers": "layers",
    "numAttentionHeads": "heads",
    "numKeyValueHeads": "kv_heads",
    "headDim": "head_dim",
    "kvLoraRank": "kv_lora_rank",
    "qkRopeHeadDim": "qk_rope_head_dim",
}
QUANTISATIONS = {
    ("", ""): Quantisation.NONE,
    ("fp8", ""): Quantisation.FP8,
    ("float-quantized", ""): Quantisation.FP8,
    ("mxfp4", ""): Quantisation.MXFP4,
    ("awq", "4"): Quantisation.AWQ4,
    ("gptq", "4"): Quantisation.GPTQ4,
    ("pack-quantized", ""): Quantisation.INT4,
    ("nvfp4-pack-quantized", ""): Quantisation.NVFP4,
    ("MIXED_PRECISION", ""): Quantisation.MIXED,
}
# The folder holds the same weights a second time (original/), and the table counts both.
COUNTED_TWICE = {"openai/gpt-oss-20b", "openai/gpt-oss-120b"}
# Their config.json says fp8 for all but the experts, which are most of the model and 4-bit (expert_dtype: fp4).
FOUR_BIT_EXPERTS = {"deepseek-ai/DeepSeek-V4-Flash-0731", "deepseek-ai/DeepSeek-V4-Pro"}
# Files of both layouts are published; we take transformers'.
BOTH_LAYOUTS = {"mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"}
SHORT_NAMES = [
    "phi-4", "phi-4-mini-instruct", "llama-3.1-8b-instruct", "llama-3.3-70b-instruct",
    "deepseek-r1-distill-llama-8b", "deepseek-r1-distill-qwen-14b", "deepseek-r1-0528", "deepseek-v3-0324",
    "phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct", "phi-3-medium-4k-instruct",
    "phi-3-medium-128k-instruct", "phi-3.5-mini-instruct", "qwen2.5-coder-7b-instruct",
    "qwen2.5-coder-32b-instruct", "gpt-oss-20b", "gpt-oss-120b", "gemma-3-4b-instruct", "gemma-3-27b-instruct",
    "mistral-7b", "mistral-7b-instruct", "ministral-3-3b-instruct", "ministral-3-8b-instruct",
    "ministral-3-14b-instruct", "mistral-large-3-675b-instruct",
]  # fmt: skip
KAITO_TUNES = [
    "phi-4", "phi-4-mini-instruct", "phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct",
    "phi-3-medium-4k-instruct", "phi-3-medium-128k-instruct", "phi-3.5-mini-instruct", "mistral-7b",
    "qwen2.5-coder-7b-instruct", "qwen2.5-coder-32b-instruct",
]  # fmt: skip


def test_sixty_models_of_kaito_and_the_demo_are_there() -> None:
    assert len(ROWS) == 60
    assert {preset.model.id for preset in load_presets().values()} == {
        *ROWS,
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    }


@pytest.mark.parametrize("model_id", sorted(ROWS))
def test_facts_are_those_of_kaitos_catalogue_where_it_has_them(model_id: str) -> None:
    row, model = ROWS[model_id], find_preset(model_id).model
    for column, field in COLUMNS.items():
        if row[column]:
            assert str(getattr(model, field)) == row[column], column
    twice = 2 if model_id in COUNTED_TWICE else 1
    assert model.weight_bytes * twice == pytest.approx(parse_bytes(row["modelFileSize"]), rel=1e-3)
    if model_id in FOUR_BIT_EXPERTS:
        assert (row["quantMethod"], model.quantisation) == ("fp8", Quantisation.MIXED)
    else:
        assert model.quantisation is QUANTISATIONS[row["quantMethod"], row["quantBits"]]
    mistral = row["loadFormat"] == "mistral" and model_id not in BOTH_LAYOUTS
    assert (model.file_format is FileFormat.MISTRAL) == mistral


def test_a_head_is_as_wide_as_the_architecture_says_where_kaito_does_not() -> None:
    for model in (find_preset(name).model for name, row in ROWS.items() if not row["headDim"]):
        latent = model.kv_lora_rank is not None
        hybrid = model.architecture.startswith(("Nemotron", "Qwen3_5"))
        assert latent or hybrid or model.head_dim == model.hidden_size // model.heads, model.id


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_kaitos_short_names_are_answered(name: str) -> None:
    assert len(set(SHORT_NAMES)) == 25
    assert find_preset(name).model.id in ROWS


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_every_alias_and_the_hub_id_find_the_preset_in_any_case(name: str) -> None:
    preset = load_presets()[name]
    for asked in (name, *preset.aliases, preset.model.id):
        assert find_preset(asked) is find_preset(asked.upper()) is preset


@pytest.mark.parametrize("name", KAITO_TUNES)
def test_what_kaito_tunes_is_tuned(name: str) -> None:
    tuning = find_preset(name).tuning
    assert tuning is not None
    assert set(tuning.methods) == set(TuningMethod)


def test_a_quantised_model_is_served_only() -> None:
    assert not [preset.name for preset in load_presets().values() if preset.tuning and is_quantised(preset)]


def test_a_licence_that_does_not_say_so_lets_nobody_mirror() -> None:
    for preset in load_presets().values():
        assert preset.model.mirrorable == (preset.model.license in REDISTRIBUTABLE), preset.name


def test_gated_models_are_those_whose_licence_has_to_be_accepted() -> None:
    gated = {preset.model.license for preset in load_presets().values() if preset.model.gated}
    assert gated == {"llama3.1", "llama3.3", "gemma"}


@pytest.mark.parametrize("name", sorted(load_deprecated()))
def test_a_deprecated_name_says_since_when_and_what_to_use(name: str) -> None:
    gone = load_deprecated()[name]
    with pytest.raises(InputError) as caught:
        find_preset(name.upper())
    assert caught.value.reason == "DeprecatedPreset"
    assert (
        caught.value.message == f"preset {name} is deprecated since {gone.since} and gone; use {gone.instead}"
    )
    assert find_preset(gone.instead).name == gone.instead


def test_no_deprecated_name_hides_a_preset() -> None:
    for name in load_deprecated():
        assert name == name.casefold()
        assert name not in {
            asked for preset in load_presets().values() for asked in (preset.name, *preset.aliases)
        }


@pytest.mark.parametrize("name", [p.name for p in load_presets().values() if p.model.revision])
def test_a_pinned_revision_is_a_whole_commit(name: str) -> None:
    revision = load_presets()[name].model.revision
    assert revision is not None
    assert len(bytes.fromhex(revision)) == 20


@pytest.mark.parametrize("name", [p.name for p in load_presets().values() if p.model.quantisation != "none"])
def test_parameters_of_a_quantised_model_are_known_and_no_fewer_than_its_bytes_allow(name: str) -> None:
    model = load_presets()[name].model
    assert model.parameters is not None
    assert 0.5 < model.weight_bytes / model.parameters < 1.4


# Nemotron's experts have no gate, and those of its larger models work in a narrower space: another sum.
@pytest.mark.parametrize(
    "name",
    [
        preset.name
        for preset in load_presets().values()
        if preset.model.experts and not preset.model.architecture.startswith("Nemotron")
    ],
)
def test_experts_and_embeddings_are_nearly_all_of_a_mixture(name: str) -> None:
    """So a wrong count or width of experts does not pass; the rest is attention, and eyes where it has some."""
    model = load_presets()[name].model
    share = expert_parameters(model) / (model.parameters or model.weight_bytes / 2)
    assert 0.9 < share < 1, f"{share:.3f}"


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_the_vocabulary_and_an_mlp_are_known_but_for_one_model(name: str) -> None:
    model = load_presets()[name].model
    known = model.vocab_size is not None, (model.intermediate_size or model.moe_intermediate_size) is not None
    assert known == (name != "mistral-large-3-675b-instruct", True)


def is_quantised(preset: Preset) -> bool:
    return preset.model.quantisation is not Quantisation.NONE


def expert_parameters(model: ModelFacts) -> int:
    """Parameters of gated experts, of dense MLPs and of embeddings, from the shape."""
    assert model.experts is not None
    assert model.moe_intermediate_size is not None
    mixtures = model.moe_layers or model.layers
    experts = mixtures * (model.experts + (model.shared_experts or 0)) * model.moe_intermediate_size
    dense = (model.layers - mixtures) * (model.intermediate_size or 0)
    return 3 * model.hidden_size * (experts + dense) + embedding_parameters(model)
