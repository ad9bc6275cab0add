"""What is said of training keys without peft and transformers is what they say themselves."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.local

pytest.importorskip("torch", reason="torch is not installed")

import peft  # noqa: E402
import transformers  # noqa: E402

from kairay.errors import InputError  # noqa: E402
from kairay.plan_modules import lora_faults  # noqa: E402
from kairay.plan_wishes import TuningWishes  # noqa: E402
from kairay.presets import TuningMethod, find_preset  # noqa: E402
from kairay.training_config import read_sections  # noqa: E402
from kairay.training_keys import OPTIMIZERS, SCHEDULERS  # noqa: E402


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": "all-linear", "layers_to_transform": [1]},
        {"target_modules": ".*_proj", "layers_pattern": "layers"},
        {"target_modules": ["q_proj"], "layers_pattern": "layers"},
        {"target_modules": ["q_proj"], "lora_bias": True, "use_dora": True},
        {"target_modules": ["q_proj"], "lora_bias": True, "init_lora_weights": "gaussian"},
    ],
)
def test_what_peft_refuses_of_keys_together_is_refused_before(lora: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"layers_|lora_bias"):
        peft.LoraConfig(**lora)
    with pytest.raises(InputError):
        read_sections({"LoraConfig": lora}, TuningMethod.LORA)


NAMED: list[list[str] | str] = [
    "q_proj", "q_prj", "self_attn.q_proj", "all_linear", "lm_head", "ALL-LINEAR", r".*\.q_proj",
    "model.layers.0.self_attn.q_proj", ["q_prj"], ["query_key_value"], ["norm"], [], ["lm_head"], ["embed_tokens"],
    ["self_attn.q_proj"], ["qkv_proj", "o_proj"], ["attn.q_proj"], ["mlp.o_proj"], ["model.lm_head"],
    ["self_attn.q_proj", "attn.q_proj"], ["model.layers.31.mlp.up_proj"], ["model.layers.32.mlp.up_proj"],
    "(q|v)_proj", r".*\.attn\.(q|v)_proj", r".*\.self_attn\.(q|v)_proj", r"model\.layers\.3[01]\..*_proj",
    r"model\.layers\.3[2-9]\..*_proj", "model.layers.0.self_attn.q_prj", "model.norm", ".*norm",
]  # fmt: skip
"""What may stand under `target_modules`."""


@pytest.mark.parametrize(
    ("targets", "layers"), [*((each, None) for each in NAMED), (["q_proj"], [31]), (["q_proj"], [32])]
)
def test_a_plan_refuses_the_modules_and_layers_that_peft_finds_nothing_by(
    targets: list[str] | str, layers: list[int] | None
) -> None:
    preset = find_preset("llama-3.1-8b-instruct")
    wishes = TuningWishes(
        target_modules=targets if isinstance(targets, str) else tuple(targets),
        layers=None if layers is None else tuple(layers),
    )
    shape = transformers.LlamaConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=preset.model.layers,
        num_attention_heads=1,
        vocab_size=8,
    )
    model = transformers.LlamaForCausalLM(shape)
    config = peft.LoraConfig(r=1, target_modules=targets, layers_to_transform=layers)
    try:
        peft.get_peft_model(model, config)
        works = True
    except ValueError:
        works = False
    assert works is (not list(lora_faults(wishes, preset)))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_is_one_of_transformers_that_needs_no_evaluation(name: str) -> None:
    assert transformers.TrainingArguments(lr_scheduler_type=name, use_cpu=True).lr_scheduler_type == name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_works_with_what_is_installed(name: str) -> None:
    arguments = transformers.TrainingArguments(optim=name, use_cpu=True)
    kind, _ = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments)
    assert callable(kind)


def test_what_is_left_out_needs_what_is_not_installed_or_an_evaluation() -> None:
    others = {"greedy", "reduce_lr_on_plateau"}
    assert {str(each.value) for each in transformers.SchedulerType} - set(SCHEDULERS) == others
    for name in others:
        with pytest.raises(ValueError, match="eval strategy"):
            transformers.TrainingArguments(lr_scheduler_type=name, use_cpu=True)
