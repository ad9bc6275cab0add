"""What is said of training keys without peft and transformers is what they say themselves."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.local

pytest.importorskip("torch", reason="torch is not installed")

import peft  # noqa: E402
import transformers  # noqa: E402

from kairay.errors import InputError  # noqa: E402
from kairay.presets import TuningMethod  # noqa: E402
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
