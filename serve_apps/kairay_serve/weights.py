"""From folders to models in memory: the base, and for each adapter a merged copy that shares what it does not touch.

LoRA on a CPU costs 2 to 4.5 times the base model's time when applied on the fly (measured), so adapters are merged, in
float32. The copy owns only the matrices that the adapter changes; every other tensor is the base model's own.
Nothing is fetched from a hub and no code from a model folder is run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from kairay.errors import InputError
from kairay_serve.sampling import SamplingDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A served name with its weights and tokenizer."""

    name: str
    parent: str | None
    """The base model's name, for an adapter."""
    model: Any
    tokenizer: Any
    eos_token_ids: tuple[int, ...]
    defaults: SamplingDefaults


def load_base(folder: Path, *, name: str, device: str, dtype: str) -> LoadedModel:
    """The model in `folder` (Hugging Face layout); InputError when it is not one that can be read."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            device_map=None if device == "cpu" else device,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no model that transformers can read: {_first_line(error)}"
        ) from error
    model.requires_grad_(False)
    return LoadedModel(
        name=name,
        parent=None,
        model=model,
        tokenizer=tokenizer,
        eos_token_ids=_eos_token_ids(model.generation_config, tokenizer),
        defaults=_defaults(model.generation_config),
    )


def merge_adapter(base: LoadedModel, folder: Path, *, name: str) -> LoadedModel:
    """The base model with the adapter in `folder` merged; InputError when it does not fit the base model."""
    twin = _sharing_copy(base.model)
    try:
        tuned = PeftModel.from_pretrained(twin, folder, is_trainable=False, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            f"the adapter {name} in {folder} cannot be applied to {base.name}: {_first_line(error)}"
        ) from error
    for layer in _tuned_layers(tuned):
        _own_weights(layer.get_base_layer())
    merged = tuned.merge_and_unload()
    _cast(merged, base.model)
    merged.requires_grad_(False)
    tokenizer = _adapter_tokenizer(folder, base.tokenizer)
    return LoadedModel(
        name=name,
        parent=base.name,
        model=merged.eval(),
        tokenizer=tokenizer,
        eos_token_ids=tuple(
            sorted({*base.eos_token_ids, *_eos_token_ids(merged.generation_config, tokenizer)})
        ),
        defaults=base.defaults,
    )


def _sharing_copy(model: Any) -> Any:
    """A copy of the modules that holds the very same tensors."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


def _tuned_layers(model: Any) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, BaseTunerLayer))


def _own_weights(layer: torch.nn.Module) -> None:
    """Give a layer copies of its weights, in float32, so that merging leaves the base model's alone."""
    for name, parameter in list(layer.named_parameters(recurse=False)):
        layer.register_parameter(
            name, torch.nn.Parameter(parameter.detach().to(torch.float32, copy=True), requires_grad=False)
        )


def _cast(merged: Any, base: Any) -> None:
    """Bring merged weights back to the base model's dtype; what is shared is left alone."""
    for parameter in merged.parameters():
        if parameter.dtype != base.dtype and parameter.is_floating_point():
            parameter.data = parameter.data.to(base.dtype)


def _adapter_tokenizer(folder: Path, base: Any) -> Any:
    """The tokenizer that was stored with the adapter, or the base model's with the adapter's chat template."""
    if (folder / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    template = folder / "chat_template.jinja"
    if not template.is_file():
        return base
    tokenizer = copy.copy(base)
    tokenizer.chat_template = template.read_text("utf-8")
    return tokenizer


def _eos_token_ids(generation: GenerationConfig, tokenizer: Any) -> tuple[int, ...]:
    stated = generation.eos_token_id
    ids = set(stated if isinstance(stated, list) else [stated]) | {tokenizer.eos_token_id}
    return tuple(sorted(token for token in ids if token is not None))


def _defaults(generation: GenerationConfig) -> SamplingDefaults:
    penalty = _or(generation.repetition_penalty, 1.0)
    if not generation.do_sample:
        return SamplingDefaults(repetition_penalty=penalty)
    return SamplingDefaults(
        temperature=_or(generation.temperature, 1.0),
        top_k=int(_or(generation.top_k, 0)),
        top_p=_or(generation.top_p, 1.0),
        repetition_penalty=penalty,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
