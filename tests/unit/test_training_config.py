"""KAITO's training_config.yaml is honoured key by key, and what is not known is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kairay.errors import InputError
from kairay.presets import TuningMethod
from kairay.training_config import Sections, known_keys, quantised_bits
from kairay.training_config import read_sections as read_written

KAITO_QLORA_TEMPLATE = """
training_config:
  ModelConfig:
    torch_dtype: "bfloat16"
    local_files_only: true
    device_map: "auto"
  QuantizationConfig:
    load_in_4bit: true
    bnb_4bit_quant_type: "nf4"
    bnb_4bit_compute_dtype: "bfloat16"
    bnb_4bit_use_double_quant: true
  LoraConfig:
    r: 8
    lora_alpha: 8
    lora_dropout: 0.0
    target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj']
  TrainingArguments:
    output_dir: "/mnt/results"
    ddp_find_unused_parameters: false
    save_strategy: "no"
    per_device_train_batch_size: 1
  DataCollator:
    mlm: true
  DatasetConfig:
    shuffle_dataset: true
    train_test_split: 1
"""


def read_sections(written: dict[str, Any], method: str = "qlora") -> Sections:
    return read_written(written, TuningMethod(method))


def test_kaitos_own_template_is_read() -> None:
    sections = read_sections(yaml.safe_load(KAITO_QLORA_TEMPLATE))
    assert sections.settings == {
        "dtype": "bfloat16",
        "load_in_4bit": True,
        "compute_dtype": "bfloat16",
        "rank": 8,
        "alpha": 8,
        "dropout": 0.0,
        "target_modules": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "micro_batch": 1,
        "shuffle": True,
        "train_share": 1.0,
    }
    assert sections.quantization == {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    assert "TrainingArguments.output_dir: checkpoints go to the run's storage" in sections.notes


@pytest.mark.parametrize(
    ("section", "key", "written", "setting", "read"),
    [
        ("TrainingArguments", "learning_rate", "2e-5", "learning_rate", 2e-5),
        ("TrainingArguments", "num_train_epochs", 3, "epochs", 3.0),
        ("TrainingArguments", "max_steps", "40", "max_steps", 40),
        ("TrainingArguments", "gradient_accumulation_steps", 4, "accumulation", 4),
        ("TrainingArguments", "warmup_ratio", 0.03, "warmup_ratio", 0.03),
        ("TrainingArguments", "lr_scheduler_type", "linear", "scheduler", "linear"),
        ("TrainingArguments", "max_seq_length", 2048, "sequence_length", 2048),
        ("TrainingArguments", "save_steps", 0.25, "checkpoint_steps", 0.25),
        ("TrainingArguments", "seed", 7, "seed", 7),
        ("TrainingArguments", "packing", "false", "packing", False),
        ("LoraConfig", "target_modules", "all-linear", "target_modules", "all-linear"),
        ("ModelConfig", "trust_remote_code", True, "trust_remote_code", True),
        ("DatasetConfig", "response_column", "answer", "columns.response", "answer"),
    ],
)
def test_a_key_sets_its_setting(section: str, key: str, written: Any, setting: str, read: Any) -> None:
    assert read_sections({section: {key: written}}).settings == {setting: read}


@pytest.mark.parametrize(
    ("section", "key", "written", "read"),
    [
        ("TrainingArguments", "weight_decay", "0.01", 0.01),
        ("TrainingArguments", "optim", "paged_adamw_8bit", "paged_adamw_8bit"),
        ("TrainingArguments", "neftune_noise_alpha", 5, 5.0),
    ],
)
def test_a_trainer_argument_is_passed_on_under_its_own_name(
    section: str, key: str, written: Any, read: Any
) -> None:
    assert read_sections({section: {key: written}}).trainer == {key: read}


def test_a_lora_argument_is_passed_on_to_peft() -> None:
    assert read_sections({"LoraConfig": {"use_rslora": True}}).lora == {"use_rslora": True}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"TrainingArgument": {}},
            "training config: unknown section TrainingArgument; did you mean TrainingArguments?",
        ),
        (
            {"TrainingArguments": {"learningrate": 1e-4}},
            "training config: unknown key TrainingArguments.learningrate; did you mean learning_rate?",
        ),
        (
            {"TrainingArguments": {"lora_alpha": 8}},
            "training config: TrainingArguments.lora_alpha belongs in section LoraConfig; move it there",
        ),
        (
            {"LoraConfig": {"r": 0}},
            "training config: LoraConfig.r is 0; it must be 1 or more",
        ),
        ({"LoraConfig": {"r": "a lot"}}, "training config: LoraConfig.r is 'a lot'; a number is needed"),
        ({"LoraConfig": {"r": 1.5}}, "training config: LoraConfig.r is 1.5; a whole number is needed"),
        (
            {"TrainingArguments": {"push_to_hub": True}},
            "training config: TrainingArguments.push_to_hub is True; only false works here",
        ),
        (
            {"TrainingArguments": {"output_dir": "results"}},
            "training config: TrainingArguments.output_dir is 'results'; KAITO wants a directory below /mnt",
        ),
        ({"LoraConfig": [1]}, "training config: LoraConfig is [1]; a mapping is needed"),
        (
            {"QuantizationConfig": {"bnb_4bit_quant_type": "int4"}},
            "training config: QuantizationConfig.bnb_4bit_quant_type is 'int4'; only nf4 or fp4 works here",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(written: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        read_sections(written)
    assert raised.value.message == message


def test_an_unknown_key_that_is_near_to_none_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown key DataCollator\.zzz; known are mlm, mlm_probability"):
        read_sections({"DataCollator": {"zzz": 1}})


def test_an_empty_section_and_an_empty_value_change_nothing() -> None:
    assert read_sections({"LoraConfig": None, "TrainingArguments": {"seed": None}}).settings == {}


def test_every_known_key_does_exactly_one_thing() -> None:
    for section, table in known_keys().items():
        for name, key in table.items():
            done = [key.setting is not None, key.passed, bool(key.note)]
            assert sum(done) == 1, f"{section}.{name}"


CONTRADICTIONS = [
    (
        {"QuantizationConfig": {"load_in_4bit": True, "load_in_8bit": True}}, "qlora",
        "QuantizationConfig.load_in_4bit and QuantizationConfig.load_in_8bit are both true; keep one",
    ),
    (
        {"ModelConfig": {"load_in_8bit": "yes"}, "QuantizationConfig": {"load_in_4bit": True}}, "qlora",
        "QuantizationConfig.load_in_4bit and ModelConfig.load_in_8bit are both true; keep one",
    ),
    (
        {"QuantizationConfig": {"load_in_4bit": True}}, "lora",
        "QuantizationConfig.load_in_4bit is true and method lora does not quantise; use qlora, or leave it out",
    ),
    (
        {"ModelConfig": {"load_in_8bit": True}}, "lora",
        "ModelConfig.load_in_8bit is true and method lora does not quantise; use qlora, or leave it out",
    ),
    (
        {"QuantizationConfig": {"load_in_4bit": False}}, "qlora",
        ("QuantizationConfig.load_in_4bit is false and method qlora quantises;"
        " leave it out, set load_in_8bit, or use lora"),
    ),
    (
        {"LoraConfig": {"target_modules": "all-linear", "layers_to_transform": [1]}}, "qlora",
        "LoraConfig.layers_to_transform needs LoraConfig.target_modules as a list of names",
    ),
    (
        {"LoraConfig": {"target_modules": ".*_proj", "layers_pattern": "layers"}}, "lora",
        "LoraConfig.layers_pattern needs LoraConfig.target_modules as a list of names",
    ),
    (
        {"LoraConfig": {"layers_pattern": "layers"}}, "qlora",
        "LoraConfig.layers_pattern needs LoraConfig.layers_to_transform; add it, or leave both out",
    ),
    (
        {"LoraConfig": {"lora_bias": True, "use_dora": True}}, "lora",
        "LoraConfig.lora_bias and LoraConfig.use_dora do not go together; keep one",
    ),
    (
        {"LoraConfig": {"lora_bias": True, "init_lora_weights": "gaussian"}}, "lora",
        "LoraConfig.lora_bias needs LoraConfig.init_lora_weights true or false; leave one out",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("written", "method", "said"), CONTRADICTIONS)
def test_keys_that_contradict_each_other_or_the_method_are_named(
    written: dict[str, Any], method: str, said: str
) -> None:
    with pytest.raises(InputError) as raised:
        read_sections(written, method)
    assert raised.value.message == f"training config: {said}"


@pytest.mark.parametrize(
    ("written", "method", "bits"),
    [
        ({}, "qlora", 4),
        ({}, "lora", None),
        ({"QuantizationConfig": {"load_in_4bit": True}}, "qlora", 4),
        ({"QuantizationConfig": {"load_in_8bit": True}}, "qlora", 8),
        ({"QuantizationConfig": {"load_in_8bit": True, "load_in_4bit": False}}, "qlora", 8),
        ({"QuantizationConfig": {"load_in_8bit": False, "load_in_4bit": False}}, "lora", None),
        ({"ModelConfig": {"load_in_8bit": True}, "QuantizationConfig": {"load_in_8bit": False}}, "qlora", 4),
        (
            {"ModelConfig": {"load_in_4bit": True}, "QuantizationConfig": {"load_in_4bit": False}},
            "lora",
            None,
        ),
    ],
)
def test_how_many_bits_the_base_model_has(written: dict[str, Any], method: str, bits: int | None) -> None:
    assert quantised_bits(read_sections(written, method), TuningMethod(method)) == bits


def test_a_config_may_be_read_under_the_name_that_its_user_knows() -> None:
    with pytest.raises(InputError, match=r"^ConfigMap mine: LoraConfig\.r is 0"):
        read_written({"LoraConfig": {"r": 0}}, TuningMethod.LORA, source="ConfigMap mine")
