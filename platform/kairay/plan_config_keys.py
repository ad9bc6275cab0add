"""The keys of a user's own config that change a plan, each with its reader.

Of KAITO's training sections, whose values are read by kairay.training_keys, for the plan and the job alike; of vLLM's
options those that its memory depends on (vllm.engine.arg_utils, vllm.config.cache).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kairay.memory import Dtype, Optimizer
from kairay.values import Reader, anything, not_among, number, only


def _never(_value: Any) -> bool:
    return False


def _always(_value: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What happens to one key."""

    wish: str | None
    """The field of the wishes that it sets; None: it changes the memory in a way that is not counted."""
    read: Reader = anything
    """Of a training key what makes the wish of the value that was read."""
    costs: Callable[[Any], bool] = _never
    """Whether this value takes more memory than the preset's own may."""


OPTIMIZERS: Final[Mapping[str | None, Optimizer]] = {
    "adamw_torch": Optimizer.ADAMW,
    "adamw_torch_fused": Optimizer.ADAMW,
    "adamw_8bit": Optimizer.ADAMW_8BIT,
    "adamw_bnb_8bit": Optimizer.ADAMW_8BIT,
    "paged_adamw_32bit": Optimizer.PAGED_ADAMW,
    "paged_adamw_8bit": Optimizer.PAGED_ADAMW_8BIT,
    "sgd": Optimizer.SGD,
}
"""By transformers' names; others count as AdamW."""

KV_WORDS: Final[Mapping[str | None, Dtype | None]] = {
    "auto": None,
    "float16": Dtype.FLOAT16,
    "bfloat16": Dtype.BFLOAT16,
    "fp8": Dtype.FLOAT8,
    "fp8_e4m3": Dtype.FLOAT8,
    "fp8_e5m2": Dtype.FLOAT8,
    "fp8_inc": Dtype.FLOAT8,
}
"""vLLM's words for the KV cache's number format that are counted."""
_OTHER_KV_WORDS = (
    "fp8_ds_mla", "nvfp4_ds_mla", "turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc",
    "int4_per_token_head", "int8_per_token_head", "fp8_per_token_head", "nvfp4", "nvfp4_4over6",
)  # fmt: skip

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_DIGITS = re.compile("[0-9]{1,18}")
_HUMAN = re.compile(r"([0-9]{1,18})([kmgKMG]?)|([0-9]{1,9}\.[0-9]{1,9})([kmg])")
_VLLM_DTYPES: Mapping[str, Dtype | None] = {
    "auto": None,
    "half": Dtype.FLOAT16,
    "float16": Dtype.FLOAT16,
    "bfloat16": Dtype.BFLOAT16,
    "float": Dtype.FLOAT32,
    "float32": Dtype.FLOAT32,
}


def _plain(low: int) -> Reader:
    """A whole number as vLLM's parser takes it: digits."""

    def read(value: object) -> int:
        digits = "" if isinstance(value, bool) else str(value).strip()
        if not _DIGITS.fullmatch(digits) or int(digits) < low:
            raise ValueError(f"{value!r}; a whole number of at least {low} is needed")
        return int(digits)

    return read


def _human(value: object) -> int:
    """A whole number, also as vLLM shortens it: 16k is 16,000 and 16K is 16,384."""
    found = None if isinstance(value, bool) else _HUMAN.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r}; a whole number such as 16384, 16K or 16k is needed")
    digits, unit = found[1] or found[3], found[2] if found[1] else found[4]
    read = int(float(digits) * _SUFFIXES[unit]) if found[3] else int(digits) * _SUFFIXES[unit]
    if read < 1:
        raise ValueError(f"{value!r}; at least 1 is needed")
    return read


def _length(value: object) -> int | None:
    """None: the longest that fits (`auto` or -1)."""
    return None if str(value).strip() in ("auto", "-1") else _human(value)


def _part(value: object) -> float:
    read = number(0, 1)(value)
    if not read:
        raise ValueError(f"{value!r}; it must be above 0, and 1 at most")
    assert isinstance(read, float)
    return read


def _switch(value: object) -> bool:
    """vLLM has switches, so text is none."""
    if value is True or value is False:
        return value
    raise ValueError(f"{value!r}; true or false is needed")


def _word(known: Mapping[str, Any]) -> Reader:
    def read(value: object) -> object:
        if not isinstance(value, str) or value not in known:
            raise ValueError(not_among(value, known))
        return known[value]

    return read


