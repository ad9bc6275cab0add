"""A user's own config is read as the job and the engine read it, and a wrong value is named with its ConfigMap."""

from __future__ import annotations

import pytest

from kairay.errors import InputError
from kairay.memory import INT8_BITS, NF4_PLAIN_BITS, Dtype, Optimizer
from kairay.plan_config import read_serving
from kairay.plan_wishes import ServingWishes, TuningWishes
from own_config import SOURCE, arguments, job_settings, planned, read_tuning, training, tuning, vllm


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
