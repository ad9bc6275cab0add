"""Parameters and KV cache counted from a preset's facts, against the modules that transformers builds without memory.

To the last parameter and byte, for every preset of the catalogue whose shape we count; and the rules that the
estimator shares with the job's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.local

torch = pytest.importorskip("torch", reason="torch is not installed")

import transformers  # noqa: E402

from kairay import memory  # noqa: E402
from kairay.memory import Dtype, serving  # noqa: E402
from kairay.model_facts import ModelFacts  # noqa: E402
from kairay.plan_replica import TRANSFORMERS_BATCH  # noqa: E402
from kairay.presets import find_preset, load_presets  # noqa: E402
from kairay.registry import resolve  # noqa: E402
from kairay_serve import batching  # noqa: E402
from kairay_train import batches, model  # noqa: E402
from kairay_train.job import ZERO2  # noqa: E402

TOKENS = 300


def counted() -> Iterator[tuple[str, ModelFacts]]:
    """Presets whose shape is known, each shape once."""
    seen = set()
    for name, preset in load_presets().items():
        size = memory.shape_parameters(preset.model)
        if size is not None and (preset.model.architecture, size) not in seen:
            seen.add((preset.model.architecture, size))
            yield name, preset.model


COUNTED = dict(counted())


@cache
def built(of: ModelFacts) -> Any:
    """transformers' model of this shape, on the device that holds nothing."""
    config = getattr(transformers, of.architecture.replace("ForCausalLM", "Config"))
    experts = {
        "num_local_experts": of.experts,
        "num_experts": of.experts,
        "num_experts_per_tok": of.experts_per_token,
        "moe_intermediate_size": of.moe_intermediate_size,
    }
    with torch.device("meta"):
        return getattr(transformers, of.architecture)._from_config(
            config(
                vocab_size=of.vocab_size,
                hidden_size=of.hidden_size,
                num_hidden_layers=of.layers,
                num_attention_heads=of.heads,
                num_key_value_heads=of.kv_heads,
                head_dim=of.head_dim,
                # An expert's inner width has this name where all layers are mixtures.
                intermediate_size=of.intermediate_size or of.moe_intermediate_size,
                tie_word_embeddings=of.tied_embeddings,
                max_position_embeddings=of.context_length,
                sliding_window=of.sliding_window,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                **(experts if of.experts else {}),
            ),
            dtype=torch.bfloat16,
        )


def test_most_architectures_that_can_be_tuned_are_counted() -> None:
    tuned = {preset.model.architecture for preset in load_presets().values() if preset.tuning is not None}
    assert tuned <= {of.architecture for of in COUNTED.values()}
    assert len(COUNTED) >= 14


@pytest.mark.parametrize("architecture", sorted(resolve._TARGETS))
def test_the_paths_of_what_lora_may_go_to_are_those_that_transformers_builds(architecture: str) -> None:
    of = replace(find_preset("llama-3.1-8b-instruct").model, architecture=architecture, layers=3)
    leaves = (torch.nn.Linear, torch.nn.Embedding)
    made = [path for path, module in built(of).named_modules() if isinstance(module, leaves)]
    paths = memory.module_paths(of)
    assert paths is not None
    assert sorted(paths) == sorted(made)


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_and_kv_cache_are_counted_exactly(name: str) -> None:
    of = COUNTED[name]
    made = built(of)
    assert sum(parameter.numel() for parameter in made.parameters()) == memory.shape_parameters(of)
    cache = transformers.StaticCache(config=made.config, max_cache_len=TOKENS)
    with torch.no_grad():
        made.model(
            input_ids=torch.zeros(1, TOKENS, dtype=torch.long, device="meta"),
            past_key_values=cache,
            use_cache=True,
        )
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert held == memory.kv_bytes(of, Dtype.BFLOAT16, tokens=TOKENS)


def test_linear_modules_are_those_that_lora_finds() -> None:
    for of in COUNTED.values():
        sizes: dict[str, set[int]] = {}
        for path, module in built(of).named_modules():
            if isinstance(module, torch.nn.Linear) and ".layers." in path:
                sizes.setdefault(path.rpartition(".")[2], set()).add(module.in_features + module.out_features)
        shapes = {name: {wide + high} for name, (wide, high) in memory.module_shapes(of).items()}
        assert {name: sizes[name] for name in shapes} == shapes
        assert len(shapes) >= 4


@pytest.mark.parametrize(
    "shape",
    [
        {"architecture": "LlamaForCausalLM", "intermediate_size": 1024},
        {
            "architecture": "Qwen3MoeForCausalLM",
            "experts": 8,
            "experts_per_token": 2,
            "moe_intermediate_size": 256,
        },
    ],
    ids=["dense", "experts stay as they are"],
)
def test_nf4_weights_are_those_that_bitsandbytes_stores(shape: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    of = ModelFacts(
        id="test/model", license="mit", mirrorable=True, weight_bytes=1, dtype="float32", layers=4, hidden_size=512,
        heads=8, kv_heads=4, head_dim=64, vocab_size=1000, context_length=1024, **shape,
    )  # fmt: skip
    of = replace(of, weight_bytes=4 * (memory.shape_parameters(of) or 0))
    made = built(of).to_empty(device="cpu").float()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    made.save_pretrained(tmp_path)
    quantised = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        dtype=torch.float32,
        device_map={"": "cpu"},
        quantization_config=transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
    )
    stored = 0
    for parameter in quantised.parameters():
        stored += parameter.nbytes
        if (state := getattr(parameter, "quant_state", None)) is not None:
            stored += state.absmax.nbytes + state.state2.absmax.nbytes
    assert memory.quantised_weight_bytes(of, Dtype.FLOAT32) == pytest.approx(stored, rel=0.0005)


def test_the_estimator_knows_which_rows_attend_alone() -> None:
    assert batches._ARCHITECTURES == memory.ROWS_ARCHITECTURES


def test_the_estimator_knows_the_engines_pages() -> None:
    assert batching.DEFAULT_PAGE_TOKENS == serving._PAGE_TOKENS
    assert batching.DEFAULT_BATCH_TOKENS == TRANSFORMERS_BATCH


def test_deepspeeds_bucket_is_left_at_its_default() -> None:
    zero: Any = ZERO2["zero_optimization"]
    assert "reduce_bucket_size" not in zero
    assert memory.zero_bucket_bytes(Dtype.BFLOAT16) == 2 * 500_000_000


def test_layers_that_are_too_large_together_stay_in_4_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    layers = torch.nn.ModuleList(
        torch.nn.ModuleList([bitsandbytes.nn.Linear4bit(64, 64, bias=False, quant_type="nf4")])
        for _ in range(2)
    ).to("cpu")
    monkeypatch.setattr(model, "DEQUANTISED_LIMIT", 64 * 64 * 4 + 1)
    assert model.dequantise(layers, model.DataType.FLOAT32) == 0
    assert model.dequantise(layers[1:], model.DataType.FLOAT32) == 64 * 64 * 4
