"""Models of many shapes, and the work of tuning them, to count the bytes of."""

from __future__ import annotations

from typing import Any

from kairay.memory import GIB, Dtype, TuningWork
from kairay.model_facts import ModelFacts, Quantisation
from kairay.presets import find_preset

PHI3 = find_preset("phi-3-mini-128k-instruct").model
SMOL = find_preset("smollm2-135m-instruct").model
MISTRAL = find_preset("mistral-7b-v0.3").model
LLAMA = find_preset("llama-3.1-8b-instruct").model
SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def model(**shape: Any) -> ModelFacts:
    """A model of no special kind, changed as the test says."""
    plain: dict[str, Any] = {
        "id": "test/model", "license": "mit", "mirrorable": True, "architecture": "LlamaForCausalLM",
        "weight_bytes": 2_000_000_000, "dtype": "bfloat16", "layers": 24, "hidden_size": 1024, "heads": 16,
        "kv_heads": 8, "head_dim": 64, "vocab_size": 32_000, "intermediate_size": 4096, "context_length": 32_768,
    }  # fmt: skip
    return ModelFacts(**{**plain, **shape})


DEEPSEEK = model(
    architecture="DeepseekV3ForCausalLM", layers=61, hidden_size=7168, heads=128, kv_heads=128, head_dim=192,
    kv_lora_rank=512, qk_rope_head_dim=64, experts=256, experts_per_token=8, shared_experts=1, moe_layers=58,
    moe_intermediate_size=2048, intermediate_size=18_432, quantisation=Quantisation.FP8,
    weight_bytes=int(641.3 * GIB), context_length=163_840,
)  # fmt: skip
WINDOWS = model(
    layers=34,
    kv_heads=4,
    head_dim=256,
    heads=8,
    sliding_window=1024,
    sliding_layers=29,
    context_length=131_072,
)
EXPERTS = model(
    architecture="Qwen3MoeForCausalLM", experts=128, experts_per_token=8, moe_intermediate_size=768,
    intermediate_size=None, weight_bytes=48 * GIB,
)  # fmt: skip


def work(of: ModelFacts = LLAMA, **changes: Any) -> TuningWork:
    """QLoRA of all linear layers on a GPU, 4,096 tokens."""
    plain: dict[str, Any] = {
        "model": of, "dtype": Dtype.BFLOAT16, "on_gpu": True, "quantised": True, "modules": SPLIT, "rank": 16,
        "layers": None, "dropout": 0.0, "checkpointing": True, "tokens": 4096, "targets": 4096,
    }  # fmt: skip
    return TuningWork(**{**plain, **changes})


def on_cpu(of: ModelFacts = SMOL, **changes: Any) -> TuningWork:
    """As the job does it on a processor."""
    plain = {"dtype": Dtype.FLOAT32, "on_gpu": False, "checkpointing": False, "tokens": 512, "targets": 512}
    return work(of, **{**plain, **changes})
