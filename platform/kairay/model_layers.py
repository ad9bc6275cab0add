"""What the layers of a model are, read from its config.json: which attend, to what, which keep a state, which route.

Families say it in their own ways: a list of kinds, a pattern of letters, a period, a window for all. A kind that is not
known here counts as full attention, so that an estimate errs upwards. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Config = Mapping[str, Any]


class LayerKind(StrEnum):
    """What one layer does with a sequence."""

    FULL = "full"
    SLIDING = "sliding"
    STATE = "state"
    EXPERTS = "experts"
    MLP = "mlp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Counts of a model's layers, each None where `ModelFacts` leaves it out."""

    attention: int | None
    sliding: int | None
    window: int | None
    """Tokens."""
    state_elements: int | None
    moe: int | None


_KINDS: Final = {
    "full_attention": LayerKind.FULL, "attention": LayerKind.FULL, "*": LayerKind.FULL,
    "sliding_attention": LayerKind.SLIDING, "chunked_attention": LayerKind.SLIDING,
    "linear_attention": LayerKind.STATE, "mamba": LayerKind.STATE, "mamba2": LayerKind.STATE,
    "recurrent": LayerKind.STATE, "conv": LayerKind.STATE, "M": LayerKind.STATE,
    "moe": LayerKind.EXPERTS, "E": LayerKind.EXPERTS, "mlp": LayerKind.MLP, "-": LayerKind.MLP,
}  # fmt: skip
_FULL_EVERY: Final = {
    "gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma4": 6, "gemma4_text": 6, "gpt_oss": 2, "cohere2": 4,
}  # fmt: skip
"""model_type -> every how manieth layer attends in full, where the config leaves it to the family's default."""
_HYBRID_EVERY: Final = {"qwen3_next": 4, "qwen3_5_text": 4, "qwen3_5_moe_text": 4}
"""The same for families whose other layers keep a state instead of a cache."""

_DELTA: Final = (
    "linear_num_value_heads", "linear_num_key_heads", "linear_value_head_dim", "linear_key_head_dim",
    "linear_conv_kernel_dim",
)  # fmt: skip
_MOST: Final = 10**9
"""Of what is multiplied: a text times a number would be a long text."""


def read_layers(config: Config, count: int, *, has_experts: bool) -> Layers:
    """Counts among the `count` layers of a language model's config."""
    kinds = _kinds(config, count)
    window = (
        _whole("sliding_window", config.get("sliding_window"))
        if config.get("use_sliding_window", True)
        else None
    )
    if kinds is None and window:
        kinds = _windowed(config, count)
    caching = [kind for kind in _own_caches(config, kinds or [LayerKind.FULL] * count) if _attends(kind)]
    sliding = caching.count(LayerKind.SLIDING)
    states = (kinds or []).count(LayerKind.STATE)
    return Layers(
        attention=len(caching) if len(caching) != count else None,
        sliding=sliding if window and sliding else None,
        window=window if window and sliding else None,
        state_elements=(states * per_layer) if states and (per_layer := _state_elements(config)) else None,
        moe=_moe_layers(config, count, kinds) if has_experts else None,
    )


def keeps_state(config: Config, count: int) -> bool:
    """Some layers keep a state of fixed size instead of a cache."""
    return LayerKind.STATE in (_kinds(config, count) or ())


def _attends(kind: LayerKind) -> bool:
    return kind in (LayerKind.FULL, LayerKind.SLIDING)


def _kinds(config: Config, count: int) -> list[LayerKind] | None:
    """The kind of each layer, where the config says more than a window."""
    words: Sequence[str] | None = config.get("layer_types") or config.get("layers_block_type")
    if words or (words := config.get("hybrid_override_pattern")):
        return [_KINDS.get(str(word), LayerKind.FULL) for word in words][:count]
    if (ratios := config.get("compress_ratios")) is not None:  # DeepSeek V4: 0 is a window and nothing else
        return [LayerKind.FULL if ratio else LayerKind.SLIDING for ratio in ratios[:count]]
    every = config.get("full_attention_interval") or _HYBRID_EVERY.get(config.get("model_type", ""))
    if every:
        return [LayerKind.STATE if (n + 1) % every else LayerKind.FULL for n in range(count)]
    if period := config.get("attn_layer_period"):  # Jamba
        offset = config.get("attn_layer_offset", 0)
        return [LayerKind.FULL if n % period == offset else LayerKind.STATE for n in range(count)]
    return None


def _windowed(config: Config, count: int) -> list[LayerKind]:
    """Sliding layers with a full one at intervals, or sliding ones only."""
    every = config.get("sliding_window_pattern") or _FULL_EVERY.get(config.get("model_type", ""))
    if not isinstance(every, int):
        return [LayerKind.SLIDING] * count
    return [LayerKind.SLIDING if (n + 1) % every else LayerKind.FULL for n in range(count)]


def _own_caches(config: Config, kinds: list[LayerKind]) -> list[LayerKind]:
    """Without the last layers that look into the cache of earlier ones (Gemma 3n and 4)."""
    return kinds[: len(kinds) - int(config.get("num_kv_shared_layers") or 0)]


def _moe_layers(config: Config, count: int, kinds: list[LayerKind] | None) -> int | None:
    """Layers with experts; None: all of them."""
    if words := config.get("mlp_layer_types"):
        found = sum(word not in ("dense", "mlp") for word in words[:count])
    elif kinds and LayerKind.EXPERTS in kinds:
        found = kinds.count(LayerKind.EXPERTS)
    elif isinstance(every := config.get("moe_layer_freq"), list):
        found = sum(map(bool, every[:count]))
    else:
        first = int(config.get("first_k_dense_replace") or 0)
        step = int(config.get("decoder_sparse_step") or config.get("interleave_moe_layer_step") or 1)
        dense = set(config.get("mlp_only_layers") or ())
        found = sum(n >= first and (n + 1) % step == 0 and n not in dense for n in range(count))
    return found if found != count else None


def _state_elements(config: Config) -> int | None:
    """What one layer with a state keeps of a sequence: its state and the inputs that its convolution still needs.

    Mamba-2: heads × width × state, and (heads × width + 2 × groups × state) × (kernel - 1). Gated delta net: value
    heads × value width × key width, and (2 × all keys + all values) × (kernel - 1).
    """
    if config.get("linear_num_value_heads"):
        values, keys, value_width, key_width, kernel = (_whole(name, config[name]) or 0 for name in _DELTA)
        inputs = 2 * keys * key_width + values * value_width
        return values * value_width * key_width + inputs * (kernel - 1)
    heads, width, state, groups, taps = (
        next((_whole(name, config[name]) for name in names if name in config), None)
        for names in (
            ("mamba_num_heads", "mamba_n_heads"), ("mamba_head_dim", "mamba_d_head"),
            ("ssm_state_size", "mamba_d_state"), ("n_groups", "mamba_n_groups"), ("conv_kernel", "mamba_d_conv"),
        )
    )  # fmt: skip
    if not (heads and width and state and groups and taps):
        return None
    inner = heads * width
    return inner * state + (inner + 2 * groups * state) * (taps - 1)


def _whole(name: str, value: object) -> int | None:
    """None for null; ValueError for what is no number to reckon with."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise ValueError(f"{name} is {repr(value)[:80]}; a whole number is expected")
    return value
