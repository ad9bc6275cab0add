"""The settings of one run, resolved: the preset's defaults, then the job's own fields, then KAITO's sections.

Pure: nothing here looks at a file, a device or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kairay.errors import InputError
from kairay.presets import Preset, TuningMethod
from kairay.training_config import quantised_bits, read_sections
from kairay_train.config import DataType, Device, TuneConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the trainer is told; lengths in tokens, batches in packed rows."""

    method: TuningMethod
    bits: int | None
    """4 or 8 for a quantised base model, None for a plain one."""
    dtype: DataType
    compute_dtype: DataType
    epochs: float
    max_steps: int
    """Optimiser steps; -1: as many as the epochs need."""
    learning_rate: float
    rank: int
    alpha: int
    dropout: float
    layers: int | None
    """Only the last n layers get LoRA; None: all, or as `lora.layers_to_transform` says."""
    target_modules: tuple[str, ...] | str
    sequence_length: int
    micro_batch: int
    accumulation: int
    packing: bool
    warmup_steps: int
    warmup_ratio: float
    scheduler: str
    assistant_only_loss: bool
    gradient_checkpointing: bool
    checkpoint_steps: int | None
    checkpoint_share: float | None
    """Checkpoint interval as a share of the run, when `save_steps` was below 1."""
    seed: int
    shuffle: bool
    shuffle_seed: int
    train_share: float
    """Share of the rows that is trained on; the rest is left out."""
    trust_remote_code: bool
    chat_template: str | None
    columns: Mapping[str, str]
    """Columns of the data that the person named, by the part they play."""
    attention: str | None
    lora: Mapping[str, object] = field(default_factory=dict)
    """peft's LoraConfig arguments, passed on."""
    quantization: Mapping[str, object] = field(default_factory=dict)
    """bitsandbytes arguments, passed on."""
    trainer: Mapping[str, object] = field(default_factory=dict)
    """TrainingArguments, passed on."""
    notes: tuple[str, ...] = ()


def resolve(config: TuneConfig, preset: Preset) -> Settings:
    """Settings of this run; InputError for a preset that cannot be tuned so, or sections that contradict."""
    if preset.tuning is None:
        raise InputError(f"preset {preset.name} cannot be tuned; `kairay presets` shows which can")
    if config.method not in preset.tuning.methods:
        known = " or ".join(preset.tuning.methods)
        raise InputError(f"preset {preset.name} cannot be tuned with {config.method}; use {known}")
    sections = read_sections(config.parameters, config.method)
    merged = {**_defaults(config, preset), **sections.settings}
    notes = list(sections.notes)
    merged["bits"] = quantised_bits(sections, config.method)
    for name in ("load_in_4bit", "load_in_8bit"):
        merged.pop(name, None)
    merged["dtype"] = _dtype(config, merged.get("dtype"), notes)
    merged["compute_dtype"] = _dtype(config, merged.get("compute_dtype"), notes)
    if "layers_to_transform" in sections.lora:
        merged["layers"] = None
    _split_checkpoint_steps(merged)
    columns = {name.removeprefix("columns."): merged.pop(name) for name in [*merged] if "." in name}
    return Settings(
        method=config.method,
        columns=columns,  # type: ignore[arg-type]
        lora=sections.lora,
        quantization=sections.quantization,
        trainer=sections.trainer,
        notes=tuple(dict.fromkeys(notes)),
        **merged,  # type: ignore[arg-type]  # the readers of training_keys gave each its type
    )


def steps_per_epoch(packs: int, workers: int, settings: Settings) -> int:
    """Optimiser steps in one pass over the packs; each worker takes its share, rounded up."""
    return max(1, math.ceil(packs / (workers * settings.micro_batch * settings.accumulation)))


def total_steps(packs: int, workers: int, settings: Settings) -> int:
    """Optimiser steps of the whole run."""
    if settings.max_steps > 0:
        return settings.max_steps
    return max(1, math.ceil(settings.epochs * steps_per_epoch(packs, workers, settings)))


def _defaults(config: TuneConfig, preset: Preset) -> dict[str, object]:
    assert preset.tuning is not None
    tuning = preset.tuning.defaults
    length = config.sequence_length or tuning.sequence_length
    per_worker = max(1, tuning.batch_tokens // (config.workers * length))
    micro_batch = config.micro_batch or per_worker
    return {
        "epochs": float(tuning.epochs),
        "max_steps": -1,
        "learning_rate": tuning.learning_rate,
        "rank": tuning.rank,
        "alpha": tuning.alpha,
        "dropout": tuning.dropout,
        "layers": tuning.layers,
        "target_modules": preset.tuning.target_modules,
        "sequence_length": length,
        "micro_batch": micro_batch,
        "accumulation": config.accumulation or max(1, per_worker // micro_batch),
        "packing": config.packing,
        "warmup_steps": tuning.warmup_steps,
        "warmup_ratio": 0.0,
        "scheduler": str(tuning.scheduler),
        "assistant_only_loss": True,
        "gradient_checkpointing": config.device is Device.CUDA,
        "checkpoint_steps": config.checkpoint_steps,
        "seed": 42,
        "shuffle": True,
        "shuffle_seed": 42,
        "train_share": 1.0,
        "trust_remote_code": False,
        "chat_template": None,
        "attention": None,
    }


def _dtype(config: TuneConfig, asked: object, notes: list[str]) -> DataType:
    if asked is None or asked == "auto":
        return config.dtype
    wanted = DataType(str(asked).removeprefix("torch."))
    has_units = config.device is Device.CUDA and not (
        wanted is DataType.BFLOAT16 and config.dtype is DataType.FLOAT16  # a T4
    )
    if wanted in (config.dtype, DataType.FLOAT32) or has_units:
        return wanted
    notes.append(f"the machine computes in {config.dtype}, so {wanted} was not used")
    return config.dtype


def _split_checkpoint_steps(merged: dict[str, object]) -> None:
    """`save_steps` below 1 is a share of the run, as in transformers."""
    asked = merged["checkpoint_steps"]
    merged["checkpoint_share"] = None
    if isinstance(asked, float) and asked < 1:
        merged["checkpoint_steps"], merged["checkpoint_share"] = None, asked
    elif asked is not None:
        assert isinstance(asked, (int, float))
        merged["checkpoint_steps"] = int(asked)
