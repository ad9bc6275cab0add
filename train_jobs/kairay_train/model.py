"""The base model of a run and its LoRA layers.

On a CPU the NF4 weights of small models are turned back into numbers once, after quantisation, instead of at
every matrix product (they are frozen): the values are the same NF4-rounded ones bit for bit, only the storage
differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from kairay_train.batches import ROWS_ATTENTION, supports
from kairay_train.config import DataType, Device
from kairay_train.settings import Settings

DEQUANTISED_LIMIT = 2 * 2**30
"""Bytes of weights that are held as plain numbers on a CPU; more stay packed in 4 bits."""


def load_base(folder: Path, settings: Settings, device: Device, *, local_rank: int = 0) -> PreTrainedModel:
    """The frozen base model on this worker's device, quantised as the settings say."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    place = f"cuda:{local_rank}" if device is Device.CUDA else "cpu"
    attention = settings.attention
    if attention is None and device is Device.CPU and settings.packing and supports(config):
        attention = ROWS_ATTENTION
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=torch_dtype(settings.dtype),
        device_map={"": place},
        quantization_config=_quantization(settings),
        trust_remote_code=settings.trust_remote_code,
        local_files_only=True,
        **({} if attention is None else {"attn_implementation": attention}),
    )
    model.config.use_cache = False
    model.requires_grad_(False)
    return model


def lora_config(settings: Settings, layers: int) -> LoraConfig:
    """peft's configuration for a model with this many layers."""
    passed: dict[str, Any] = dict(settings.lora)
    by_name = isinstance(settings.target_modules, tuple)  # peft takes no layers beside a pattern
    if by_name and settings.layers is not None and settings.layers < layers:
        passed["layers_to_transform"] = list(range(layers - settings.layers, layers))
    targets = settings.target_modules
    for name in ("layers_to_transform", "modules_to_save", "exclude_modules", "layers_pattern"):
        if isinstance(passed.get(name), tuple):
            passed[name] = list(passed[name])
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets) if isinstance(targets, tuple) else targets,
        task_type="CAUSAL_LM",
        **passed,
    )


def first_tuned_layer(config: LoraConfig, layers: int) -> int:
    """The lowest layer that gets LoRA: nothing below it changes in the run. 0 when that cannot be told."""
    chosen = config.layers_to_transform
    if isinstance(chosen, int):
        chosen = [chosen]
    if not chosen or config.modules_to_save or config.bias == "all":
        return 0
    return min(int(layer) for layer in chosen) if max(chosen) < layers else 0


def dequantise(module: nn.Module, dtype: DataType) -> int:
    """Replace this module's 4-bit linear layers by plain frozen ones of the same values; how many bytes they
    take.

    Does nothing (0) when they would take more than DEQUANTISED_LIMIT.
    """
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, Linear4bit)]
    to = torch_dtype(dtype)
    size = sum(layer.in_features * layer.out_features for _, layer in found) * to.itemsize
    if size > DEQUANTISED_LIMIT:
        return 0
    for name, layer in found:
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(to)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        plain.bias = layer.bias
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, plain)
    return size if found else 0


def torch_dtype(dtype: DataType) -> torch.dtype:
    """torch's name for a number type."""
    found = getattr(torch, dtype)
    assert isinstance(found, torch.dtype)
    return found


def _quantization(settings: Settings) -> BitsAndBytesConfig | None:
    if settings.bits is None:
        return None
    passed: dict[str, Any] = dict(settings.quantization)
    if isinstance(passed.get("llm_int8_skip_modules"), tuple):
        passed["llm_int8_skip_modules"] = list(passed["llm_int8_skip_modules"])
    if settings.bits == 8:
        passed = {name: value for name, value in passed.items() if not name.startswith("bnb_4bit")}
        return BitsAndBytesConfig(load_in_8bit=True, **passed)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=torch_dtype(settings.compute_dtype),
        **{"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, **passed},
    )
