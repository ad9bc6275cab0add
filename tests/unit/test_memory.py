"""Bytes: known figures, and the direction in which every term moves."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from kairay import memory
from kairay.memory import (
    GIB,
    AttentionKind,
    Dtype,
    MemoryUse,
    Optimizer,
    TuningWork,
    adapter_bytes,
    context_that_fits,
    dequantised_bytes,
    dequantised_weight_bytes,
    frozen_hidden_bytes,
    grouped_kinds,
    kv_bytes,
    kv_bytes_per_token,
    logits_bytes,
    lora_parameters,
    missing_facts,
    optimizer_bytes,
    parameter_count,
    peak_parts,
    quantised_weight_bytes,
    shape_parameters,
    split_weight_bytes,
    vllm_memory,
    weight_bytes,
)
from kairay.model_facts import ModelFacts, Quantisation
from kairay.presets import find_preset, load_presets

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


def test_hidden_states_below_the_tuned_layers_are_kept_up_to_a_limit() -> None:
    assert frozen_hidden_bytes(SMOL, Dtype.FLOAT32, layers=16, data_tokens=1000) == 1000 * 576 * 4
    assert frozen_hidden_bytes(SMOL, Dtype.FLOAT32, layers=16, data_tokens=10**6) == 0
    assert frozen_hidden_bytes(SMOL, Dtype.FLOAT32, layers=16, data_tokens=None) == GIB // 2
    assert frozen_hidden_bytes(SMOL, Dtype.FLOAT32, layers=None, data_tokens=1000) == 0


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


def test_lora_finds_no_linear_mlp_among_experts() -> None:
    attention = lora_parameters(EXPERTS, modules=SPLIT[:4], rank=8, layers=None)
    assert lora_parameters(EXPERTS, modules=SPLIT, rank=8, layers=None) == attention


def test_a_trained_parameter_costs_sixteen_bytes_and_eight_for_qlora_on_a_gpu() -> None:
    assert adapter_bytes(1) + optimizer_bytes(1) == 16
    half = memory.adapter_dtype(quantised=True, on_gpu=True)
    assert adapter_bytes(1, dtype=half) + optimizer_bytes(1, dtype=half) == 8


def test_smaller_optimisers_take_a_quarter_or_give_way() -> None:
    assert optimizer_bytes(1024, optimizer=Optimizer.ADAMW_8BIT) == 2048 + 32
    assert optimizer_bytes(1024, optimizer=Optimizer.PAGED_ADAMW_8BIT) == 0
    assert optimizer_bytes(1024, optimizer=Optimizer.PAGED_ADAMW) == 0


def test_zero_splits_what_is_trained_and_ddp_does_not() -> None:
    assert memory.gradient_bytes(1000, workers=4) == 8000
    assert memory.gradient_bytes(1000, workers=4, zero=True) == 1000
    assert optimizer_bytes(1000, dtype=Dtype.BFLOAT16, workers=4, zero=True) == 3000
    assert optimizer_bytes(1000, workers=4) == 8000
    assert memory.zero_bucket_bytes(Dtype.BFLOAT16) == 10**9


def test_zero3_splits_the_weights_and_holds_two_layers_whole() -> None:
    layer = 4096 * (4096 + 1024) * 2 + 3 * 4096 * 14336
    split = memory.zero3_weight_bytes(LLAMA, 16 * GIB, Dtype.BFLOAT16, workers=4)
    assert split == 4 * GIB + 2 * layer * 2
    assert memory.zero3_weight_bytes(LLAMA, 16 * GIB, Dtype.BFLOAT16, workers=1) == 16 * GIB


def test_scores_are_whole_on_a_processor_and_tiles_on_a_gpu() -> None:
    assert logits_bytes(on_cpu(tokens=2048, targets=1000)) == 49_152 * 1000 * 12
    assert logits_bytes(work()) == 4096 * 32768 * 2 + 4096 * 4096 * 6


@pytest.mark.parametrize("checkpointing", [True, False])
def test_activations_grow_with_tokens(checkpointing: bool) -> None:
    sizes = [
        sum(peak_parts(work(PHI3, tokens=tokens, targets=tokens, checkpointing=checkpointing)))
        for tokens in (1, 512, 1024, 4096)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0


def test_checkpointing_saves_most_activations() -> None:
    kept = memory.kept_bytes(work(PHI3, modules=FUSED, checkpointing=False))
    assert memory.kept_bytes(work(PHI3, modules=FUSED)) < kept / 8


def test_layers_below_the_tuned_ones_keep_nothing_unless_they_are_computed_again() -> None:
    all_layers, half = (memory.kept_bytes(on_cpu(layers=layers)) for layers in (None, 15))
    assert half == pytest.approx(all_layers / 2, rel=0.01)
    assert memory.kept_bytes(work(layers=16)) == memory.kept_bytes(work(layers=None))


def test_dropout_gives_every_module_an_input_of_its_own() -> None:
    assert memory.layer_bytes(work(dropout=0.05)) > memory.layer_bytes(work())
    assert memory.layer_bytes(work(modules=SPLIT[:2])) < memory.layer_bytes(work())


def test_rows_that_attend_behind_a_mask_cost_the_square_of_their_tokens() -> None:
    strange = replace(SMOL, architecture="SomethingElse")
    more = memory.kept_bytes(on_cpu(strange)) - memory.kept_bytes(on_cpu())
    put_together = 30 * 512 * 576 * 4  # the output of attention, a second time
    assert more == 512**2 * (1 + 30 * 4) - put_together


def test_the_matrix_that_is_expanded_is_the_largest() -> None:
    assert dequantised_bytes(MISTRAL, Dtype.BFLOAT16) == 4096 * 14336 * 2
    assert dequantised_bytes(PHI3, Dtype.BFLOAT16) == 3072 * 2 * 8192 * 2


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


def test_torchtunes_qlora_of_8b_is_reproduced() -> None:
    """torchtune's README: Llama 3.1 8B, QLoRA on a 4090, batch 2 × 2048, 7.4 GiB at peak, of tensors alone.

    Its recipe (8B_qlora_single_device): rank 8 on queries, values, output and the MLP, activations recomputed. Ours is
    0.5 GiB above: torch.compile, which it was run with, fuses the norms and the MLP's products, whose float32 copies we
    count in the layer that is computed again.
    """
    task = work(rank=8, modules=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
    lora = lora_parameters(LLAMA, modules=task.modules, rank=8, layers=None)
    total = quantised_weight_bytes(LLAMA, Dtype.BFLOAT16) + sum(peak_parts(task))
    total += adapter_bytes(lora, dtype=Dtype.BFLOAT16) + optimizer_bytes(lora, dtype=Dtype.BFLOAT16)
    assert total / GIB == pytest.approx(7.4, rel=0.1)


@pytest.mark.parametrize(
    ("name", "method", "gigabytes"),
    [
        ("mistral-7b-v0.3", "qlora", 6),
        ("phi-4", "qlora", 12),
        ("qwen2.5-coder-32b-instruct", "qlora", 24),
        ("mistral-7b-v0.3", "lora", 16),
        ("phi-4", "lora", 32),
        ("qwen2.5-coder-32b-instruct", "lora", 64),
    ],
)
def test_llama_factorys_table_is_reproduced(name: str, method: str, gigabytes: int) -> None:
    """LLaMA-Factory's README, hardware requirement, "estimated": x/2 GB for x billion parameters in 4 bits, 2 x GB in
    16, and 6 and 16 GB for 7 billion.

    Its figures are round, for models of 7, 14 and 30 billion, and leave out the context; ours are of 512 tokens and of
    the real counts (7.2, 14.7, 32.8). Large vocabularies stay in 16 bits, which its rule does not see: within 25 %.
    """
    of, modules = find_preset(name).model, find_preset(name).tuning
    assert modules is not None
    quantised = method == "qlora"
    task = work(of, quantised=quantised, modules=modules.target_modules, rank=8, tokens=512, targets=512)
    dtype = memory.adapter_dtype(quantised=quantised, on_gpu=True)
    lora = lora_parameters(of, modules=task.modules, rank=8, layers=None)
    weights = quantised_weight_bytes if quantised else weight_bytes
    total = weights(of, Dtype.BFLOAT16) + sum(peak_parts(task)) + memory.CUDA_CONTEXT
    total += adapter_bytes(lora, dtype=dtype) + optimizer_bytes(lora, dtype=dtype)
    assert total / 1e9 == pytest.approx(gigabytes, rel=0.25)


def test_a_chosen_expert_keeps_gate_activation_up_and_its_output() -> None:
    # as torch's saved-tensor hooks list them for Qwen3-MoE: 59,128 bytes a token and layer
    shape = model(
        architecture="Qwen3MoeForCausalLM", layers=1, hidden_size=768, heads=12, kv_heads=4, experts=8,
        experts_per_token=4, moe_intermediate_size=384, intermediate_size=None,
    )  # fmt: skip
    task = on_cpu(shape, modules=SPLIT[:4], tokens=500)
    assert memory.layer_bytes(task) / 500 == pytest.approx(59_128, rel=0.01)


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
