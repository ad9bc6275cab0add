"""The base model: from a folder into memory, with what it says about ending and drawing its answers.

Nothing is fetched from a hub and no code from a model folder is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no model that transformers can read: {first_line(error)}"
        ) from error
    model.requires_grad_(False)  # from_pretrained leaves it in eval mode
    return LoadedModel(
        name=name,
        parent=None,
        model=model,
        tokenizer=tokenizer,
        eos_token_ids=eos_token_ids(model.generation_config, tokenizer),
        defaults=_defaults(model.generation_config),
    )


def eos_token_ids(generation: GenerationConfig, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a turn, by the model's settings or its tokenizer's."""
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


def first_line(error: BaseException) -> str:
    """What a library's error says first."""
    return str(error).strip().split("\n", 1)[0]
