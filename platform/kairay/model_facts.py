"""What is known of a model, as frozen values; what follows from it is computed in `memory` and `plan`.

Facts that are not known are None, and an estimate then leaves out what rests on them. Numbers are those of the model's
own config.json; the words used here are said in terms of transformers' keys where the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kairay.errors import InputError
from kairay.quantities import parse_bytes

STRICT_FILE = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=False)
"""How a preset's parts are read: camelCase keys, unknown ones refused, nothing converted."""

Count = Annotated[int, Field(gt=0)]

REDISTRIBUTABLE = frozenset({"mit", "apache-2.0", "modified-mit", "openmdw-1.1"})
"""Licences, by the hub's names, that let anybody put the weights elsewhere without further conditions to meet."""


def _weight_bytes(written: object) -> object:
    try:
        return parse_bytes(written) if isinstance(written, str) else written
    except InputError as error:
        raise ValueError(error.message) from error


class Quantisation(StrEnum):
    """How the published weights are stored; the digit is the bits of one number. Layers that a format leaves alone
    (embeddings, norms, often attention) stay in `dtype`, so bytes come from `weights`, never from the bits alone."""

    NONE = "none"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    """compressed-tensors' pack-quantized: 4-bit integers with one scale per group."""
    AWQ4 = "awq4"
    GPTQ4 = "gptq4"
    GPTQ8 = "gptq8"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"
    NF4 = "nf4"
    """bitsandbytes, stored quantised."""
    MIXED = "mixed"
    """Several formats in one model, or one that is none of the above."""


class FileFormat(StrEnum):
    """Whose layout the published files have; an engine has to be told when it is not transformers'."""

    TRANSFORMERS = "transformers"
    """config.json, model*.safetensors, tokenizer.json."""
    MISTRAL = "mistral"
    """params.json, consolidated*.safetensors, tekken.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a decoder-only language model; widths are in elements, lengths in tokens.

    Of a model that also sees or hears, the shape is that of its language model, the weights are all of them.
    ValueError when two facts contradict each other.
    """

    id: str
    """Hub id."""
    revision: str | None = None
    """Hub commit, when the preset pins one."""
    license: str
    gated: bool = False
    """The hub asks for an accepted licence and a token."""
    mirrorable: bool
    """The licence lets us put the weights in another registry."""
    architecture: str
    """transformers' class name."""
    weight_bytes: Annotated[Count, BeforeValidator(_weight_bytes), Field(alias="weights")]
    """Bytes of the published weight files, as they are stored (`quantisation`)."""
    parameters: Count | None = None
    """Parameters, as far as published (often rounded); None: not known, then `weights` ÷ bytes of `dtype` gives them,
    unless the model is quantised."""
    dtype: str
    """torch's name of the format that the model computes in, and that it is stored in where not quantised."""
    quantisation: Quantisation = Quantisation.NONE
    file_format: FileFormat = FileFormat.TRANSFORMERS

    layers: Count
    """All blocks, of whatever kind; the three counts of layers below are parts of it."""
    hidden_size: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    """Width of one head: `head_dim` of the config, or hiddenSize ÷ heads where it names none."""
    vocab_size: Count | None = None
    intermediate_size: Count | None = None
    """Inner width of a dense MLP."""
    tied_embeddings: bool = False
    """Input and output embeddings are one matrix."""
    context_length: Count

    attention_layers: Count | None = None
    """Layers that keep a KV cache of their own; None: all. The others keep a state of fixed size (Mamba, linear
    attention), use another layer's cache, or do not attend at all."""
    sliding_window: Count | None = None
    """Tokens that the sliding layers look back: their KV cache holds no more of a sequence."""
    sliding_layers: Count | None = None
    """Those of the attention layers that are limited to the window; None: none of them."""
    full_kv_heads: Count | None = None
    """KV heads of the attention layers without a window, where they differ from `kv_heads`."""
    full_head_dim: Count | None = None
    """Head width of the attention layers without a window, where it differs from `head_dim`."""
    state_elements: Count | None = None
    """Numbers that all layers with a state of fixed size keep together for one sequence, whatever its length."""
    kv_lora_rank: Count | None = None
    """Multi-head latent attention: a token's cache is this and `qk_rope_head_dim`, once per layer, for all heads and
    for keys and values together."""
    qk_rope_head_dim: Count | None = None
    """Width of the part of a key that carries the position, where it is kept apart (latent attention)."""
    experts: Count | None = None
    """Experts of one mixture-of-experts layer that a router chooses from; None: the model is dense."""
    experts_per_token: Count | None = None
    """Experts that the router chooses for one token."""
    shared_experts: Count | None = None
    """Experts that every token goes through beside the chosen ones; None: there are none."""
    moe_intermediate_size: Count | None = None
    """Inner width of one chosen expert."""
    moe_layers: Count | None = None
    """Layers whose MLP is a mixture of experts; None: all, when there are experts."""

    tool_parser: str | None = None
    """vLLM's name of the parser for the calls of tools in an answer; None: none is known."""
    reasoning_parser: str | None = None
    """vLLM's name of the parser that parts thoughts from the answer; None: none is known."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT_FILE

    def __post_init__(self) -> None:
        attending = self.attention_layers or self.layers
        for wrong, fault in (
            (attending > self.layers, "attentionLayers are more than layers"),
            ((self.sliding_layers or 0) > attending, "slidingLayers are more than the layers that attend"),
            ((self.moe_layers or 0) > self.layers, "moeLayers are more than layers"),
            (
                (self.sliding_layers is None) != (self.sliding_window is None),
                "slidingWindow and slidingLayers go together",
            ),
            (
                self.kv_lora_rank is not None and self.qk_rope_head_dim is None,
                "kvLoraRank is given without qkRopeHeadDim",
            ),
            (self.experts is None and self.experts_per_token is not None, "expertsPerToken without experts"),
            ((self.experts_per_token or 0) > (self.experts or 0), "expertsPerToken are more than experts"),
        ):
            if wrong:
                raise ValueError(fault)
