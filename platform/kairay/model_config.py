"""A model's facts from the config.json that is published with it and the sizes of its weight files.

Pure: whoever reads the files is in `registry`. What a config leaves out and no family's definition settles stays None;
what every model must have and this config lacks is an InputError that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kairay.errors import InputError
from kairay.model_facts import REDISTRIBUTABLE, ModelFacts, Quantisation
from kairay.model_layers import Config, keeps_state, read_layers

_NESTED: Final = ("text_config", "llm_config", "language_config")
"""Where models that see or hear keep the config of their language model."""
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers")
_WIDTH: Final = ("hidden_size", "n_embd", "d_model")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS: Final = ("num_key_value_heads", "n_head_kv", "n_kv_heads")
_HEAD_WIDTH: Final = ("head_dim", "attention_head_dim")
_CONTEXT: Final = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len")
_EXPERTS: Final = ("n_routed_experts", "num_local_experts", "num_experts")
_CHOSEN: Final = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts")
_SHARED: Final = ("n_shared_experts", "num_shared_experts")
_MOST: Final = 10**9
"""Of any count. Larger ones are a mistake or mean harm: some are counted up to, some multiplied."""
_MOST_LAYERS: Final = 10_000
_LONGEST_NAME: Final = 200
_NO_LICENCE: Final = "unknown"
_DTYPES: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_METHODS: Final[Mapping[tuple[Any, Any], Quantisation]] = {
    ("fp8", None): Quantisation.FP8, ("fbgemm_fp8", None): Quantisation.FP8, ("mxfp4", None): Quantisation.MXFP4,
    ("awq", 4): Quantisation.AWQ4, ("gptq", 4): Quantisation.GPTQ4, ("gptq", 8): Quantisation.GPTQ8,
    ("float-quantized", None): Quantisation.FP8, ("naive-quantized", None): Quantisation.FP8,
    ("pack-quantized", None): Quantisation.INT4, ("int-quantized", None): Quantisation.INT8,
    ("nvfp4-pack-quantized", None): Quantisation.NVFP4, ("mxfp4-pack-quantized", None): Quantisation.MXFP4,
    ("NVFP4", None): Quantisation.NVFP4, ("FP8", None): Quantisation.FP8,
}  # fmt: skip
"""quant_method, compressed-tensors' format or modelopt's quant_algo, and bits where they differ -> ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is known of a model besides its config."""

    id: str
    """Hub id, or what the model was asked for by."""
    weight_bytes: int
    """Bytes of all weight files."""
    formats: Mapping[str, int] = field(default_factory=dict)
    """Bytes of tensors by safetensors' name of their format; empty when only sizes are known."""
    license: str | None = None
    gated: bool = False
    revision: str | None = None


def read_facts(config: Config, published: Published) -> ModelFacts:
    """The facts; InputError names a key that is missing, is not what it should be, or contradicts another."""
    try:
        return _facts(config, _language_model(config), published)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        fault = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"the config.json of {published.id} makes no sense: {fault}") from error


def unknown_facts(config: Config, model: ModelFacts) -> tuple[str, ...]:
    """Facts that an estimate would use and that neither this config nor the weight files give, in a preset's words."""
    stateful = keeps_state(_language_model(config), model.layers)
    facts: tuple[tuple[str, bool], ...] = (
        ("license", model.license != _NO_LICENCE),
        ("vocabSize", model.vocab_size is not None),
        ("intermediateSize", (model.intermediate_size or model.moe_intermediate_size) is not None),
        ("stateElements", model.state_elements is not None or not stateful),
        ("parameters", model.parameters is not None or model.quantisation is Quantisation.NONE),
    )
    return tuple(name for name, known in facts if not known)


def _facts(config: Config, text: Config, published: Published) -> ModelFacts:
    layers = _layers(text)
    if layers > _MOST_LAYERS:
        raise InputError(f"config.json: {layers} layers are more than any model has")
    experts = _experts(text)
    counted = read_layers(text, layers, has_experts=experts is not None)
    dense, inner = _inner_widths(text, experts, mixed=counted.moe is not None)
    heads, width = _required(text, _HEADS), _required(text, _WIDTH)
    licence = (published.license or _NO_LICENCE)[:_LONGEST_NAME]
    return ModelFacts(
        id=published.id,
        revision=published.revision,
        license=licence,
        gated=published.gated,
        mirrorable=licence in REDISTRIBUTABLE,
        architecture=_architecture(config, text),
        weight_bytes=published.weight_bytes,
        dtype=_dtype(config, text, published.formats),
        quantisation=_quantisation(config, text),
        layers=layers,
        hidden_size=width,
        heads=heads,
        kv_heads=_count(text, _KV_HEADS) or (1 if text.get("multi_query") else heads),
        head_dim=_head_width(text, width, heads),
        vocab_size=_count(text, ("vocab_size",)),
        intermediate_size=dense,
        tied_embeddings=_tied(config, text),
        context_length=_required(text, _CONTEXT),
        attention_layers=counted.attention,
        sliding_window=counted.window,
        sliding_layers=counted.sliding,
        full_kv_heads=_count(text, ("num_global_key_value_heads",)),
        full_head_dim=_count(text, ("global_head_dim",)),
        state_elements=counted.state_elements,
        kv_lora_rank=_count(text, ("kv_lora_rank",)),
        qk_rope_head_dim=_count(text, ("qk_rope_head_dim",)),
        experts=experts,
        experts_per_token=_count(text, _CHOSEN) if experts else None,
        shared_experts=_shared(text) if experts else None,
        moe_intermediate_size=inner,
        moe_layers=counted.moe,
    )