def _training_dtype(value: object) -> Dtype | None:
    read = str(value).removeprefix("torch.")
    return None if read == "auto" else Dtype(read)


def _whole_modules(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _some(value: Any) -> Any:
    """None for an empty list, which peft takes for all."""
    return value or None


def _in_float32(dtype: Any) -> bool:
    return dtype is Dtype.FLOAT32


_BITS = {"load_in_8bit": Key(wish="eight_bits", costs=bool)}

TRAINING: Final[Mapping[str, Mapping[str, Key]]] = {
    "ModelConfig": _BITS
    | {
        "torch_dtype": Key(wish="dtype", read=_training_dtype, costs=_in_float32),
        "dtype": Key(wish="dtype", read=_training_dtype, costs=_in_float32),
        "attn_implementation": Key(wish=None, costs=lambda word: word == "eager"),
    },
    "QuantizationConfig": _BITS
    | {
        "bnb_4bit_compute_dtype": Key(wish="compute_dtype", read=_training_dtype, costs=_in_float32),
        "bnb_4bit_use_double_quant": Key(wish="double_quantised", costs=lambda on: not on),
    },
    "LoraConfig": {
        "r": Key(wish="rank", costs=_always),
        "lora_dropout": Key(wish="dropout"),
        "target_modules": Key(wish="target_modules", costs=lambda named: isinstance(named, str)),
        "layers_to_transform": Key(wish="layers", read=_some),
        "modules_to_save": Key(wish="saved_modules", read=_whole_modules, costs=bool),
        "rank_pattern": Key(wish=None, costs=bool),
        "use_dora": Key(wish=None, costs=bool),
    },
    "TrainingArguments": {
        "per_device_train_batch_size": Key(wish="micro_batch", costs=_always),
        "gradient_accumulation_steps": Key(wish="accumulation"),
        "max_length": Key(wish="sequence_length", costs=_always),
        "max_seq_length": Key(wish="sequence_length", costs=_always),
        "packing": Key(wish="packing"),
        "gradient_checkpointing": Key(wish="checkpointing", costs=lambda on: not on),
        "optim": Key(wish="optim"),
        "num_train_epochs": Key(wish="epochs"),
        "max_steps": Key(wish="max_steps"),
    },
    "DatasetConfig": {"train_test_split": Key(wish="train_share")},
}
"""By section and key."""

_UNCOUNTED = ("quantization", "cpu-offload-gb", "speculative-config", "enable-lora", "max-lora-rank")
_COUNTED_AS_ONE = ("data-parallel-size", "decode-context-parallel-size", "max-loras")

SERVING: Final[Mapping[str, Key]] = {
    "max-model-len": Key(wish="context_length", read=_length, costs=_always),
    "dtype": Key(wish="dtype", read=_word(_VLLM_DTYPES), costs=_in_float32),
    "kv-cache-dtype": Key(wish="kv_word", read=only(*KV_WORDS, *_OTHER_KV_WORDS)),
    "kv-cache-memory-bytes": Key(wish="kv_cache_bytes", read=_human, costs=_always),
    "gpu-memory-utilization": Key(wish="utilisation", read=_part, costs=_always),
    "tensor-parallel-size": Key(wish="tensor_parallel", read=_plain(1), costs=_always),
    "pipeline-parallel-size": Key(wish="pipeline_parallel", read=_plain(1), costs=_always),
    "max-num-seqs": Key(wish="max_requests", read=_plain(1), costs=_always),
    "max-num-batched-tokens": Key(wish="batch_tokens", read=_human, costs=_always),
    "enforce-eager": Key(wish="eager", read=_switch),
    **dict.fromkeys(("hf-overrides", "rope-scaling"), Key(wish="stretched", read=bool)),
    **dict.fromkeys(_UNCOUNTED, Key(wish=None, read=anything, costs=bool)),
    **dict.fromkeys(
        _COUNTED_AS_ONE, Key(wish=None, read=anything, costs=lambda count: count not in (1, "1"))
    ),
}
"""vLLM's options, by name."""

HEAVIEST: Final = (
    "micro_batch", "sequence_length", "checkpointing", "dtype", "compute_dtype", "saved_modules", "eight_bits", "rank",
    "target_modules", "double_quantised", "context_length", "kv_cache_bytes", "tensor_parallel", "pipeline_parallel",
    "utilisation", "batch_tokens", "max_requests",
)  # fmt: skip
"""Wishes that may cost memory, those first that usually cost most."""
