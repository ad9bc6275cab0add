"""The tables behind `training_config.read_sections`: one line for each key of KAITO's training sections.

A key sets a setting of ours (`_sets`), goes to peft, bitsandbytes or the trainer under its own name
(`_passes`), or is accepted because Kairay decides the matter (`_decided`, with the reason). Sources of the
names: KAITO 0.12's cli.py, transformers 5 and TRL 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from kairay.values import Reader, anything, flag, indexes, mapping, names, number, only, text, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What happens to one key: `setting` names a field of the job's settings (or `columns.x`), `passed` hands it on,
    else `note` says who decides."""

    read: Reader
    setting: str | None = None
    passed: bool = False
    note: str = ""


def _sets(setting: str, read: Reader) -> Key:
    return Key(read=read, setting=setting)


def _passes(read: Reader) -> Key:
    return Key(read=read, passed=True)


def _decided(note: str, read: Reader = anything) -> Key:
    return Key(read=read, note=note)


def _output_dir(value: object) -> str:
    read = text(value)
    if not read.rstrip("/").startswith("/mnt/"):
        raise ValueError(f"{value!r}; KAITO wants a directory below /mnt")
    return read


def _weights(value: object) -> str:
    read = text(value)
    if not read.startswith("/workspace"):
        raise ValueError(f"{value!r}; the model comes from the preset (or --model), leave this key out")
    return read


_DTYPE = only("auto", "float32", "float16", "bfloat16", "torch.float32", "torch.float16", "torch.bfloat16")
_LOCAL = "weights are always on this machine's disk before training starts"
_NO_UPLOAD = "the adapter goes to tuning.output, to no hub"
_REPORTS = "progress goes to Prometheus gauges (kairay_tuning_*)"
_DATA = "rows are checked, tokenised and packed by Kairay before training"
_NO_EVALUATION = "there is no evaluation during training"
_DEVICE = "the plan decides device and number type"

SCHEDULERS = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
)  # fmt: skip
"""transformers' learning rate schedules that need no evaluation during training."""
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit",
    "adafactor", "adagrad", "ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "lion_32bit",
    "lion_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit", "sgd",
)  # fmt: skip
"""transformers' optimisers that come with PyTorch, transformers and bitsandbytes: the images have no others."""

_MODEL: dict[str, Key] = {
    "torch_dtype": _sets("dtype", _DTYPE),
    "dtype": _sets("dtype", _DTYPE),
    "trust_remote_code": _sets("trust_remote_code", flag),
    "chat_template": _sets("chat_template", text),
    "attn_implementation": _sets(
        "attention", only("eager", "sdpa", "flash_attention_2", "flash_attention_3")
    ),
    "load_in_4bit": _sets("load_in_4bit", flag),
    "load_in_8bit": _sets("load_in_8bit", flag),
    "pretrained_model_name_or_path": _decided("the model comes from the preset", _weights),
    "device_map": _decided("each worker holds the whole model on its own device"),
    "local_files_only": _decided(_LOCAL, flag),
    "cache_dir": _decided(_LOCAL),
    "force_download": _decided(_LOCAL, flag),
    "resume_download": _decided(_LOCAL, flag),
    "proxies": _decided(_LOCAL),
    "from_tf": _decided("weights are safetensors", only(False)),
    "revision": _decided("the preset pins the model's revision"),
    "output_loading_info": _decided("Kairay reports what it loads", flag),
    "low_cpu_mem_usage": _decided("always on", flag),
    "use_cache": _decided("the key-value cache is off in training", flag),
    "offload_folder": _decided("nothing is offloaded to disk"),
    "offload_state_dict": _decided("nothing is offloaded to disk", flag),
    "max_memory": _decided("the plan sizes memory"),
}

_QUANTIZATION: dict[str, Key] = {
    "load_in_4bit": _sets("load_in_4bit", flag),
    "load_in_8bit": _sets("load_in_8bit", flag),
    "bnb_4bit_quant_type": _passes(only("nf4", "fp4")),
    "bnb_4bit_use_double_quant": _passes(flag),
    "bnb_4bit_compute_dtype": _sets("compute_dtype", _DTYPE),
    "bnb_4bit_quant_storage": _passes(only("uint8", "int8", "bfloat16", "float16", "float32", "float64")),
    "llm_int8_threshold": _passes(number(0)),
    "llm_int8_skip_modules": _passes(names),
    "llm_int8_enable_fp32_cpu_offload": _passes(flag),
    "llm_int8_has_fp16_weight": _passes(flag),
    "quant_method": _decided("bitsandbytes quantises", only("bitsandbytes")),
}

