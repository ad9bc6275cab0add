"""GGUF files become what transformers reads, or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kairay.errors import InputError
from kairay.registry.gguf import convert_gguf
from kairay.registry.model_folder import check_model_folder
from kairay.registry.models import resolve_model
from written_models import preset_from

WIDTH, HEADS, KV_HEADS, VOCABULARY = 8, 2, 1, 300
HEAD_WIDTH = WIDTH // HEADS


def interleaved(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k as llama.cpp's own converter stores them (`permute` in its convert script)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(
    path: Path, *, architecture: str = "llama", pre: str = "smollm", extra: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """A Llama of one layer, and the values that transformers should see under its own names."""
    random = np.random.default_rng(0)

    def values(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    writer = GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(16)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = ["<|end|>", "<|start|>", *_byte_letters(), "ab"]
    writer.add_token_list(tokens + [f"[{i}]" for i in range(VOCABULARY - len(tokens))])
    writer.add_token_types([3, 3] + [1] * (VOCABULARY - 2))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    q, k = values(WIDTH, WIDTH), values(KV_HEADS * HEAD_WIDTH, WIDTH)
    expected = {
        "model.embed_tokens.weight": values(VOCABULARY, WIDTH),
        "model.norm.weight": values(WIDTH),
        "model.layers.0.self_attn.q_proj.weight": q,
        "model.layers.0.self_attn.k_proj.weight": k,
        "model.layers.0.mlp.down_proj.weight": values(WIDTH, 16),
    }
    writer.add_tensor("token_embd.weight", expected["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", expected["model.norm.weight"])
    writer.add_tensor("blk.0.attn_q.weight", interleaved(q, HEADS))
    writer.add_tensor("blk.0.attn_k.weight", interleaved(k, KV_HEADS))
    writer.add_tensor("blk.0.ffn_down.weight", expected["model.layers.0.mlp.down_proj.weight"])
    if extra:
        writer.add_tensor(extra, values(2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _byte_letters() -> list[str]:
    """The letters that byte-level BPE writes bytes with; the printable ASCII ones stand for themselves."""
    return [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ"]


def test_a_gguf_becomes_the_tensors_that_transformers_names(tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "m.gguf")
    (tmp_path / "m").mkdir()
    convert_gguf(tmp_path / "m.gguf", tmp_path / "m")
    found = load_file(check_model_folder(tmp_path / "m") / "model.safetensors")
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_converted_config_says_what_the_gguf_says(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in {
        "hidden_size": WIDTH,
        "head_dim": HEAD_WIDTH,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }.items():
        assert config[key] == value, key
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 64
    assert "messages" in (tmp_path / "chat_template.jinja").read_text()


def test_a_smollm_tokenizer_splits_digits_and_keeps_control_tokens_whole(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("ab 19<|end|>").tokens == ["ab", "Ġ", "1", "9", "<|end|>"]
    assert tokenizer.decode(tokenizer.encode("ab 19<|end|>").ids) == "ab 19"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"not a model at all, but long enough"), "not a GGUF file"),
        (lambda path: path.write_bytes(b""), "not a GGUF file"),
        (lambda path: write_gguf(path, architecture="mamba"), "architecture is mamba"),
        (lambda path: write_gguf(path, pre="llama-bpe"), "gpt2/llama-bpe"),
        (lambda path: write_gguf(path, extra="rope_freqs.weight"), "rope_freqs.weight"),
    ],
)
def test_a_gguf_that_is_no_plain_llama_is_refused(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "m.gguf")
    with pytest.raises(InputError, match=words):
        convert_gguf(tmp_path / "m.gguf", tmp_path)


def test_a_gguf_file_given_by_hand_is_converted_once(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    said: list[str] = []
    for _ in range(2):
        folder = resolve_model(
            preset_from(), override=str(tmp_path / "m.gguf"), cache=tmp_path / "cache", report=said.append
        )
    assert folder.parent == tmp_path / "cache"
    assert len(said) == 1
