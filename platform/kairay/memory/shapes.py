"""What the parameters of a model are: attention, MLP, experts, embeddings, and the small ones between them.

The names are those that transformers gives the modules. Architectures whose extras (biases, norms of heads, sinks)
are in the table are counted to the last parameter; tests compare them with the modules that transformers builds.
"""

from __future__ import annotations

from dataclasses import dataclass

from kairay.memory.use import Dtype
from kairay.model_facts import ModelFacts, Quantisation


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionKind:
    """Attention layers that are alike."""

    layers: int
    kv_heads: int
    head_dim: int
    window: int | None
    """Tokens that they look back; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extras:
    """What an architecture has beside matrices; all of one layer."""

    query_bias: bool = False
    """Queries, keys and values have biases."""
    output_bias: bool = False
    head_norms: bool = False
    """Queries and keys are normed per head."""
    wide_norms: bool = False
    """Queries and keys are normed over all heads."""
    norms: int = 2
    """Norms of the width of the model."""
    sinks: bool = False
    """One learned number per head."""
    router_bias: bool = False
    expert_bias: bool = False
    gated: bool = True
    """The MLP multiplies by a gate."""


_EXTRAS = {
    "LlamaForCausalLM": _Extras(),
    "MistralForCausalLM": _Extras(),
    "MixtralForCausalLM": _Extras(),
    "Phi3ForCausalLM": _Extras(),
    "GraniteForCausalLM": _Extras(),
    "Qwen2ForCausalLM": _Extras(query_bias=True),
    "Qwen3ForCausalLM": _Extras(head_norms=True),
    "Qwen3MoeForCausalLM": _Extras(head_norms=True),
    "Gemma3ForCausalLM": _Extras(head_norms=True, norms=4),
    "GptOssForCausalLM": _Extras(
        query_bias=True, output_bias=True, sinks=True, router_bias=True, expert_bias=True
    ),
    "MiniMaxM2ForCausalLM": _Extras(wide_norms=True),
}

_FUSED = frozenset({"Phi3ForCausalLM"})

_ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj")
_NAMED = frozenset({
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Phi3ForCausalLM",
})  # fmt: skip
"""Architectures whose layers have a `self_attn` and an `mlp`, with nothing linear beside what `module_shapes` names."""

_STORED_BITS = {
    Quantisation.AWQ4: 4,
    Quantisation.GPTQ4: 4,
    Quantisation.INT4: 4,
    Quantisation.MXFP4: 4,
    Quantisation.NVFP4: 4,
    Quantisation.NF4: 4,
}


def missing_facts(model: ModelFacts) -> tuple[str, ...]:
    """Shape facts that an estimate of this model has to leave out, in words."""
    facts = [("its vocabulary size", model.vocab_size)]
    if model.experts is None or (model.moe_layers or model.layers) < model.layers:
        facts.append(("its intermediate size", model.intermediate_size))
    if model.experts is not None:
        facts.append(("the size of its experts", model.moe_intermediate_size))
    return tuple(words for words, value in facts if value is None)


def parameter_count(model: ModelFacts) -> int:
    """Parameters: as the preset says, or by the size of the published weights where they are plain numbers, or by the
    shape; where none of these is known, what the published bytes hold at most, at the bits of their format."""
    if model.parameters is not None:
        return model.parameters
    if model.quantisation is Quantisation.NONE:
        return model.weight_bytes // Dtype(model.dtype).bytes
    return shape_parameters(model) or model.weight_bytes * 8 // _STORED_BITS.get(model.quantisation, 8)


def attention_kinds(model: ModelFacts) -> tuple[AttentionKind, ...]:
    """The layers that keep a KV cache: those with a window, then those without."""
    attending = model.attention_layers or model.layers
    sliding = model.sliding_layers or 0
    kinds = (
        AttentionKind(
            layers=sliding, kv_heads=model.kv_heads, head_dim=model.head_dim, window=model.sliding_window
        ),
        AttentionKind(
            layers=attending - sliding,
            kv_heads=model.full_kv_heads or model.kv_heads,
            head_dim=model.full_head_dim or model.head_dim,
            window=None,
        ),
    )
    return tuple(kind for kind in kinds if kind.layers)


def embedding_parameters(model: ModelFacts) -> int:
    """Input and output embeddings: vocabulary × width, twice unless tied; 0 when the vocabulary is not
    known."""
    return (model.vocab_size or 0) * model.hidden_size * (1 if model.tied_embeddings else 2)


def expert_layers(model: ModelFacts) -> int:
    """Layers whose MLP is a mixture of experts."""
    return 0 if model.experts is None else model.moe_layers or model.layers


def expert_parameters(model: ModelFacts) -> int:
    """Matrices of all chosen experts: layers × experts × 3 × width × inner width (gate, up and down). transformers
    keeps them as tensors of three dimensions, which bitsandbytes does not quantise."""
    inner = model.moe_intermediate_size or 0
    return expert_layers(model) * (model.experts or 0) * 3 * model.hidden_size * inner


def linear_parameters(model: ModelFacts) -> int | None:
    """Weights of the linear modules inside the layers: attention, dense MLPs, shared experts. None when the
    shape is not known."""
    if shape_parameters(model) is None:
        return None
    return _attention_weights(model) + _dense_weights(model)


def shape_parameters(model: ModelFacts) -> int | None:
    """All parameters by the shape, exactly. None for an architecture that is not in the table, or has parts that the
    facts do not describe (latent attention's ranks, states of fixed size, shared experts' gates)."""
    extras = _EXTRAS.get(model.architecture)
    strange = model.kv_lora_rank is not None or model.attention_layers is not None or model.shared_experts
    if extras is None or strange or missing_facts(model):
        return None
    width, moe = model.hidden_size, expert_layers(model)
    experts, inner = model.experts or 0, model.moe_intermediate_size or 0
    count = embedding_parameters(model) + width + model.layers * extras.norms * width
    count += _attention_weights(model) + _dense_weights(model) + expert_parameters(model)
    count += sum(kind.layers * _attention_extras(model, kind, extras) for kind in attention_kinds(model))
    count += moe * experts * (width + extras.router_bias)
    return count + moe * experts * extras.expert_bias * (2 * inner + width)


def module_shapes(model: ModelFacts) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear modules of one layer, under the names that transformers gives them; Phi-3 has
    queries, keys and values in one, and gate and up."""
    width, query, key = model.hidden_size, model.heads * model.head_dim, model.kv_heads * model.head_dim
    inner = (model.intermediate_size or 0) if expert_layers(model) < model.layers else 0
    shapes = {
        "q_proj": (width, query),
        "k_proj": (width, key),
        "v_proj": (width, key),
        "gate_proj": (width, inner),
        "up_proj": (width, inner),
    }
    if model.architecture in _FUSED:
        shapes = {"qkv_proj": (width, query + 2 * key), "gate_up_proj": (width, 2 * inner)}
    shapes |= {"o_proj": (query, width), "down_proj": (inner, width)}
    return {name: shape for name, shape in shapes.items() if all(shape)}