_LORA: dict[str, Key] = {
    "r": _sets("rank", whole(1)),
    "lora_alpha": _sets("alpha", whole(1)),
    "lora_dropout": _sets("dropout", number(0, 0.99)),
    "target_modules": _sets("target_modules", names),
    "layers_to_transform": _passes(indexes),
    "layers_pattern": _passes(names),
    "bias": _passes(only("none", "all", "lora_only")),
    "modules_to_save": _passes(names),
    "init_lora_weights": _passes(anything),
    "exclude_modules": _passes(names),
    "use_rslora": _passes(flag),
    "use_dora": _passes(flag),
    "fan_in_fan_out": _passes(flag),
    "rank_pattern": _passes(mapping),
    "alpha_pattern": _passes(mapping),
    "lora_bias": _passes(flag),
    "task_type": _decided("presets are causal language models", only("CAUSAL_LM")),
    "peft_type": _decided("tuning.method says it", only("LORA")),
    "inference_mode": _decided("training", only(False)),
    "base_model_name_or_path": _decided("the preset's model id is written there"),
    "revision": _decided("the preset's revision is written there"),
}

_TRAINING: dict[str, Key] = {
    "num_train_epochs": _sets("epochs", number(0.001)),
    "max_steps": _sets("max_steps", whole(-1)),
    "learning_rate": _sets("learning_rate", number(0, 1)),
    "per_device_train_batch_size": _sets("micro_batch", whole(1)),
    "gradient_accumulation_steps": _sets("accumulation", whole(1)),
    "warmup_steps": _sets("warmup_steps", whole(0)),
    "warmup_ratio": _sets("warmup_ratio", number(0, 1)),
    "lr_scheduler_type": _sets("scheduler", only(*SCHEDULERS)),
    "max_length": _sets("sequence_length", whole(8)),
    "max_seq_length": _sets("sequence_length", whole(8)),
    "packing": _sets("packing", flag),
    "assistant_only_loss": _sets("assistant_only_loss", flag),
    "completion_only_loss": _sets("assistant_only_loss", flag),
    "gradient_checkpointing": _sets("gradient_checkpointing", flag),
    "save_steps": _sets("checkpoint_steps", number(0.001)),
    "save_strategy": _decided("checkpoints are always taken, so that a lost worker resumes", text),
    "seed": _sets("seed", whole(0)),
    "neftune_noise_alpha": _passes(number(0)),
    "lr_scheduler_kwargs": _passes(mapping),
    "weight_decay": _passes(number(0)),
    "max_grad_norm": _passes(number(0)),
    "adam_beta1": _passes(number(0, 1)),
    "adam_beta2": _passes(number(0, 1)),
    "adam_epsilon": _passes(number(0, 1)),
    "optim": _passes(only(*OPTIMIZERS)),
    "optim_args": _passes(text),
    "data_seed": _passes(whole(0)),
    "full_determinism": _passes(flag),
    "tf32": _passes(flag),
    "torch_empty_cache_steps": _passes(whole(1)),
    "ddp_timeout": _passes(whole(1)),
    "ddp_bucket_cap_mb": _passes(whole(1)),
    "gradient_checkpointing_kwargs": _passes(mapping),
    "label_smoothing_factor": _decided("the loss is the plain negative log-likelihood", only(0)),
    "loss_type": _decided("the loss is the plain negative log-likelihood", only("nll")),
    "output_dir": _decided("checkpoints go to the run's storage", _output_dir),
    "overwrite_output_dir": _decided("a finished revision is never tuned again", flag),
    "ddp_find_unused_parameters": _decided("every LoRA parameter takes part in each step", flag),
    "bf16": _decided(_DEVICE, flag),
    "fp16": _decided(_DEVICE, flag),
    "use_cpu": _decided(_DEVICE, flag),
    "no_cuda": _decided(_DEVICE, flag),
    "deepspeed": _decided("the plan decides; ask with deepspeed: zero2 in the job's own config"),
    "fsdp": _decided("each worker holds the whole quantised model", only("", False)),
    "logging_steps": _decided(_REPORTS, number(0)),
    "logging_strategy": _decided(_REPORTS),
    "logging_first_step": _decided(_REPORTS, flag),
    "logging_dir": _decided(_REPORTS),
    "logging_nan_inf_filter": _decided(_REPORTS, flag),
    "log_level": _decided(_REPORTS),
    "disable_tqdm": _decided(_REPORTS, flag),
    "report_to": _decided(_REPORTS),
    "run_name": _decided("the run is named after the Workspace"),
    "include_num_input_tokens_seen": _decided(_REPORTS),
    "include_tokens_per_second": _decided(_REPORTS, flag),
    "save_total_limit": _decided("the last two checkpoints are kept", whole(1)),
    "save_safetensors": _decided("always", flag),
    "save_only_model": _decided("optimizer state is kept for resuming", flag),
    "save_on_each_node": _decided("the first worker saves", flag),
    "load_best_model_at_end": _decided(_NO_EVALUATION, only(False)),
    "metric_for_best_model": _decided(_NO_EVALUATION),
    "greater_is_better": _decided(_NO_EVALUATION),
    "do_train": _decided("this job trains", only(True)),
    "do_eval": _decided(_NO_EVALUATION, flag),
    "do_predict": _decided(_NO_EVALUATION, only(False)),
    "eval_strategy": _decided(_NO_EVALUATION),
    "evaluation_strategy": _decided(_NO_EVALUATION),
    "eval_steps": _decided(_NO_EVALUATION),
    "eval_packing": _decided(_NO_EVALUATION),
    "eval_on_start": _decided(_NO_EVALUATION, flag),
    "per_device_eval_batch_size": _decided(_NO_EVALUATION),
    "resume_from_checkpoint": _decided("a run resumes by itself"),
    "push_to_hub": _decided(_NO_UPLOAD, only(False)),
    "hub_model_id": _decided(_NO_UPLOAD),
    "hub_strategy": _decided(_NO_UPLOAD),
    "hub_private_repo": _decided(_NO_UPLOAD),
    "dataloader_num_workers": _decided(_DATA),
    "dataloader_pin_memory": _decided(_DATA, flag),
    "dataloader_drop_last": _decided(_DATA, flag),
    "dataloader_prefetch_factor": _decided(_DATA),
    "dataloader_persistent_workers": _decided(_DATA, flag),
    "dataset_num_proc": _decided(_DATA),
    "dataset_text_field": _decided(_DATA),
    "dataset_batch_size": _decided(_DATA),
    "dataset_kwargs": _decided(_DATA),
    "remove_unused_columns": _decided(_DATA, flag),
    "group_by_length": _decided(_DATA, flag),
    "train_sampling_strategy": _decided(_DATA),
    "length_column_name": _decided(_DATA),
    "packing_strategy": _decided("rows are packed whole, best fit first"),
    "padding_free": _decided("packed rows carry no padding", flag),
    "pad_to_multiple_of": _decided("packed rows carry no padding"),
    "pad_token": _decided("packed rows carry no padding"),
    "eos_token": _decided("the tokenizer's is used"),
    "truncation_mode": _decided("a row that is too long is refused or cut at its end", only("keep_start")),
    "chat_template_path": _decided("use ModelConfig.chat_template"),
    "model_init_kwargs": _decided("use ModelConfig"),
    "auto_find_batch_size": _decided("the plan sizes the batch", flag),
    "torch_compile": _decided("not used: short runs lose more than they win", only(False)),
    "use_liger_kernel": _decided("the trainer's own fused loss is used", only(False)),
    "activation_offloading": _decided("the plan sizes memory", only(False)),
    "average_tokens_across_devices": _decided("always", flag),
}

_DATASET: dict[str, Key] = {
    "shuffle_dataset": _sets("shuffle", flag),
    "shuffle_seed": _sets("shuffle_seed", whole(0)),
    "train_test_split": _sets("train_share", number(0.01, 1)),
    "dataset_path": _decided("data comes from tuning.input"),
    "dataset_extension": _decided("formats are recognised by content"),
    "context_column": _sets("columns.context", text),
    "instruction_column": _sets("columns.instruction", text),
    "response_column": _sets("columns.response", text),
    "messages_column": _sets("columns.messages", text),
}

_COLLATOR: dict[str, Key] = {
    "mlm": _decided("the presets are causal models", flag),
    "mlm_probability": _decided("the presets are causal models", number(0, 1)),
    "pad_to_multiple_of": _decided("packed rows carry no padding"),
    "return_tensors": _decided("PyTorch", only("pt")),
    "tf_experimental_compile": _decided("PyTorch", only(False)),
}

SECTIONS: dict[str, dict[str, Key]] = {
    "ModelConfig": _MODEL,
    "QuantizationConfig": _QUANTIZATION,
    "LoraConfig": _LORA,
    "TrainingArguments": _TRAINING,
    "DatasetConfig": _DATASET,
    "DataCollator": _COLLATOR,
}
