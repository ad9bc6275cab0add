"""A model's facts from its config.json: each family's way of saying them, and what is missing or makes no sense.

The configs are those of published models, cut down to the keys that matter; the facts are the catalogue's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kairay.errors import InputError
from kairay.model_config import Published, read_facts, unknown_facts
from kairay.model_facts import ModelFacts, Quantisation
from kairay.presets import find_preset

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "intermediate_size": 14336, "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}  # fmt: skip
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16",
    "num_hidden_layers": 28, "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
    "vocab_size": 152064, "intermediate_size": 18944, "max_position_embeddings": 32768,
    "sliding_window": 131072, "use_sliding_window": False,
}  # fmt: skip
AWQ = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "float16", "head_dim": 128,
    "num_hidden_layers": 36, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 151936, "intermediate_size": 12288, "max_position_embeddings": 40960,
    "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}, "sliding_window": None,
}  # fmt: skip
GPT_OSS = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "dtype": "bfloat16", "head_dim": 64,
    "num_hidden_layers": 24, "hidden_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8,
    "vocab_size": 201088, "intermediate_size": 2880, "max_position_embeddings": 131072,
    "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
}  # fmt: skip
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
    "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128, "num_key_value_heads": 128,
    "vocab_size": 129280, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "max_position_embeddings": 163840, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"},
}  # fmt: skip
DEEPSEEK_V4 = {
    "architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "torch_dtype": "bfloat16",
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0, 0, 0], "expert_dtype": "fp4", "head_dim": 512,
    "num_hidden_layers": 43, "hidden_size": 4096, "num_attention_heads": 64, "num_key_value_heads": 1,
    "vocab_size": 129280, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 6, "qk_rope_head_dim": 64, "q_lora_rank": 1024, "sliding_window": 128,
    "max_position_embeddings": 1048576, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"},
}  # fmt: skip
KIMI = {
    "architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25", "dtype": "bfloat16",
    "vision_config": {"num_hidden_layers": 27, "hidden_size": 1152},
    "text_config": {
        "model_type": "kimi_k2", "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 64,
        "num_key_value_heads": 64, "vocab_size": 163840, "intermediate_size": 18432, "moe_intermediate_size": 2048,
        "n_routed_experts": 384, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "max_position_embeddings": 262144,
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
        },
    },
}  # fmt: skip
GEMMA_3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma3_text", "num_hidden_layers": 62, "hidden_size": 5376, "num_attention_heads": 32,
        "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 262208, "intermediate_size": 21504,
        "max_position_embeddings": 131072, "sliding_window": 1024,
    },
}  # fmt: skip
GEMMA_4 = {
    "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma4_text", "num_hidden_layers": 30, "hidden_size": 2816, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 256, "num_global_key_value_heads": 2, "global_head_dim": 512,
        "vocab_size": 262144, "intermediate_size": 2112, "max_position_embeddings": 262144, "sliding_window": 1024,
        "layer_types": ([*["sliding_attention"] * 5, "full_attention"]) * 5, "num_kv_shared_layers": 0,
        "enable_moe_block": True, "num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
QWEN_3_6 = {
    "architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe",
    "tie_word_embeddings": False, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "text_config": {
        "model_type": "qwen3_5_moe_text", "dtype": "bfloat16", "num_hidden_layers": 40, "hidden_size": 2048,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 248320,
        "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 256,
        "num_experts_per_tok": 8, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
        "max_position_embeddings": 262144,
    },
}  # fmt: skip
NEMOTRON = {
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "torch_dtype": "bfloat16",
    "num_hidden_layers": 52, "hidden_size": 2688, "num_attention_heads": 32, "num_key_value_heads": 2,
    "head_dim": 128, "vocab_size": 131072, "intermediate_size": 1856, "moe_intermediate_size": 1856,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "mamba_num_heads": 64, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
    "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 6, "max_position_embeddings": 262144,
}  # fmt: skip
NEMOTRON_DENSE = NEMOTRON | {
    "num_hidden_layers": 42, "hidden_size": 3136, "num_attention_heads": 40, "num_key_value_heads": 8,
    "hybrid_override_pattern": "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-", "intermediate_size": 12544,
    "mamba_num_heads": 96, "mamba_head_dim": 80, "n_routed_experts": 8, "moe_intermediate_size": 7688,
}  # fmt: skip
FAMILIES = {
    "llama-3.1-8b-instruct": LLAMA, "qwen2.5-coder-7b-instruct": QWEN2, "qwen3-8b-awq": AWQ, "gpt-oss-20b": GPT_OSS,
    "deepseek-v3-0324": DEEPSEEK_V3, "deepseek-v4-flash-0731": DEEPSEEK_V4, "kimi-k2.6": KIMI,
    "gemma-3-27b-instruct": GEMMA_3, "gemma-4-26b-a4b-it": GEMMA_4, "qwen3.6-35b-a3b-fp8": QWEN_3_6,
    "nvidia-nemotron-3-nano-30b-a3b-bf16": NEMOTRON, "nvidia-nemotron-3-nano-4b-bf16": NEMOTRON_DENSE,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_facts_of_each_family_are_those_of_the_catalogue(name: str) -> None:
    known = find_preset(name).model
    model = read_facts(FAMILIES[name], published(known))
    assert model == replace(known, parameters=None, tool_parser=None, reasoning_parser=None)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_but_the_count_of_a_quantised_models_parameters_stays_unknown(name: str) -> None:
    known = find_preset(name).model
    model = read_facts(FAMILIES[name], published(known))
    counted = () if model.quantisation is Quantisation.NONE else ("parameters",)
    assert unknown_facts(FAMILIES[name], model) == counted


def test_what_a_config_leaves_out_is_said_and_never_made_up() -> None:
    config = without(NEMOTRON, "vocab_size", "ssm_state_size") | {"intermediate_size": None}
    model = facts(config | {"moe_intermediate_size": None}, license=None)
    assert unknown_facts(config, model) == ("license", "vocabSize", "intermediateSize", "stateElements")
    assert (model.vocab_size, model.state_elements, model.mirrorable) == (None, None, False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"quant_method": "fp8"}, Quantisation.FP8),
        ({"quant_method": "gptq", "bits": 4}, Quantisation.GPTQ4),
        ({"quant_method": "gptq", "bits": 8}, Quantisation.GPTQ8),
        ({"quant_method": "gptq", "bits": 3}, Quantisation.MIXED),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, Quantisation.NF4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, Quantisation.INT8),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, Quantisation.FP8),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, Quantisation.NVFP4),
        ({"quant_method": "compressed-tensors", "format": "int-quantized"}, Quantisation.INT8),
        ({"quant_method": "compressed-tensors", "format": "dense"}, Quantisation.MIXED),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, Quantisation.NVFP4),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, Quantisation.MIXED),
        ({"quant_method": "of tomorrow"}, Quantisation.MIXED),
        ({}, Quantisation.MIXED),
        (None, Quantisation.NONE),
    ],
)
def test_quantisation_is_what_the_config_calls_it(changes: object, expected: Quantisation) -> None:
    assert facts(LLAMA | {"quantization_config": changes}).quantisation is expected


@pytest.mark.parametrize(
    ("changes", "attention", "sliding"),
    [
        ({}, None, None),
        ({"sliding_window": 4096}, None, 32),
        ({"sliding_window": 4096, "use_sliding_window": False}, None, None),
        ({"sliding_window": 512, "sliding_window_pattern": 4}, None, 24),
        ({"sliding_window": 512, "model_type": "gemma2"}, None, 16),
        ({"sliding_window": 512, "layer_types": ["full_attention"] * 32}, None, None),
        ({"layer_types": ["conv", "full_attention"] * 16}, 16, None),
        ({"layer_types": ["of tomorrow"] * 32}, None, None),
        ({"attn_layer_period": 8, "attn_layer_offset": 4}, 4, None),
        ({"num_kv_shared_layers": 12, "sliding_window": 512, "sliding_window_pattern": 4}, 20, 15),
    ],
)
def test_layers_with_a_cache_and_with_a_window_are_counted(
    changes: dict[str, Any], attention: int | None, sliding: int | None
) -> None:
    model = facts(LLAMA | changes)
    assert (model.attention_layers, model.sliding_layers) == (attention, sliding)
    assert (model.sliding_window is None) == (sliding is None)


@pytest.mark.parametrize(
    ("changes", "layers", "dense", "inner"),
    [
        ({}, None, None, 14336),
        ({"moe_intermediate_size": 768}, None, None, 768),
        ({"moe_intermediate_size": 768, "first_k_dense_replace": 2}, 30, 14336, 768),
        ({"moe_intermediate_size": 768, "decoder_sparse_step": 2}, 16, 14336, 768),
        ({"moe_intermediate_size": 768, "mlp_only_layers": [0, 5]}, 30, 14336, 768),
        ({"moe_intermediate_size": 768, "moe_layer_freq": [0] * 4 + [1] * 28}, 28, 14336, 768),
        ({"moe_intermediate_size": 768, "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 29}, 29, 14336, 768),
    ],
)
def test_layers_with_experts_are_counted_and_the_widths_told_apart(
    changes: dict[str, Any], layers: int | None, dense: int | None, inner: int
) -> None:
    model = facts(LLAMA | {"num_local_experts": 8, "num_experts_per_tok": 2} | changes)
    assert (model.experts, model.experts_per_token) == (8, 2)
    assert (model.moe_layers, model.intermediate_size, model.moe_intermediate_size) == (layers, dense, inner)


def test_one_expert_is_none() -> None:
    model = facts(LLAMA | {"num_local_experts": 1, "num_experts_per_tok": 1})
    assert (model.experts, model.experts_per_token, model.intermediate_size) == (None, None, 14336)


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        (LLAMA | {"torch_dtype": "torch.float16"}, "float16"),
        (LLAMA | {"dtype": "float32"}, "float32"),
        ({key: value for key, value in LLAMA.items() if key != "torch_dtype"}, "float16"),
    ],
)
def test_the_number_format_is_the_written_one_or_that_of_most_weights(
    config: dict[str, Any], dtype: str
) -> None:
    assert facts(config, formats={"F32": 10, "F16": 90, "I64": 500}).dtype == dtype


@pytest.mark.parametrize(
    ("config", "key_value"),
    [
        (LLAMA | {"num_key_value_heads": None}, 32),
        (LLAMA | {"num_key_value_heads": None, "multi_query": True}, 1),
    ],
)
def test_kv_heads_that_are_not_written_are_as_many_as_heads_or_one(
    config: dict[str, Any], key_value: int
) -> None:
    assert facts(config).kv_heads == key_value


def test_the_older_names_of_gpt_2_are_read() -> None:
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "torch_dtype": "float32", "n_layer": 12,
        "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
    }  # fmt: skip
    model = facts(config)
    assert (model.layers, model.hidden_size, model.heads, model.head_dim) == (12, 768, 12, 64)
    assert model.context_length == 1024


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "num_hidden_layers is missing"),
        (LLAMA | {"num_hidden_layers": "32"}, "num_hidden_layers is '32'; a whole number"),
        (LLAMA | {"hidden_size": -1}, "hidden_size is -1; a whole number"),
        (LLAMA | {"hidden_size": True}, "hidden_size is True"),
        (LLAMA | {"num_attention_heads": None}, "num_attention_heads is missing"),
        (LLAMA | {"max_position_embeddings": 0}, "max_position_embeddings is missing"),
        (LLAMA | {"architectures": []}, "architectures is missing"),
        (LLAMA | {"architectures": [7]}, "architectures is missing"),
        (LLAMA | {"torch_dtype": None}, "dtype is missing"),
        (LLAMA | {"torch_dtype": "auto"}, "dtype is 'auto'; bfloat16, float16, float32"),
        (LLAMA | {"kv_lora_rank": 512}, "makes no sense: kvLoraRank is given without qkRopeHeadDim"),
        (LLAMA | {"num_experts": 2, "num_experts_per_tok": 4}, "makes no sense: expertsPerToken"),
        (
            LLAMA | {"linear_num_value_heads": 4, "full_attention_interval": 4},
            "linear_num_key_heads' is missing",
        ),
        (LLAMA | {"num_hidden_layers": 10**8}, "100000000 layers are more than any model has"),
        (LLAMA | {"num_attention_heads": 10**8}, "makes no sense: 100000000 heads are more than a width of"),
        (LLAMA | {"vocab_size": 10**30}, "vocab_size is 1000.*; a whole number"),
        (LLAMA | {"sliding_window": "wide"}, "makes no sense: sliding_window is 'wide'"),
        (LLAMA | {"num_kv_shared_layers": float("inf")}, "makes no sense: "),
        (LLAMA | {"layer_types": 5}, "makes no sense: "),
        (LLAMA | {"num_kv_shared_layers": "all"}, "makes no sense: "),
        (LLAMA | {"mlp_only_layers": 3, "num_experts": 8}, "makes no sense: "),
    ],
)
def test_a_config_that_makes_no_sense_is_named_by_its_key(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        facts(config)


def published(model: ModelFacts) -> Published:
    return Published(
        id=model.id,
        weight_bytes=model.weight_bytes,
        license=model.license,
        gated=model.gated,
        revision=model.revision,
    )


def facts(config: Mapping[str, Any], *, license: str | None = "mit", formats: Any = None) -> ModelFacts:  # noqa: A002
    return read_facts(
        config, Published(id="org/model", weight_bytes=1000, license=license, formats=formats or {})
    )


def without(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}
