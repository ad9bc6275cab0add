"""The demo's real model: converted from its wheel, equal to gguf's own values, and able to answer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from safetensors import safe_open

from kairay.presets import SourceKind, find_preset
from kairay.registry.models import model_cache_dir, resolve_model

pytestmark = pytest.mark.local

PRESET = find_preset("smollm2-135m-instruct")
SOURCE = next(source for source in PRESET.sources if source.kind is SourceKind.WHEEL)


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        distribution(SOURCE.name)
    except PackageNotFoundError:
        pytest.skip(f"the Python package {SOURCE.name} is not installed (`make demo` brings it)")
    return resolve_model(PRESET, override=None, cache=model_cache_dir(), report=print)


def test_values_are_those_of_the_gguf(folder: Path) -> None:
    assert SOURCE.file is not None
    reader = GGUFReader(Path(str(distribution(SOURCE.name).locate_file(SOURCE.file))))
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def dequantised(name: str) -> np.ndarray:
        return dequantize(tensors[name].data, tensors[name].tensor_type)

    with safe_open(folder / "model.safetensors", framework="np") as weights:
        assert len(weights.keys()) == len(tensors)
        for theirs, ours in {
            "token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight",
            "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
            "blk.3.attn_v.weight": "model.layers.3.self_attn.v_proj.weight",
        }.items():
            np.testing.assert_array_equal(weights.get_tensor(ours), dequantised(theirs), err_msg=ours)
        # Of each head's 64 rows, llama.cpp's rows 0, 2, 4, … are transformers' first half.
        query = weights.get_tensor("model.layers.7.self_attn.q_proj.weight").reshape(9, 2, 32, 576)
        stored = dequantised("blk.7.attn_q.weight").reshape(9, 32, 2, 576)
        np.testing.assert_array_equal(query[:, 0], stored[:, :, 0])
        np.testing.assert_array_equal(query[:, 1], stored[:, :, 1])


def test_the_preset_tells_the_truth_about_the_model(folder: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    facts = PRESET.model
    assert config.architectures == [facts.architecture]
    for told, true in (
        (facts.layers, config.num_hidden_layers),
        (facts.hidden_size, config.hidden_size),
        (facts.heads, config.num_attention_heads),
        (facts.kv_heads, config.num_key_value_heads),
        (facts.head_dim, config.head_dim),
        (facts.vocab_size, config.vocab_size),
        (facts.intermediate_size, config.intermediate_size),
        (facts.tied_embeddings, config.tie_word_embeddings),
        (facts.context_length, config.max_position_embeddings),
    ):
        assert told == true


def test_it_knows_the_capital_of_france(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."
    assert answer[-1] == tokenizer.eos_token_id
