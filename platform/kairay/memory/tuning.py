"""What a micro-batch takes on top of weights and adapter: tensors kept for the backward pass, scores, and the
buffers of one layer's backward pass.

Counted from what autograd saves in the recipe that kairay_train runs: base weights are frozen, so a linear layer
keeps its input only where LoRA needs it; norms keep their input in float32; attention is fused and keeps queries,
keys, values and output.
"""

from __future__ import annotations

from dataclasses import dataclass

from kairay.memory.shapes import expert_layers, has_head_norms, module_shapes
from kairay.memory.use import Dtype
from kairay.memory.weights import NF4_BITS, dequantised_weight_bytes, quantised_weight_bytes
from kairay.model_facts import ModelFacts

ROWS_ARCHITECTURES = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
)
"""Those whose packed rows attend one by one on a processor, without a mask (kairay_train.batches)."""

_TILE_TOKENS, _TILE_WORDS = 4096, 32768
"""TRL scores at most this many tokens and words of the vocabulary at once (trl.kernels.chunked_logprob)."""
_SHARED_INPUTS = (
    ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    ("o_proj",),
    ("gate_proj", "up_proj", "gate_up_proj"),
    ("down_proj",),
)
"""Modules that read the same tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningWork:
    """One micro-batch of one worker."""

    model: ModelFacts
    dtype: Dtype
    """What it computes in."""
    on_gpu: bool
    quantised: bool
    """The base weights are NF4, on a processor too."""
    modules: tuple[str, ...]
    """Linear modules that get LoRA."""
    rank: int
    layers: int | None
    """Only the last n layers get LoRA; None: all."""
    dropout: float
    checkpointing: bool
    """Layers are computed again in the backward pass."""
    tokens: int
    """Of all rows of the micro-batch."""
    targets: int
    """Those of them that are in the loss."""
    bits: float = NF4_BITS
    """Of a quantised parameter."""
    row: int | None = None
    """Tokens of a row where rows are padded and masked each by itself; None: they are packed."""

    @property
    def rows_attend_alone(self) -> bool:
        """Packed rows are kept apart without a mask over all tokens."""
        return not self.on_gpu and self.row is None and self.model.architecture in ROWS_ARCHITECTURES

    @property
    def masked(self) -> int:
        """Pairs of tokens that the mask speaks of; 0 without one."""
        return 0 if self.rows_attend_alone else self.tokens * (self.row or self.tokens)

    @property
    def packed(self) -> bool:
        """Matrices are in 4 bits while they are multiplied: on a processor only those of models too large for more."""
        if self.on_gpu or not self.quantised:
            return self.quantised
        plain = dequantised_weight_bytes(self.model, self.dtype, layers=self.layers, bits=self.bits)
        return plain == quantised_weight_bytes(self.model, self.dtype, bits=self.bits)

    @property
    def tuned_layers(self) -> int:
        """Layers whose tensors are kept: with checkpointing all, as gradients are asked for from the first on."""
        return (
            self.model.layers
            if self.checkpointing
            else min(self.layers or self.model.layers, self.model.layers)
        )


def peak_parts(work: TuningWork) -> tuple[int, int]:
    """(activations, logits) at the fullest moment: what all layers keep, and then either the scores and their gradients
    at the turn from forward to backward, or one layer's backward pass."""
    kept, scores, layer = kept_bytes(work), logits_bytes(work), backward_bytes(work)
    return (kept, scores) if scores >= layer else (kept + layer, 0)


def kept_bytes(work: TuningWork) -> int:
    """What the forward pass keeps.

    Without checkpointing the inner tensors of every tuned layer, with it only each layer's input (Chen et al. 2016,
    "Training Deep Nets with Sublinear Memory Cost"); the last norm's input; and the mask of packed rows where a mask
    keeps them apart.
    """
    width = work.model.hidden_size
    each = work.tokens * width * work.dtype.bytes if work.checkpointing else layer_bytes(work)
    return work.tuned_layers * each + 4 * width * work.tokens + work.masked


def layer_bytes(work: TuningWork) -> int:
    """What one tuned layer keeps: norms, LoRA's inputs, attention, MLP (Korthikanti et al. 2022, section 4, without the
    inputs of frozen matrices)."""
    norms = 2 * 4 * work.model.hidden_size
    per_token = norms + _lora_inputs(work) + _attention(work) + _mlp(work)
    return per_token * work.tokens + work.masked * work.dtype.bytes


