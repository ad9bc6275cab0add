"""The job and the engine do with a user's own config what was planned, and the plan refuses what they would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kairay.config_maps import engine_settings, training_sections
from kairay.errors import InputError
from kairay.plan import PlanTarget
from kairay.plan_config import read_config
from kairay.plan_config_keys import SERVING
from kairay.presets import find_preset
from kairay.ray.serve_config import chat_args
from kairay.ray.target import CLUSTER, JobPlaces, ServicePlace
from kairay.ray.train_job import tune_config
from kairay.training_config import known_keys
from kairay_serve.args import ChatArgs
from kairay_serve.engine_vllm import options
from kairay_train.config import TuneConfig
from kairay_train.settings import resolve
from own_config import (
    PRESET,
    SOURCE,
    arguments,
    inference,
    job_settings,
    planned,
    read_tuning,
    training,
    tuning,
    vllm,
)

PLACES = JobPlaces(
    config="/c.json", data=("https://example.com/a.jsonl",), output="oci:/o:t", storage="/runs"
)
VALUES = (
    0, 1, -1, 8, 0.5, 1.5, 1e-9, True, False, "", "x", "16", "2e3", "1.5", "yes", "off", "nan", "inf", "auto",
    "float32", "torch.bfloat16", [], ["q_proj"], [1, 2], ["a", 1], {}, {"a": 1}, "all-linear",
)  # fmt: skip


def refusal(read: Callable[[], object]) -> str | None:
    """What is said after the name of what is read; None: it is taken."""
    try:
        read()
    except InputError as error:
        return error.message.partition(": ")[2]
    return None


def by_job(text: str, method: str) -> str | None:
    """What the driver says of a config before it looks at any data."""
    return refusal(lambda: job_settings(text, method))


def by_plan(text: str, method: str) -> str | None:
    return refusal(lambda: read_config(tuning(method), text))


@pytest.mark.parametrize("section", known_keys())
def test_the_plan_refuses_what_the_job_would_refuse_of_a_key_in_the_same_words(section: str) -> None:
    for name in known_keys()[section]:
        for value in VALUES:
            text = json.dumps({"training_config": {section: {name: value}}})
            assert by_plan(text, "qlora") == by_job(text, "qlora"), f"{section}.{name}: {value!r}"


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"QuantizationConfig": {"load_in_4bit": True, "load_in_8bit": True}}, "QuantizationConfig.load_in_4bit"),
        ({"ModelConfig": {"load_in_4bit": True, "load_in_8bit": True}}, "ModelConfig.load_in_8bit"),
        ({"ModelConfig": {"load_in_4bit": True}}, "ModelConfig.load_in_4bit"),
        ({"QuantizationConfig": {"load_in_8bit": True}}, "QuantizationConfig.load_in_8bit"),
        ({"QuantizationConfig": {"load_in_4bit": False}}, "QuantizationConfig.load_in_4bit"),
        ({"QuantizationConfig": {"load_in_4bit": False, "load_in_8bit": False}}, "QuantizationConfig.load_in_4bit"),
        ({"LoraConfig": {"layers_to_transform": 3, "target_modules": "all-linear"}}, "layers_to_transform"),
        ({"LoraConfig": {"layers_pattern": "layers"}}, "LoraConfig.layers_pattern"),
        ({"LoraConfig": {"lora_bias": True, "use_dora": True}}, "LoraConfig.use_dora"),
        ({"LoraConfig": {"rank": 8}}, "LoraConfig.rank"),
        ({"LoraConfig": {"learning_rate": 1e-4}}, "LoraConfig.learning_rate"),
        ({"Lora": {"r": 8}}, "section Lora"),
        ({"TrainingArguments": {"optim": "lomo"}}, "TrainingArguments.optim"),
        ({"TrainingArguments": {"lr_scheduler_type": "step"}}, "TrainingArguments.lr_scheduler_type"),
        ({"TrainingArguments": {"push_to_hub": True}}, "TrainingArguments.push_to_hub"),
        ({"TrainingArguments": {"seed": -1, "max_length": 1}}, "TrainingArguments.seed"),
    ],
)  # fmt: skip
def test_the_plan_refuses_contradictions_and_unknown_keys_before_the_job_does(
    sections: dict[str, object], named: str, method: str
) -> None:
    text = training(**sections)
    said = by_job(text, method)
    assert by_plan(text, method) == said
    # Only the quantisation keys are a matter of the method.
    if said is not None:
        assert named in said
    else:
        assert "load_in_" in named


def test_a_rank_above_the_width_of_the_model_is_told() -> None:
    assert not any("is more than the width" in each for each in planned(tuning(), arguments()).warnings)
    wide = planned(tuning(), training(LoraConfig={"r": 4097, "layers_to_transform": [31]}))
    assert any("LoraConfig.r 4,097 is more than the width of llama-3.1" in each for each in wide.warnings)


CONFIGS = [
    "training_config: {}",
    arguments(max_length=512),
    arguments(max_seq_length="4096", packing=False),
    arguments(max_length=1024, gradient_checkpointing="off"),
    arguments(per_device_train_batch_size=3),
    arguments(per_device_train_batch_size=32),
    arguments(gradient_accumulation_steps=4),
    arguments(per_device_train_batch_size=2, gradient_accumulation_steps=3, max_length=1000),
    arguments(num_train_epochs="2", max_steps=7),
    training(LoraConfig={"r": 128, "lora_dropout": 0.1, "target_modules": ["q_proj", "down_proj"]}),
    training(LoraConfig={"target_modules": "all-linear"}),
    training(LoraConfig={"layers_to_transform": [30, 31]}, TrainingArguments={"optim": "adamw_8bit"}),
    training(ModelConfig={"dtype": "float32"}),
    training(ModelConfig={"torch_dtype": "float16"}, DatasetConfig={"train_test_split": 0.5}),
    training(QuantizationConfig={"bnb_4bit_compute_dtype": "float32"}),
]


@pytest.mark.parametrize("text", CONFIGS)
@pytest.mark.parametrize("target", PlanTarget)
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_job_runs_what_was_planned(text: str, target: PlanTarget, method: str) -> None:
    preset, work = find_preset(PRESET), tuning(method)
    plan = planned(work, text, target=target)
    wishes = read_tuning(text, SOURCE)
    assert plan.tuning is not None, plan.problems
    assert preset.tuning is not None
    told = tune_config(plan, CLUSTER, PLACES, revision="0a1b2c", parameters=training_sections(text, SOURCE))
    settings = resolve(TuneConfig.model_validate_json(json.dumps(told)), preset)
    shape, facts = plan.tuning, wishes.applied(preset.tuning, preset.model)
    assert settings.sequence_length == shape.sequence_length
    assert settings.micro_batch == shape.micro_batch
    assert settings.accumulation == shape.accumulation
    assert settings.gradient_checkpointing is (
        shape.device == "cuda" if wishes.checkpointing is None else wishes.checkpointing
    )
    assert settings.packing is (wishes.packing is not False)
    assert (settings.rank, settings.dropout) == (facts.defaults.rank, facts.defaults.dropout)
    if isinstance(settings.target_modules, tuple):
        assert settings.target_modules == facts.target_modules
    assert settings.epochs == (wishes.epochs or facts.defaults.epochs)
    assert settings.train_share == wishes.train_share
    assert max(0, settings.max_steps) == (wishes.max_steps or 0)
    # What the base model computes in: with qlora that of the products with its matrices, unless those were asked for.
    if method == "lora":
        assert settings.dtype.value == shape.dtype
    elif wishes.compute_dtype is None:
        assert settings.compute_dtype.value == shape.dtype


ENGINE_CONFIGS = [
    "vllm: {}",
    vllm(max_model_len=4096),
    vllm(max_model_len="100k", kv_cache_dtype="fp8"),
    "vllm: {max_model_len: 8192, tensor_parallel_size: 2}",
    vllm(tensor_parallel_size=2, pipeline_parallel_size=2),
    vllm(pipeline_parallel_size=3),
    vllm(dtype="float16", gpu_memory_utilization=0.7, max_num_seqs=8),
    vllm(dtype="float32", enforce_eager=True, max_num_batched_tokens=8192),
    vllm(kv_cache_memory_bytes=4 * 2**30),
]


@pytest.mark.parametrize("text", ENGINE_CONFIGS)
def test_the_engine_runs_what_was_planned(text: str, tmp_path: Path) -> None:
    plan = planned(inference(), text)
    shape = plan.serving
    assert shape is not None, plan.problems
    written = engine_settings(text, "vllm", SOURCE)
    told = chat_args(
        plan, shape, ServicePlace(port=8000, route_prefix="/", adapters=(), default_model=None),
        model=None, engine_config=written,
    )  # fmt: skip
    args = ChatArgs.model_validate_json(json.dumps(told))
    run = {name.replace("_", "-"): value for name, value in options(args, tmp_path, {}).items()}
    assert SERVING["max-model-len"].read(run["max-model-len"]) == args.context_length == shape.context_length
    assert run["tensor-parallel-size"] == args.tensor_parallel == shape.tensor_parallel
    assert run["pipeline-parallel-size"] == args.pipeline_parallel == shape.pipeline_parallel
    assert run["dtype"] == args.dtype.value == shape.dtype
    assert run["kv-cache-memory-bytes"] == shape.kv_cache_bytes
    assert shape.target_ongoing_requests <= run["max-num-seqs"]
