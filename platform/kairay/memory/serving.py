"""What an engine takes on top of weights and KV cache: activations of one forward pass, scores and their sampling, CUDA
graphs, and what is there before the first tensor."""

from __future__ import annotations

from dataclasses import dataclass

from kairay.memory.kv_cache import kv_bytes_per_token
from kairay.memory.lora import lora_parameters
from kairay.memory.shapes import expert_layers, module_shapes
from kairay.memory.use import CUDA_CONTEXT, GIB, Dtype
from kairay.model_facts import ModelFacts
from kairay.presets import TuningFacts

CUDA_GRAPHS = GIB
"""CUDA graphs of vLLM's decoding steps: "1 to 3 GiB per GPU", says its log; 0.1 to 0.6 GiB is what it reports for
models of 0.6 to 8 billion parameters."""
COLLECTIVES = GIB
"""Buffers of NCCL and of vLLM's own all-reduce on a GPU that works with others (1.8 GiB more at two H100s than at
one in vllm-project/vllm#10511, of which a part is the context that each process opens on its peer)."""
SAMPLER_BYTES = 40
"""Per request and word of the vocabulary: scores in half and single precision, sorted ones, their 8-byte indices,
probabilities, their sums and a copy (1.26 GiB for 256 requests over 128,256 words in vllm-project/vllm#10511 is 41)."""

_LARGE_GPU = 70 * GIB
_PAGE_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Bytes on one device, beside weights and KV cache."""

    activations: int
    overhead: int


def vllm_batch_tokens(gpu_bytes: int) -> int:
    """Tokens of one forward pass of vLLM's server when nobody says: 8,192 on GPUs of 70 GiB and more, else 2,048
    (vllm.engine.arg_utils, max_num_batched_tokens)."""
    return 8192 if gpu_bytes >= _LARGE_GPU else 2048


def vllm_memory(
    model: ModelFacts,
    dtype: Dtype,
    *,
    batch_tokens: int,
    requests: int,
    tensor: int,
    pipeline: int,
    graphs: bool = True,
) -> EngineMemory:
    """vLLM on one GPU: the larger of the widest layer for all tokens of a pass and the sampler's work on the scores of
    all requests, which is not split; context, CUDA graphs if they are recorded, and collectives of several GPUs."""
    layer = batch_tokens * _layer_elements(model, tensor) * dtype.bytes
    sampling = requests * (model.vocab_size or 0) * SAMPLER_BYTES
    together = COLLECTIVES if tensor * pipeline > 1 else 0
    recorded = CUDA_GRAPHS if graphs else 0
    return EngineMemory(activations=max(layer, sampling), overhead=CUDA_CONTEXT + recorded + together)


def transformers_memory(
    model: ModelFacts, dtype: Dtype, *, batch_tokens: int, requests: int, cached_tokens: int, on_gpu: bool
) -> EngineMemory:
    """The transformers engine: the mask over all cached tokens and the indices to read them, two spare pages of the
    cache, the embeddings, which live through the pass, and the largest of a layer's MLP, its attention and the scores.

    Attention gathers what it reads of the cache, keys and values, and repeats them for their queries one after the
    other.
    """
    size, width = dtype.bytes, model.hidden_size
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    standing = (cached_tokens + batch_tokens) * _masked(dtype, batch_tokens) + batch_tokens * width * size
    standing += 2 * _PAGE_TOKENS * kv_bytes_per_token(model, dtype)
    mlp = batch_tokens * (3 * width + _eager_mlp_elements(model)) * size
    attention = batch_tokens * (2 * width + 2 * query + 2 * key) * size
    attention += max(cached_tokens, batch_tokens) * _gathered(model, dtype)
    scores = requests * (model.vocab_size or 0) * 2 * 4
    return EngineMemory(
        activations=standing + max(mlp, attention, scores), overhead=CUDA_CONTEXT if on_gpu else 0
    )


def gathered_bytes_per_token(model: ModelFacts, dtype: Dtype, *, batch_tokens: int) -> int:
    """By how much the transformers engine's activations grow with each token in its cache, at most."""
    return _masked(dtype, batch_tokens) + _gathered(model, dtype)


def merged_adapter_bytes(model: ModelFacts, dtype: Dtype, tuning: TuningFacts) -> int:
    """What one adapter adds to the transformers engine: it is merged into copies of the matrices that it changes; all
    others are shared with the base model."""
    shapes, layers = module_shapes(model), min(tuning.defaults.layers or model.layers, model.layers)
    return (
        layers
        * dtype.bytes
        * sum(
            shapes[module][0] * shapes[module][1] for module in set(tuning.target_modules) if module in shapes
        )
    )


def lora_slot_bytes(model: ModelFacts, dtype: Dtype, tuning: TuningFacts, *, tensor: int) -> int:
    """What one adapter adds to vLLM: room for its matrices at its rank, rounded up to one of vLLM's (max-lora-rank)."""
    rank = next(
        (size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= tuning.defaults.rank),
        tuning.defaults.rank,
    )
    lora = lora_parameters(model, modules=tuning.target_modules, rank=rank, layers=None)
    return -(-lora * dtype.bytes // tensor)


def _masked(dtype: Dtype, batch_tokens: int) -> int:
    """A cached token's column of the mask, and its index."""
    return batch_tokens * dtype.bytes + 8


def _gathered(model: ModelFacts, dtype: Dtype) -> int:
    """Keys and values of a cached token as one layer reads them; with several queries to a key both repeated, beside
    the values that are being repeated."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    return (2 * query + key if query > key else 2 * key) * dtype.bytes


def _layer_elements(model: ModelFacts, tensor: int) -> int:
    """Numbers per token at the widest point of a layer in a compiled engine: two residual streams, and either queries,
    keys, values and output or the MLP's gate, up and product and its output."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    attention = -(-(2 * query + 2 * key) // tensor)
    return 2 * model.hidden_size + max(attention, -(-_mlp_elements(model) // tensor)) + model.hidden_size


def _eager_mlp_elements(model: ModelFacts) -> int:
    """As transformers computes them one after the other: gate's activation, up and product of a dense MLP; of each
    chosen expert its input beside gate, up, activation and product, or beside its output as it is, weighted and in the
    tokens' order again (grouped_mm_experts_forward)."""
    inner = 3 * (model.intermediate_size or 0)
    if not expert_layers(model):
        return inner
    width, one = model.hidden_size, model.moe_intermediate_size or 0
    chosen = (model.experts_per_token or 0) * max(4 * width, width + 4 * one)
    return max(inner, chosen + (model.shared_experts or 0) * 3 * one)


def _mlp_elements(model: ModelFacts) -> int:
    """In vLLM's kernels: gate, up and product of a dense MLP; of each chosen expert its gate and up in the room of its
    output, and the product."""
    inner = 3 * (model.intermediate_size or 0)
    if not expert_layers(model):
        return inner
    one = model.moe_intermediate_size or 0
    chosen = (model.experts_per_token or 0) * (max(2 * one, model.hidden_size) + one)
    return max(inner, chosen + (model.shared_experts or 0) * 3 * one)