def backward_bytes(work: TuningWork) -> int:
    """Buffers of one layer's backward pass, and its inner tensors where they are computed again.

    Gradients of the MLP's output, product, gate and its activation, or of attention's output, queries, keys and
    values; of the norm in float32; and a matrix in 4 bits, expanded.
    """
    model = work.model
    width, query = model.hidden_size, model.heads * model.head_dim
    mlp = 2 * width + 3 * (model.intermediate_size or 0)
    if expert_layers(model):
        mlp = max(mlp, _chosen(model) * (2 * width + 3 * (model.moe_intermediate_size or 0)))
    widest = max(mlp, 2 * width + 5 * query) * work.dtype.bytes + 2 * 4 * width
    expanded = dequantised_bytes(model, work.dtype) if work.packed else 0
    return widest * work.tokens + expanded + (layer_bytes(work) if work.checkpointing else 0)


def logits_bytes(work: TuningWork) -> int:
    """Scores over the vocabulary, where the forward pass turns into the backward pass.

    Packed rows on a processor: logarithms, their gradient and that of the scores, vocabulary × targets × 4 B three
    times, and the scores in half precision where that is computed in. Elsewhere TRL scores tiles of 4,096 × 32,768
    and adds the hidden states' gradient up in float32; without Triton it scores every token, and a tile's backward pass
    holds eight tiles in float32.
    """
    words, size = work.model.vocab_size or 0, work.dtype.bytes
    if work.rows_attend_alone:
        return words * work.targets * (12 + (0 if size == 4 else size))
    tile = min(work.targets if work.on_gpu else work.tokens, _TILE_TOKENS) * _TILE_WORDS
    hidden = work.tokens * work.model.hidden_size * (4 + size)
    return tile * size + hidden if work.on_gpu else tile * (size + 7 * 4 + 1) + hidden


def dequantised_bytes(model: ModelFacts, dtype: Dtype) -> int:
    """The largest 4-bit matrix, expanded to the compute dtype while it is multiplied (bitsandbytes' 4-bit
    matmul)."""
    return max(wide * high for wide, high in module_shapes(model).values()) * dtype.bytes


def _lora_inputs(work: TuningWork) -> int:
    """Inputs of LoRA's first matrices, one for all modules that share it, and its results of `rank` numbers. The
    attention's output is kept anyway, unless rows are put together from it.

    Dropout gives each module an input of its own and a mask (one byte on a GPU, a number on a processor). So do
    adapters in float32 beside a base model in half precision: on a processor the copies are float32 too, on a GPU
    autocast brings them back to half precision.
    """
    shapes, half = module_shapes(work.model), work.dtype.bytes == 2
    copied = half and not (work.on_gpu and work.quantised)
    size = 4 if half and not work.on_gpu else work.dtype.bytes
    mask = 0 if work.dropout == 0 else 1 if work.on_gpu else size
    total = 0
    for group in _SHARED_INPUTS:
        tuned = [shapes[module] for module in group if module in work.modules and module in shapes]
        shared = "o_proj" in group and not work.rows_attend_alone
        inputs = len(tuned) if copied or work.dropout else 0 if shared else min(1, len(tuned))
        total += sum(wide * (size + mask) for wide, _ in tuned[:inputs]) + len(tuned) * work.rank * size
    return total


def _attention(work: TuningWork) -> int:
    """Queries, keys, values and output, with each group's keys repeated for its queries; a logarithm per head; the
    inputs of the norms of heads in float32."""
    model = work.model
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    normed = 4 * (query + key) if has_head_norms(model) else 0
    return (2 * query + 2 * (query if query > key else key)) * work.dtype.bytes + 4 * model.heads + normed


def _mlp(work: TuningWork) -> int:
    """Gate, its activation and up; of each chosen expert also its output, which its weight multiplies; the router's
    scores and probabilities."""
    model, size = work.model, work.dtype.bytes
    if not expert_layers(model):
        return 3 * (model.intermediate_size or 0) * size
    inner = model.moe_intermediate_size or 0
    chosen = (model.experts_per_token or 0) * (model.hidden_size + 3 * inner)
    shared = (model.shared_experts or 0) * 3 * inner
    return (chosen + shared) * size + (model.experts or 0) * (4 + size)


def _chosen(model: ModelFacts) -> int:
    return (model.experts_per_token or 0) + (model.shared_experts or 0)
