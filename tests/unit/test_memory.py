"""Bytes: known figures, and the direction in which every term moves."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kairay import memory
from kairay.memory import (
    GIB,
    AttentionKind,
    Dtype,
    MemoryUse,
    context_that_fits,
    dequantised_weight_bytes,
    grouped_kinds,
    kv_bytes,
    kv_bytes_per_token,
    logits_bytes,
    lora_parameters,
    missing_facts,
    parameter_count,
    peak_parts,
    quantised_weight_bytes,
    shape_parameters,
    split_weight_bytes,
    vllm_memory,
    weight_bytes,
)
from kairay.model_facts import Quantisation
from kairay.presets import find_preset, load_presets
from memory_models import DEEPSEEK, EXPERTS, FUSED, LLAMA, PHI3, SMOL, SPLIT, WINDOWS, model, on_cpu, work


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


def test_latent_attention_keeps_one_latent_for_all_heads_on_every_gpu() -> None:
    assert kv_bytes_per_token(DEEPSEEK, Dtype.BFLOAT16) == 70_272  # KAITO's figure for DeepSeek-R1
    split = kv_bytes(DEEPSEEK, Dtype.BFLOAT16, tokens=1000, tensor=8)
    assert split == kv_bytes(DEEPSEEK, Dtype.BFLOAT16, tokens=1000)


def test_a_kv_cache_in_8_bits_is_half_as_large() -> None:
    half = kv_bytes(LLAMA, Dtype.FLOAT8, tokens=8192)
    assert kv_bytes(LLAMA, Dtype.BFLOAT16, tokens=8192) == 2 * half


def test_layers_with_a_window_hold_no_more_than_it() -> None:
    layer = 2 * 4 * 256 * 2
    assert kv_bytes(WINDOWS, Dtype.BFLOAT16, tokens=1000) == 34 * 1000 * layer
    assert kv_bytes(WINDOWS, Dtype.BFLOAT16, tokens=9000) == (5 * 9000 + 29 * 1024) * layer
    assert kv_bytes(WINDOWS, Dtype.BFLOAT16, tokens=9000, ahead=2048) == (5 * 9000 + 29 * 3072) * layer


def test_only_attending_layers_grow_with_the_context_and_states_do_not() -> None:
    hybrid = model(attention_layers=6, state_elements=1_000_000)
    one, two = (kv_bytes(hybrid, Dtype.BFLOAT16, tokens=tokens) for tokens in (1000, 2000))
    assert two - one == 6 * 1000 * 2 * 8 * 64 * 2
    assert one - (two - one) == 4_000_000


def test_full_layers_may_have_other_heads_than_those_with_a_window() -> None:
    mixed = replace(WINDOWS, full_kv_heads=1, full_head_dim=512)
    assert memory.attention_kinds(mixed) == (
        AttentionKind(layers=29, kv_heads=4, head_dim=256, window=1024),
        AttentionKind(layers=5, kv_heads=1, head_dim=512, window=None),
    )


def test_heads_are_split_over_gpus_and_repeated_where_they_are_too_few() -> None:
    whole = kv_bytes(LLAMA, Dtype.BFLOAT16, tokens=4096)
    parts = [kv_bytes(LLAMA, Dtype.BFLOAT16, tokens=4096, tensor=tensor) for tensor in (2, 8, 16)]
    assert parts == [whole // 2, whole // 8, whole // 8]
    assert kv_bytes(LLAMA, Dtype.BFLOAT16, tokens=4096, pipeline=3) == whole * 11 // 32


def test_vllm_fills_the_commoner_kind_of_layers_up_to_whole_groups() -> None:
    assert [kind.layers for kind in grouped_kinds(WINDOWS)] == [30, 5]
    even = replace(WINDOWS, layers=36, sliding_layers=18)
    assert [kind.layers for kind in grouped_kinds(even)] == [18, 18]
    assert [kind.layers for kind in grouped_kinds(LLAMA)] == [32]


def test_the_context_that_fits_is_the_longest() -> None:
    for of in (LLAMA, WINDOWS, DEEPSEEK):
        for gib in (1, 2, 5):
            tokens = context_that_fits(of, Dtype.BFLOAT16, available=gib * GIB)
            assert kv_bytes(of, Dtype.BFLOAT16, tokens=tokens) <= gib * GIB
            longer = kv_bytes(of, Dtype.BFLOAT16, tokens=tokens + 1)
            assert tokens == of.context_length or longer > gib * GIB
    assert context_that_fits(LLAMA, Dtype.BFLOAT16, available=1000) == 0


def test_float32_weights_take_twice_the_published_ones() -> None:
    assert weight_bytes(SMOL, Dtype.FLOAT32) == pytest.approx(2 * weight_bytes(SMOL, Dtype.BFLOAT16), abs=2)
    assert parameter_count(SMOL) == pytest.approx(134.5e6, rel=0.001)


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_the_shape_accounts_for_the_published_weights(name: str) -> None:
    of = find_preset(name).model
    counted = shape_parameters(of)
    if counted is None or of.quantisation is not Quantisation.NONE:
        return
    # File sizes are known to a hundredth of a GiB.
    assert counted * Dtype(of.dtype).bytes == pytest.approx(of.weight_bytes, rel=0.001, abs=0.006 * GIB)


def test_quantised_weights_stay_as_published() -> None:
    assert weight_bytes(DEEPSEEK, Dtype.BFLOAT16) == pytest.approx(641.3 * GIB * 1.02, rel=1e-6)
    assert weight_bytes(DEEPSEEK, Dtype.BFLOAT16) == weight_bytes(DEEPSEEK, Dtype.FLOAT32)
    assert quantised_weight_bytes(DEEPSEEK, Dtype.BFLOAT16) == weight_bytes(DEEPSEEK, Dtype.BFLOAT16)
    assert parameter_count(DEEPSEEK) == pytest.approx(688e9, rel=0.01)  # 671 billion and scales


def test_weights_are_split_by_layers_and_inside_them() -> None:
    whole = weight_bytes(LLAMA, Dtype.BFLOAT16)
    assert split_weight_bytes(LLAMA, Dtype.BFLOAT16, tensor=1, pipeline=1) == whole
    assert split_weight_bytes(LLAMA, Dtype.BFLOAT16, tensor=4, pipeline=1) == -(-whole // 4)
    assert split_weight_bytes(LLAMA, Dtype.BFLOAT16, tensor=1, pipeline=3) == -(-whole * 11 // 32)


def test_nf4_takes_half_a_byte_and_its_constants_for_linear_layers_only() -> None:
    linear = 32 * (3072 * 9216 + 3072 * 3072 + 3 * 3072 * 8192)
    rest = parameter_count(PHI3) - linear
    expected = linear * (0.5 + 0.127 / 8) + rest * 2
    assert quantised_weight_bytes(PHI3, Dtype.BFLOAT16) == pytest.approx(expected, rel=1e-4)


def test_nf4_leaves_experts_alone() -> None:
    experts = 24 * 128 * 3 * 1024 * 768
    assert memory.expert_parameters(EXPERTS) == experts
    assert quantised_weight_bytes(EXPERTS, Dtype.BFLOAT16) > 2 * experts


def test_a_processor_turns_small_models_back_into_numbers_and_leaves_large_ones_packed() -> None:
    small = dequantised_weight_bytes(SMOL, Dtype.FLOAT32, layers=None)
    assert small == pytest.approx(parameter_count(SMOL) * 4, rel=0.001)
    some = dequantised_weight_bytes(SMOL, Dtype.FLOAT32, layers=16)
    assert quantised_weight_bytes(SMOL, Dtype.FLOAT32) < some < small
    packed = quantised_weight_bytes(PHI3, Dtype.FLOAT32)
    assert dequantised_weight_bytes(PHI3, Dtype.FLOAT32, layers=None) == packed


def test_a_fact_that_is_not_known_is_left_out_and_named() -> None:
    unknown = replace(PHI3, vocab_size=None, intermediate_size=None)
    assert missing_facts(unknown) == ("its vocabulary size", "its intermediate size")
    assert logits_bytes(on_cpu(unknown)) == 0
    assert lora_parameters(unknown, modules=FUSED, rank=1, layers=1) == (3072 + 9216) + 6144
    assert shape_parameters(unknown) is None
    assert missing_facts(PHI3) == ()
    assert missing_facts(EXPERTS) == ()
    assert missing_facts(replace(EXPERTS, moe_intermediate_size=None)) == ("the size of its experts",)


def test_vllms_activations_are_those_that_it_reports() -> None:
    # vllm-project/vllm#10511: Meta-Llama-3-8B on H100s, 8,192 tokens, 256 requests: 1.26 GiB with one and two GPUs
    for tensor in (1, 2):
        use = vllm_memory(LLAMA, Dtype.BFLOAT16, batch_tokens=8192, requests=256, tensor=tensor, pipeline=1)
        assert use.activations / GIB == pytest.approx(1.26, rel=0.05)


def test_an_adapter_is_merged_into_copies_by_one_engine_and_kept_apart_by_the_other() -> None:
    tuning = find_preset("smollm2-135m-instruct").tuning
    assert tuning is not None
    layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536
    assert memory.merged_adapter_bytes(SMOL, Dtype.FLOAT32, tuning) == 16 * layer * 4
    apart = memory.lora_slot_bytes(SMOL, Dtype.FLOAT32, tuning, tensor=1)
    assert apart == lora_parameters(SMOL, modules=SPLIT, rank=16, layers=None) * 4


@pytest.mark.parametrize("seed", range(30))
def test_more_context_tokens_rank_or_layers_never_need_less(seed: int) -> None:
    draw = random.Random(seed)
    of = draw.choice([LLAMA, SMOL, WINDOWS, EXPERTS, DEEPSEEK, PHI3])
    dtype = draw.choice([Dtype.BFLOAT16, Dtype.FLOAT32, Dtype.FLOAT8])
    few, many = sorted(draw.randrange(1, of.context_length) for _ in range(2))
    split = {
        "tensor": draw.choice([1, 2, 4]),
        "pipeline": draw.choice([1, 2, 3]),
        "ahead": draw.choice([0, 2048]),
    }
    assert kv_bytes(of, dtype, tokens=few, **split) <= kv_bytes(of, dtype, tokens=many, **split)
    task = work(
        of, on_gpu=draw.random() < 0.5, checkpointing=draw.random() < 0.5, quantised=draw.random() < 0.5,
        dropout=draw.choice([0.0, 0.1]), tokens=few, targets=few,
    )  # fmt: skip
    longer = replace(task, tokens=many, targets=many)
    assert sum(peak_parts(task)) <= sum(peak_parts(longer))
    assert sum(peak_parts(task)) <= sum(peak_parts(replace(task, rank=2 * task.rank)))
    assert sum(peak_parts(replace(task, layers=1))) <= sum(peak_parts(task))


def test_memory_fits_up_to_its_limit_and_shows_what_is_left() -> None:
    use = MemoryUse(capacity=10 * GIB, limit=8 * GIB, weights=5 * GIB, kv_cache=3 * GIB)
    assert use.fits
    assert (use.total, use.headroom, use.headroom_percent) == (8 * GIB, 2 * GIB, 20)
    assert not replace(use, overhead=1).fits