def module_paths(model: ModelFacts) -> tuple[str, ...] | None:
    """Whole names of the linear modules and of the embeddings, as transformers builds the model: all that LoRA may go
    to. None where they are not known: an architecture that no test has compared, a shape that lacks a fact."""
    if model.architecture not in _NAMED or missing_facts(model):
        return None
    parents = {name: "self_attn" if name in _ATTENTION else "mlp" for name in module_shapes(model)}
    layers = [
        f"model.layers.{layer}.{parent}.{name}"
        for layer in range(model.layers)
        for name, parent in parents.items()
    ]
    return ("model.embed_tokens", *layers, "lm_head")


def has_head_norms(model: ModelFacts) -> bool:
    """Queries and keys are normed, which keeps a copy of them in float32."""
    extras = _EXTRAS.get(model.architecture, _Extras())
    return extras.head_norms or extras.wide_norms


def _attention_weights(model: ModelFacts) -> int:
    width, query = model.hidden_size, model.heads
    return sum(
        kind.layers * 2 * width * kind.head_dim * (query + kind.kv_heads) for kind in attention_kinds(model)
    )


def _dense_weights(model: ModelFacts) -> int:
    dense = model.layers - expert_layers(model)
    shared = expert_layers(model) * (model.shared_experts or 0) * (model.moe_intermediate_size or 0)
    return 3 * model.hidden_size * (dense * (model.intermediate_size or 0) + shared)


def _attention_extras(model: ModelFacts, kind: AttentionKind, extras: _Extras) -> int:
    query, key = model.heads * kind.head_dim, kind.kv_heads * kind.head_dim
    count = (query + 2 * key) * extras.query_bias + model.hidden_size * extras.output_bias
    count += 2 * kind.head_dim * extras.head_norms + (query + key) * extras.wide_norms
    return count + model.heads * extras.sinks
