"""Modules and layers that a LoraConfig names are held against those of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kairay import memory
from kairay.plan_modules import lora_faults, uncounted_modules
from kairay.plan_wish_words import wish_faults
from kairay.plan_wishes import TuningWishes
from kairay.presets import find_preset, load_presets

LLAMA = find_preset("llama-3.1-8b-instruct")
PHI = find_preset("phi-4")


def faults(
    targets: tuple[str, ...] | str | None = None, **wishes: tuple[str, ...] | tuple[int, ...]
) -> list[str]:
    return list(lora_faults(TuningWishes(target_modules=targets, **wishes), LLAMA))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            ("q_prj",),
            "LoraConfig.target_modules q_prj is no module of llama-3.1-8b-instruct; did you mean q_proj?",
        ),
        (
            ("v_proj", "self_attn.oproj"),
            "self_attn.oproj is no module of llama-3.1-8b-instruct; did you mean o_proj?",
        ),
        (("lm_headd",), "did you mean lm_head?"),
        (
            ("query_key_value", "dense"),
            "query_key_value, dense is nothing of llama-3.1-8b-instruct that LoRA goes to; name some of q_proj,",
        ),
        ((), "LoraConfig.target_modules is an empty list; name some of q_proj,"),
        (
            ("attn.q_proj",),
            (
                "LoraConfig.target_modules attn.q_proj is no module of llama-3.1-8b-instruct; did you mean"
                " self_attn.q_proj?"
            ),
        ),
        (
            ("v_proj", "attn.q_proj"),
            "attn.q_proj is no module of llama-3.1-8b-instruct; did you mean self_attn.q_proj",
        ),
        (("mlp.o_proj",), "did you mean self_attn.o_proj?"),
        (("self_attn.up_proj",), "did you mean mlp.up_proj?"),
        (("model.layers.32.self_attn.q_proj",), "did you mean self_attn.q_proj?"),
        (("layers.*.q_proj",), "did you mean self_attn.q_proj?"),
        (("attn.q_proj", "self_attn.v_proj"), "did you mean self_attn.q_proj?"),
        (("f_attn.q_proj",), "did you mean self_attn.q_proj?"),
        (("model.lm_head",), "did you mean lm_head?"),
        (("transformer.embed_tokens",), "did you mean model.embed_tokens?"),
        (
            r".*\.attn\.(q|v)_proj",
            (
                r"_proj is a pattern of whole paths and matches none of llama-3.1-8b-instruct, which go from"
                r" model.layers.0.self_attn.q_proj to model.layers.31.mlp.down_proj; mend it, or write a list, of"
            ),
        ),
        ("(q|v)_proj", "matches none of llama-3.1-8b-instruct"),
        (r"model\.layers\.(3[2-9]|4\d)\..*", "matches none of llama-3.1-8b-instruct"),
        ("model.layers.0.self_attn.q_prj", "matches none of llama-3.1-8b-instruct"),
        (r".*qkv_proj", "matches none of llama-3.1-8b-instruct"),
        ("*.q_proj", "*.q_proj is not in a list, so it is a pattern, and it is none: nothing to repeat"),
        (
            "q_proj",
            "q_proj is not in a list, so it is a pattern of whole paths, and llama-3.1-8b-instruct has no such",
        ),
        ("q_proj", "write a list: [q_proj]"),
        ("self_attn.q_prj", "write a list: [q_proj]"),
        ("all_linear", "did you mean all-linear?"),
        ("everything", "write a list, of q_proj, k_proj,"),
    ],
)
def test_a_name_that_peft_finds_nothing_by_is_refused(targets: tuple[str, ...] | str, said: str) -> None:
    (fault,) = faults(targets)
    assert said in fault


@pytest.mark.parametrize(
    "targets",
    [
        None,
        ("q_proj", "down_proj"),
        ("self_attn.q_proj", "model.layers.0.mlp.up_proj"),
        ("lm_head",),
        ("embed_tokens",),
        ("qkv_proj", "o_proj"),
        ("q_proj", "xyz"),
        ("q_proj", "x_proj", "out_proj"),
        ("self_attn.q_proj", "attn.q_proj", "attention.q_proj"),
        ("attn.c_attn", "model.layers.31.self_attn.q_proj"),
        "all-linear",
        "ALL-LINEAR",
        r"model\.layers\.(30|31)\.self_attn\.[qkv]_proj",
        "(?:.*proj)+x",  # cannot be found out in bounded time
        r".*\.(q|v)_proj",
        "lm_head",
        "model.layers.0.self_attn.q_proj",
    ],
)
def test_what_peft_finds_something_by_is_taken(targets: tuple[str, ...] | str | None) -> None:
    assert faults(targets) == []


def test_the_paths_of_every_preset_that_can_be_tuned_are_known() -> None:
    tuned = {name: preset.model for name, preset in load_presets().items() if preset.tuning is not None}
    assert [name for name, model in tuned.items() if memory.module_paths(model) is None] == []


def test_a_list_for_several_families_is_taken_and_the_names_of_others_are_not_counted() -> None:
    wishes = TuningWishes(target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))
    assert list(lora_faults(wishes, PHI)) == []
    assert uncounted_modules(wishes, PHI.model) == ("q_proj", "k_proj", "v_proj")
    assert uncounted_modules(TuningWishes(target_modules=("q_prj", "o_proj")), LLAMA.model) == ()


@pytest.mark.parametrize(
    "targets", [("attn.q_proj",), r".*\.attn\.(q|v)_proj", "model.layers.0.self_attn.q_prj", "*.q_proj"]
)
def test_of_a_model_whose_paths_nobody_knows_nothing_is_said_about_paths(
    targets: tuple[str, ...] | str,
) -> None:
    strange = replace(LLAMA, model=replace(LLAMA.model, architecture="FalconForCausalLM"))
    assert list(lora_faults(TuningWishes(target_modules=targets), strange)) == []


@pytest.mark.parametrize(
    ("name", "meant"), [("lm_headd", "lm_head"), ("embed_token", "embed_tokens"), ("upproj", "up_proj")]
)
def test_a_slip_among_the_modules_that_are_trained_whole_is_refused(name: str, meant: str) -> None:
    assert faults(saved_modules=("lm_head", name)) == [
        f"LoraConfig.modules_to_save {name} is no module of llama-3.1-8b-instruct; did you mean {meant}?"
    ]


def test_modules_that_are_trained_whole_are_found_by_their_last_letters() -> None:
    assert faults(saved_modules=("lm_head", "head", "model.embed_tokens", "norm", "layernorm", "score")) == []


def test_layers_that_the_model_lacks_are_refused() -> None:
    assert faults(layers=(0, 31)) == []
    assert faults(layers=(31, 32, 100)) == [
        "LoraConfig.layers_to_transform 32, 100 is beyond llama-3.1-8b-instruct, which has layers 0 to 31"
    ]


@pytest.mark.parametrize("local", [True, False])
def test_a_plan_says_it_with_the_config_s_name_wherever_it_runs(local: bool) -> None:
    wishes = TuningWishes(source="ConfigMap mine", layers=(100,))
    (fault,) = wish_faults(wishes, LLAMA, local=local)
    assert fault.startswith("ConfigMap mine: LoraConfig.layers_to_transform 100 is beyond")


def test_of_a_model_that_cannot_be_tuned_nothing_is_said() -> None:
    assert list(lora_faults(TuningWishes(layers=(1000,)), find_preset("gpt-oss-20b"))) == []
