"""Bytes: known figures, and the direction in which every term moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kairay.memory import (
    GIB,
    Dtype,
    MemoryUse,
    adapter_bytes,
    dequantised_bytes,
    kv_bytes_per_token,
    logits_bytes,
    lora_parameters,
    missing_facts,
    optimizer_bytes,
    parameter_count,
    quantised_weight_bytes,
    tuning_activation_bytes,
    weight_bytes,
)
from kairay.presets import find_preset

PHI3 = find_preset("phi-3-mini-128k-instruct").model
SMOL = find_preset("smollm2-135m-instruct").model
MISTRAL = find_preset("mistral-7b-v0.3").model
SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        # reference figures of KAITO's catalogue, at two bytes a number
        ("phi-4", 204800),
        ("phi-4-mini-instruct", 131072),
        ("phi-3-mini-4k-instruct", 393216),
        ("qwen2.5-coder-7b-instruct", 57344),
        ("qwen2.5-coder-32b-instruct", 262144),
        ("llama-3.1-8b-instruct", 131072),
    ],
)
def test_kv_cache_per_token_is_kaitos(name: str, per_token: int) -> None:
    assert kv_bytes_per_token(find_preset(name).model, Dtype.BFLOAT16) == per_token


def test_float32_weights_take_twice_the_published_ones() -> None:
    assert weight_bytes(SMOL, Dtype.FLOAT32) == pytest.approx(2 * weight_bytes(SMOL, Dtype.BFLOAT16), abs=2)
    assert parameter_count(SMOL) == pytest.approx(134.5e6, rel=0.001)


def test_nf4_takes_half_a_byte_and_its_constants_for_what_is_not_embedding() -> None:
    linear = parameter_count(PHI3) - 2 * 32064 * 3072
    expected = linear * (0.5 + 0.127 / 8) + 2 * 32064 * 3072 * 2
    assert quantised_weight_bytes(PHI3, Dtype.BFLOAT16) == pytest.approx(expected, rel=1e-4)


def test_lora_counts_are_pefts() -> None:
    # peft's print_trainable_parameters: Mistral-7B, all linear layers, r = 16
    assert lora_parameters(MISTRAL, modules=SPLIT, rank=16, layers=None) == 41_943_040
    # SmolLM2-135M: the adapter measured at 10 MB for the last 16 layers, in float32
    assert lora_parameters(SMOL, modules=SPLIT, rank=16, layers=16) * 4 == pytest.approx(10e6, rel=0.1)


def test_fused_modules_are_counted_as_they_are() -> None:
    assert (
        lora_parameters(PHI3, modules=FUSED, rank=1, layers=1)
        == (3072 + 9216) + 6144 + (3072 + 16384) + 11264
    )


def test_lora_in_more_layers_than_there_are_is_lora_in_all() -> None:
    everywhere = lora_parameters(SMOL, modules=SPLIT, rank=8, layers=None)
    assert lora_parameters(SMOL, modules=SPLIT, rank=8, layers=99) == everywhere


def test_a_trained_parameter_costs_sixteen_bytes() -> None:
    assert adapter_bytes(1) + optimizer_bytes(1) == 16


def test_logits_cost_the_vocabulary_twice_in_float32() -> None:
    assert logits_bytes(PHI3, tokens=2048) == 32064 * 2048 * 8


@pytest.mark.parametrize("checkpointing", [True, False])
def test_activations_grow_with_tokens(checkpointing: bool) -> None:
    sizes = [
        tuning_activation_bytes(PHI3, Dtype.BFLOAT16, tokens=tokens, checkpointing=checkpointing)
        for tokens in (1, 512, 1024, 4096)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0


def test_checkpointing_saves_most_activations() -> None:
    kept = tuning_activation_bytes(PHI3, Dtype.BFLOAT16, tokens=2048, checkpointing=False)
    assert tuning_activation_bytes(PHI3, Dtype.BFLOAT16, tokens=2048, checkpointing=True) < kept / 8


def test_the_matrix_that_is_expanded_is_the_largest() -> None:
    assert dequantised_bytes(MISTRAL, Dtype.BFLOAT16) == 4096 * 2 * 14336 * 2


def test_a_fact_that_is_not_known_is_left_out_and_named() -> None:
    unknown = replace(PHI3, vocab_size=None, intermediate_size=None)
    assert missing_facts(unknown) == ("its vocabulary size", "its intermediate size")
    assert logits_bytes(unknown, tokens=2048) == 0
    assert lora_parameters(unknown, modules=FUSED, rank=1, layers=1) == (3072 + 9216) + 6144
    assert missing_facts(PHI3) == ()


def test_memory_fits_up_to_its_limit_and_shows_what_is_left() -> None:
    use = MemoryUse(capacity=10 * GIB, limit=8 * GIB, weights=5 * GIB, kv_cache=3 * GIB)
    assert use.fits
    assert (use.total, use.headroom, use.headroom_percent) == (8 * GIB, 2 * GIB, 20)
    assert not replace(use, overhead=1).fits