def _language_model(config: Config) -> Config:
    """The part about the language model; what only the outer part says (often the window or the experts) is added."""
    inner = next((config[name] for name in _NESTED if isinstance(config.get(name), Mapping)), None)
    return config if inner is None else {**config, **inner}


def _layers(text: Config) -> int:
    """The count as such, or the length of the list of kinds, which Nemotron's newer configs have instead."""
    listed = text.get("layers_block_type") or text.get("layer_types")
    return _count(text, _LAYERS) or (len(listed) if listed else _required(text, _LAYERS))


def _experts(text: Config) -> int | None:
    """Experts to choose from; a family that can have them and lists no such layer has none."""
    experts = _count(text, _EXPERTS)
    pattern = text.get("hybrid_override_pattern") or text.get("layers_block_type") or ()
    return None if experts == 1 or (pattern and not {"E", "moe"} & set(pattern)) else experts


def _inner_widths(text: Config, experts: int | None, *, mixed: bool) -> tuple[int | None, int | None]:
    """Inner width of a dense MLP and of an expert. A mixture that names one width means an expert's; the other counts
    where some layers are dense (`mixed`) or where a dense MLP works beside the experts (Gemma 4)."""
    written, own = (
        _count(text, ("intermediate_size", "n_inner", "ffn_dim")),
        _count(text, ("moe_intermediate_size",)),
    )
    if experts is None:
        return written, None
    if own is None:
        return None, written
    return written if written != own and (mixed or text.get("enable_moe_block")) else None, own


def _shared(text: Config) -> int | None:
    shared = _count(text, _SHARED)
    return shared or (1 if _count(text, ("shared_expert_intermediate_size",)) else None)


def _head_width(text: Config, width: int, heads: int) -> int:
    """Latent attention: the parts without and with a position; else as written, else width ÷ heads."""
    rope, plain = _count(text, ("qk_rope_head_dim",)), _count(text, ("qk_nope_head_dim",))
    if text.get("kv_lora_rank") and rope and plain:
        return rope + plain
    found = _count(text, _HEAD_WIDTH) or width // heads
    if not found:
        raise ValueError(f"{heads} heads are more than a width of {width} has")
    return found


def _tied(config: Config, text: Config) -> bool:
    """Gemma's configs leave it to the family's default."""
    written = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    return bool(written) if written is not None else str(text.get("model_type", "")).startswith("gemma")


def _architecture(config: Config, text: Config) -> str:
    names = config.get("architectures") or text.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(
            "config.json: architectures is missing; take the config.json that came with the model"
        )
    return names[0][:_LONGEST_NAME]


def _dtype(config: Config, text: Config, formats: Mapping[str, int]) -> str:
    """As written, or the number format that most bytes of the weights have."""
    for part in (text, config):
        if (written := part.get("dtype") or part.get("torch_dtype")) is None:
            continue
        if (name := str(written).removeprefix("torch.")) not in _DTYPES.values():
            raise InputError(
                f"config.json: dtype is {repr(written)[:80]}; {', '.join(_DTYPES.values())} can be planned"
            )
        return name
    known = {name: size for name, size in formats.items() if name in _DTYPES}
    if not known:
        raise InputError("config.json: dtype is missing; add it, such as bfloat16")
    return _DTYPES[max(known, key=lambda name: (known[name], name))]


def _quantisation(config: Config, text: Config) -> Quantisation:
    """A method that is none of ours, and a model with two, is `mixed`: its bytes are still those of the files."""
    settings = config.get("quantization_config") or text.get("quantization_config")
    if not isinstance(settings, Mapping):
        return Quantisation.NONE
    if text.get("expert_dtype"):
        return Quantisation.MIXED
    method = settings.get("quant_method")
    if method == "bitsandbytes":
        return Quantisation.NF4 if settings.get("load_in_4bit") else Quantisation.INT8
    word = {"compressed-tensors": settings.get("format"), "modelopt": settings.get("quant_algo")}.get(
        str(method), method
    )
    bits = settings.get("bits")
    return _METHODS.get((word, None)) or _METHODS.get((word, bits), Quantisation.MIXED)


def _required(text: Config, names: tuple[str, ...]) -> int:
    found = _count(text, names)
    if found is None:
        raise InputError(f"config.json: {names[0]} is missing; take the config.json that came with the model")
    return found


def _count(text: Config, names: tuple[str, ...]) -> int | None:
    """The first of these keys that is there; 0 and null are as if it were not."""
    for name in names:
        if (value := text.get(name)) in (None, 0):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST:
            raise InputError(f"config.json: {name} is {repr(value)[:80]}; a whole number is expected")
        return value
    return None
