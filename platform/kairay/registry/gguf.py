"""A GGUF file of Llama's shape becomes a Hugging Face model folder, without torch.

Writes `config.json`, `generation_config.json`, `model.safetensors` (float32), `tokenizer.json`,
`tokenizer_config.json` and `chat_template.jinja`. Quantised tensors are dequantised by gguf's own code, so
the values are those that llama.cpp computes with. Assumes a byte-level BPE tokenizer and rotary embeddings
without scaling, and refuses a file that is otherwise. Tensors go to the disk one by one: memory stays near
the size of the largest.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGUFReader, ReaderTensor, dequantize
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from kairay.errors import InputError

_FLOAT32_BYTES: Final = 4
_CONTROL_TOKEN, _USER_TOKEN = 3, 4  # gguf.TokenType

_GLOBAL_NAMES: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weight:
    """One tensor: its name in transformers, its shape there, and where its values are."""

    name: str
    shape: tuple[int, ...]
    source: ReaderTensor
    rotary_heads: int | None
    """Heads whose rows llama.cpp keeps interleaved; None for all but q and k."""


def convert_gguf(file: Path, into: Path) -> None:
    """Write the model of `file` as a folder of transformers' layout into the existing folder `into`.

    InputError: the file is no GGUF or not of a shape that is known here. OSError from the disk passes
    through.
    """
    reader = _open(file)
    architecture = _value(reader, "general.architecture")
    if architecture != "llama":
        raise InputError(
            f"{file}: its architecture is {architecture}; only GGUF files of Llama's shape can be converted"
        )
    weights = [_weight(reader, tensor, file) for tensor in reader.tensors]
    _write_weights(weights, into / "model.safetensors")
    config = _config(reader, tied=all(weight.name != "lm_head.weight" for weight in weights))
    _write_json(into / "config.json", config)
    specials = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(into / "generation_config.json", specials)
    _write_tokenizer(reader, into, file)


def _open(file: Path) -> GGUFReader:
    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{file}: not a GGUF file that can be read ({error}); fetch it again") from error
    if missing := [
        key for key in ("general.architecture", "tokenizer.ggml.tokens") if reader.get_field(key) is None
    ]:
        raise InputError(f"{file}: this GGUF file has no {missing[0]}; take one that holds a whole model")
    return reader


def _value(reader: GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _weight(reader: GGUFReader, tensor: ReaderTensor, file: Path) -> _Weight:
    match tensor.name.split("."):
        case ["blk", layer, part, "weight"] if part in _LAYER_NAMES:
            name = f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
        case [part, "weight"] if part in _GLOBAL_NAMES:
            name = f"{_GLOBAL_NAMES[part]}.weight"
        case _:
            raise InputError(
                f"{file}: tensor {tensor.name} has no place in a plain Llama; it cannot be converted"
            )
    heads = {"q_proj": "llama.attention.head_count", "k_proj": "llama.attention.head_count_kv"}
    key = heads.get(name.split(".")[-2])
    return _Weight(
        name=name,
        shape=tuple(int(size) for size in reversed(tensor.shape)),
        source=tensor,
        rotary_heads=_value(reader, key) if key else None,
    )


def _write_weights(weights: list[_Weight], path: Path) -> None:
    """A safetensors file: the header's length, the header (JSON), then the tensors' bytes in its order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for weight in weights:
        end = offset + int(np.prod(weight.shape)) * _FLOAT32_BYTES
        header[weight.name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as output:
        output.write(struct.pack("<Q", len(encoded)))
        output.write(encoded)
        for weight in weights:
            output.write(_values(weight).data)


def _values(weight: _Weight) -> NDArray[np.float32]:
    tensor = weight.source
    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False).reshape(weight.shape)
    if weight.rotary_heads is not None:
        values = _split_halves(values, weight.rotary_heads)
    return np.ascontiguousarray(values, dtype="<f4")


def _split_halves(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k with each head's two rotary halves one after the other; llama.cpp alternates them."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _config(reader: GGUFReader, *, tied: bool) -> dict[str, Any]:
    def fact(key: str) -> Any:
        return _value(reader, f"llama.{key}")

    heads, width = fact("attention.head_count"), fact("embedding_length")
    # Stored as float32; its shortest decimal is the number that was meant.
    epsilon = float(str(np.float32(fact("attention.layer_norm_rms_epsilon"))))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "dtype": "float32",
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "head_dim": _value(reader, "llama.rope.dimension_count", width // heads),
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": fact("feed_forward_length"),
        "max_position_embeddings": fact("context_length"),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": fact("block_count"),
        "num_key_value_heads": fact("attention.head_count_kv"),
        "pad_token_id": _pad_token(reader),
        "rms_norm_eps": epsilon,
        "rope_theta": float(_value(reader, "llama.rope.freq_base", 10_000.0)),
        "tie_word_embeddings": tied,
        "use_cache": True,
        "vocab_size": len(_value(reader, "tokenizer.ggml.tokens")),
    }


def _pad_token(reader: GGUFReader) -> int:
    """The padding token; the end token where the file names none, as generation needs one."""
    pad: int = _value(
        reader, "tokenizer.ggml.padding_token_id", _value(reader, "tokenizer.ggml.eos_token_id")
    )
    return pad


def _write_tokenizer(reader: GGUFReader, into: Path, file: Path) -> None:
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges", [])]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, fuse_unk=False)
    )
    tokenizer.pre_tokenizer = _pre_tokenizer(reader, file)
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, _value(reader, "tokenizer.ggml.token_type"), strict=True):
        if kind in (_CONTROL_TOKEN, _USER_TOKEN):
            special = kind == _CONTROL_TOKEN
            tokenizer.add_tokens([AddedToken(token, special=special, normalized=False)])
    tokenizer.save(str(into / "tokenizer.json"))
    named = {
        "bos_token": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token": _pad_token(reader),
        "unk_token": _value(reader, "tokenizer.ggml.unknown_token_id"),
    }
    _write_json(
        into / "tokenizer_config.json",
        {name: tokens[i] for name, i in named.items() if i is not None}
        | {
            "clean_up_tokenization_spaces": False,
            "model_max_length": _value(reader, "llama.context_length"),
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    if template := _value(reader, "tokenizer.chat_template"):
        (into / "chat_template.jinja").write_text(template, "utf-8")


def _pre_tokenizer(reader: GGUFReader, file: Path) -> pre_tokenizers.PreTokenizer:
    """How text is cut before BPE; GGUF only keeps the name that llama.cpp gave it."""
    kind = _value(reader, "tokenizer.ggml.model"), _value(reader, "tokenizer.ggml.pre", "default")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    match kind:
        case ("gpt2", "gpt-2" | "default"):
            return bytes_only
        case ("gpt2", "smollm"):
            return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_only])
        case _:
            raise InputError(
                f"{file}: its tokenizer ({'/'.join(kind)}) is not known here; give a Hugging Face folder"
            )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
