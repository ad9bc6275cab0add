"""A user's own config is read as the job and the engine read it, and a wrong value is named with its ConfigMap."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml

from kairay.config_maps import engine_settings, training_sections
from kairay.errors import InputError
from kairay.memory import INT8_BITS, NF4_PLAIN_BITS, Dtype, Optimizer
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_config import read_config, read_serving
from kairay.plan_config import read_tuning as read_written
from kairay.plan_config_keys import SERVING
from kairay.plan_wishes import ServingWishes, TuningWishes
from kairay.presets import TuningMethod, find_preset
from kairay.ray.serve_config import chat_args
from kairay.ray.target import CLUSTER, JobPlaces, ServicePlace
from kairay.ray.train_job import tune_config
from kairay.skus import MachineProbe, load_skus, local_machine
from kairay.training_config import known_keys
from kairay.workspace import Workspace, parse_documents
from kairay_serve.args import ChatArgs
from kairay_serve.engine_vllm import options
from kairay_train.config import TuneConfig
from kairay_train.settings import Settings, resolve

SOURCE = "ConfigMap mine"
PRESET = "llama-3.1-8b-instruct"
TODAY = date(2026, 11, 25)
PLACES = JobPlaces(
    config="/c.json", data=("https://example.com/a.jsonl",), output="oci:/o:t", storage="/runs"
)
HEADER = """apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: w}
resource: {labelSelector: {matchLabels: {a: b}}}
"""


def training(**sections: object) -> str:
    return yaml.safe_dump({"training_config": sections}, sort_keys=False)


def arguments(**keys: object) -> str:
    return training(TrainingArguments=keys)


def vllm(**keys: object) -> str:
    return yaml.safe_dump({"vllm": {name.replace("_", "-"): value for name, value in keys.items()}})


def workspace(work: str) -> Workspace:
    (found,) = parse_documents(HEADER + work, "w.yaml").workspaces
    return found


def tuning(method: str = "qlora") -> Workspace:
    return workspace(
        f"tuning: {{preset: {{name: {PRESET}}}, method: {method}, config: mine,"
        " input: {urls: ['https://example.com/a.jsonl']},"
        " output: {image: 'registry.example/a:1', imagePushSecret: push}}\n"
    )


def inference() -> Workspace:
    return workspace(f"inference: {{preset: {{name: {PRESET}}}, config: mine}}\n")


def read_tuning(content: str, source: str) -> TuningWishes:
    return read_written(content, source, TuningMethod.QLORA)


def planned(work: Workspace, text: str, *, target: PlanTarget = PlanTarget.CLUSTER) -> Plan:
    machine = local_machine(MachineProbe(cores=32, ram_bytes=2**41, available_bytes=2**41, bf16=True))
    return make_plan(
        work, find_preset(PRESET), skus=load_skus(), machine=machine, target=target, now=TODAY,
        wishes=read_config(work, text),
    )  # fmt: skip


def test_training_keys_become_wishes() -> None:
    text = training(
        ModelConfig={"torch_dtype": "torch.float32"},
        QuantizationConfig={"bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "auto"},
        LoraConfig={
            "r": "128", "lora_dropout": 0.05, "target_modules": ["q_proj"], "layers_to_transform": [7, 5],
            "modules_to_save": "lm_head",
        },
        TrainingArguments={
            "max_length": "2e3", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
            "packing": "no", "gradient_checkpointing": False, "optim": "paged_adamw_8bit", "num_train_epochs": 0.5,
            "max_steps": 10, "learning_rate": 1e-4,
        },
        DatasetConfig={"train_test_split": 0.9},
    )  # fmt: skip
    assert read_tuning(text, SOURCE) == TuningWishes(
        source=SOURCE,
        said=(
            "ModelConfig.torch_dtype torch.float32",
            "QuantizationConfig.bnb_4bit_use_double_quant false",
            "LoraConfig.r 128",
            "LoraConfig.lora_dropout 0.05",
            "LoraConfig.target_modules q_proj",
            "LoraConfig.layers_to_transform 7 5",
            "LoraConfig.modules_to_save lm_head",
            "TrainingArguments.max_length 2e3",
            "TrainingArguments.per_device_train_batch_size 4",
            "TrainingArguments.gradient_accumulation_steps 2",
            "TrainingArguments.packing no",
            "TrainingArguments.gradient_checkpointing false",
            "TrainingArguments.optim paged_adamw_8bit",
            "TrainingArguments.num_train_epochs 0.5",
            "TrainingArguments.max_steps 10",
            "DatasetConfig.train_test_split 0.9",
        ),
        costs=(
            "per_device_train_batch_size 4",
            "max_length 2e3",
            "gradient_checkpointing false",
            "torch_dtype torch.float32",
            "modules_to_save lm_head",
            "r 128",
            "bnb_4bit_use_double_quant false",
        ),
        rank=128,
        target_modules=("q_proj",),
        saved_modules=("lm_head",),
        layers=(7, 5),
        dropout=0.05,
        sequence_length=2000,
        micro_batch=4,
        accumulation=2,
        packing=False,
        checkpointing=False,
        optimizer=Optimizer.PAGED_ADAMW_8BIT,
        weight_bits=NF4_PLAIN_BITS,
        dtype=Dtype.FLOAT32,
        epochs=0.5,
        max_steps=10,
        train_share=0.9,
    )


def test_engine_options_become_wishes() -> None:
    text = vllm(
        max_model_len="16K", kv_cache_dtype="fp8_e5m2", gpu_memory_utilization=0.9, tensor_parallel_size=2,
        pipeline_parallel_size="1", max_num_seqs=64, max_num_batched_tokens="4.096k", enforce_eager=True,
        dtype="half", kv_cache_memory_bytes="2G", hf_overrides={"rope_theta": 1}, tool_call_parser="hermes",
    )  # fmt: skip
    read = read_serving(text, SOURCE)
    assert read.said[0] == "vllm.dtype half"
    assert read == ServingWishes(
        source=SOURCE,
        said=read.said,
        costs=(
            "max-model-len 16K",
            "kv-cache-memory-bytes 2G",
            "tensor-parallel-size 2",
            "pipeline-parallel-size 1",
            "gpu-memory-utilization 0.9",
            "max-num-batched-tokens 4.096k",
            "max-num-seqs 64",
        ),
        context_length=16_384,
        stretched=True,
        dtype=Dtype.FLOAT16,
        kv_dtype=Dtype.FLOAT8,
        kv_cache_bytes=2 * 2**30,
        utilisation=0.9,
        tensor_parallel=2,
        pipeline_parallel=1,
        max_requests=64,
        batch_tokens=4096,
        eager=True,
    )


def test_what_was_left_open_is_none() -> None:
    assert read_tuning("training_config: {}", SOURCE) == TuningWishes(source=SOURCE)
    assert read_tuning(arguments(max_length=None, max_steps=-1), SOURCE).sequence_length is None
    assert read_tuning(arguments(max_steps=-1), SOURCE).max_steps is None
    assert read_serving("{max_probe_steps: 6}", SOURCE) == ServingWishes(source=SOURCE)
    auto = vllm(max_model_len="auto", dtype="auto", kv_cache_dtype="auto", max_num_seqs=None)
    read = read_serving(auto, SOURCE)
    assert (read.context_length, read.dtype, read.kv_dtype, read.max_requests) == (None, None, None, None)
    assert read_serving(vllm(max_model_len=-1), SOURCE).context_length is None


def test_underscores_in_options_count_as_vllm_counts_them() -> None:
    assert read_serving("vllm: {max_model_len: 4096}", SOURCE).context_length == 4096


def test_of_two_keys_for_one_thing_the_later_one_counts() -> None:
    text = "training_config: {TrainingArguments: {max_seq_length: 512, max_length: 1024}}"
    read = read_tuning(text, SOURCE)
    assert (read.sequence_length, read.costs) == (1024, ("max_length 1024",))
    assert read.said == ("TrainingArguments.max_length 1024",)


def test_what_is_not_counted_is_said() -> None:
    text = training(
        ModelConfig={"attn_implementation": "eager"},
        LoraConfig={"use_dora": True, "target_modules": ".*_proj"},
        TrainingArguments={"optim": "lion_8bit"},
    )
    assert read_tuning(text, SOURCE).uncounted == (
        "ModelConfig.attn_implementation is not counted in the memory",
        "LoraConfig.use_dora is not counted in the memory",
        "TrainingArguments.optim lion_8bit counts as adamw_torch in the memory",
        "the pattern LoraConfig.target_modules counts as every linear module",
    )
    calm = training(ModelConfig={"attn_implementation": "sdpa"}, LoraConfig={"use_dora": False})
    assert read_tuning(calm, SOURCE).uncounted == ()
    serving = read_serving(vllm(quantization="fp8", kv_cache_dtype="nvfp4", enable_lora=False), SOURCE)
    assert serving.kv_dtype is None
    assert serving.uncounted == (
        "vllm.quantization is not counted in the memory",
        "vllm.kv-cache-dtype nvfp4 counts as the model's own number format in the memory",
    )


def test_keys_without_effect_are_told_as_the_job_tells_them() -> None:
    text = training(
        TrainingArguments={
            "fp16": True,
            "bf16": True,
            "save_strategy": "no",
            "deepspeed": "ds.json",
            "seed": 1,
        },
        DataCollator={"mlm": True},
    )
    told = [each for each in planned(tuning(), text).warnings if "decide" in each or "Arguments" in each]
    assert "ConfigMap mine: TrainingArguments.fp16: the plan decides device and number type" in told
    assert read_tuning(text, SOURCE).notes == job_settings(text, "qlora").notes
    assert [each.partition(": ")[0] for each in read_tuning(text, SOURCE).notes] == [
        "TrainingArguments.fp16",
        "TrainingArguments.bf16",
        "TrainingArguments.save_strategy",
        "TrainingArguments.deepspeed",
        "DataCollator.mlm",
    ]


def test_what_changes_nothing_is_not_said_to_be_left_out() -> None:
    quiet = vllm(data_parallel_size=1, max_loras="1", enable_lora=False)
    assert read_serving(quiet, SOURCE).uncounted == ()
    assert read_serving(vllm(data_parallel_size=2), SOURCE).uncounted == (
        "vllm.data-parallel-size is not counted in the memory",
    )


def test_a_section_without_a_line_fixes_nothing() -> None:
    assert read_serving("vllm:\n  # max-model-len: 4096\n", SOURCE).said == ()


def test_eight_bits_and_every_known_optimiser_are_read() -> None:
    for section in ("ModelConfig", "QuantizationConfig"):
        assert read_tuning(training(**{section: {"load_in_8bit": True}}), SOURCE).weight_bits == INT8_BITS
    for name in Optimizer:
        assert read_tuning(arguments(optim=str(name)), SOURCE).optimizer is name


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (arguments(max_length="long"), "TrainingArguments.max_length is 'long'; a number is needed"),
        (arguments(max_length=4), "TrainingArguments.max_length is 4; it must be 8 or more"),
        (arguments(per_device_train_batch_size=1.5), "1.5; a whole number is needed"),
        (arguments(per_device_train_batch_size=10**16), "more than anything can be"),
        (arguments(per_device_train_batch_size=10**400), "a number is needed"),
        (arguments(num_train_epochs=float("inf")), "inf; a number is needed"),
        (arguments(num_train_epochs=float("nan")), "nan; a number is needed"),
        (arguments(num_train_epochs=1e300), "more than anything can be"),
        (arguments(gradient_checkpointing="maybe"), "'maybe'; true or false is needed"),
        (arguments(optim=""), "TrainingArguments.optim is ''; only adamw_torch, adamw_torch_fused,"),
        (arguments(optim="adamw_tortch"), "'adamw_tortch'; did you mean adamw_torch? Only adamw_torch,"),
        (arguments(lr_scheduler_type="cosin"), "'cosin'; did you mean cosine? Only linear, cosine,"),
        (arguments(fsdp="full_shard"), "TrainingArguments.fsdp is 'full_shard'; only false works here"),
        (arguments(label_smoothing_factor=0.1), "is 0.1; only 0 works here"),
        (training(LoraConfig={"r": True}), "LoraConfig.r is True; a number is needed"),
        (training(LoraConfig={"lora_dropout": 1}), "LoraConfig.lora_dropout is 1; it must be between"),
        (training(LoraConfig={"target_modules": [3]}), "LoraConfig.target_modules is 3; text is needed"),
        (training(LoraConfig=[]), "LoraConfig is []; a mapping is needed"),
        (training(ModelConfig={"torch_dtype": "int8"}), "ModelConfig.torch_dtype is 'int8'; only auto,"),
        ("training_config: [", "not YAML"),
        ("training_config: 3", "give a mapping training_config"),
        ("training_config: {}\n---\ntraining_config: {}", "give a mapping training_config"),
    ],
)
def test_a_wrong_training_value_is_named(text: str, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        read_tuning(text, SOURCE)
    assert caught.value.message.startswith(SOURCE)
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (vllm(max_model_len="much"), "vllm.max-model-len is 'much'; a whole number such as 16384"),
        (vllm(max_model_len=0), "at least 1 is needed"),
        (vllm(max_model_len=1.5), "a whole number such as 16384"),
        (vllm(max_model_len=True), "a whole number such as 16384"),
        (vllm(max_model_len="1.5K"), "a whole number such as 16384"),
        (vllm(kv_cache_dtype="fp4"), "'fp4'; did you mean nvfp4? Only auto, float16,"),
        (vllm(kv_cache_dtype="fp7"), "vllm.kv-cache-dtype is 'fp7'; did you mean fp8? Only auto,"),
        (vllm(kv_cache_dtype=8), "vllm.kv-cache-dtype is 8; only auto, float16,"),
        (vllm(gpu_memory_utilization=90), "vllm.gpu-memory-utilization is 90; it must be between 0 and 1"),
        (vllm(gpu_memory_utilization=0), "it must be above 0"),
        (vllm(tensor_parallel_size="two"), "'two'; a whole number of at least 1 is needed"),
        (vllm(tensor_parallel_size=0), "a whole number of at least 1 is needed"),
        (vllm(pipeline_parallel_size="²"), "a whole number of at least 1 is needed"),
        (vllm(max_num_seqs="9" * 5000), "a whole number of at least 1 is needed"),
        (vllm(max_num_batched_tokens="999999999999999999G"), "more than anything can be"),
        (vllm(enforce_eager="true"), "vllm.enforce-eager is 'true'; true or false is needed"),
        (vllm(dtype="int8"), "vllm.dtype is 'int8'; only auto, half,"),
        (vllm(dtype=["half"]), "only auto, half,"),
        ("vllm: 3", "give a mapping with a section vllm"),
        ("- a", "give a mapping with a section vllm"),
    ],
)
def test_a_wrong_engine_option_is_named(text: str, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        read_serving(text, SOURCE)
    assert caught.value.message.startswith(SOURCE)
    assert fault in caught.value.message


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


def job_settings(text: str, method: str) -> Settings:
    told = {
        "run": "r", "workspace": "w", "preset": PRESET, "method": method, "data": ["/d"], "output": "oci:/o:t",
        "storage": "/s", "parameters": training_sections(text, SOURCE),
    }  # fmt: skip
    return resolve(TuneConfig.model_validate_json(json.dumps(told)), find_preset(PRESET))


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
