"""Packing changes nothing but speed: every row sees what it would see alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.local

torch = pytest.importorskip("torch", reason="torch is not installed")

import bitsandbytes  # noqa: E402
import peft  # noqa: E402
import transformers  # noqa: E402

from kairay_train import batches, frozen_layers, model  # noqa: E402
from kairay_train.config import DataType  # noqa: E402
from kairay_train.pack_table import IGNORED, PackTable, build_table  # noqa: E402
from kairay_train.packing import pack  # noqa: E402
from kairay_train.tokens import EncodedRow  # noqa: E402

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = ["q_proj", "v_proj", "qkv_proj", "o_proj", "gate_up_proj", "up_proj", "down_proj"]
MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {}),
    "mistral, window longer than a row": (
        transformers.MistralConfig,
        transformers.MistralForCausalLM,
        {"sliding_window": 64},
    ),
    "mistral, window shorter than a row": (
        transformers.MistralConfig,
        transformers.MistralForCausalLM,
        {"sliding_window": 5},
    ),
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM, {"sliding_window": 7}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {}),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 12}),
}


def tiny(name: str, attention: str) -> Any:
    config, architecture, extra = MODELS[name]
    torch.manual_seed(3)
    made = architecture._from_config(config(**SHAPE, **extra), attn_implementation=attention)
    made.config.architectures = [architecture.__name__]
    return made.float().train()


def rows(count: int = 7, prefix: int = 6) -> PackTable:
    random = np.random.default_rng(5)
    head = random.integers(3, 97, prefix).tolist()
    made = []
    for i in range(count):
        ids = head + random.integers(3, 97, 4 + i % 4).tolist()
        labels = [IGNORED] * (prefix + 2) + ids[prefix + 2 :]
        made.append(EncodedRow(input_ids=ids, labels=labels))
    return build_table(pack(made, capacity=200))


def loss(made: Any, batch: dict[str, Any], **changes: Any) -> Any:
    inputs = {key: batch[key] for key in ("input_ids", "position_ids", "layout")} | changes
    inputs = {key: value for key, value in inputs.items() if value is not None}
    logits = made(**inputs, logits_to_keep=batch["predict_at"], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits, batch["labels"][0], reduction="sum")


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("share_prefix", [False, True])
def test_logits_of_packed_rows_are_those_of_each_row_alone(name: str, share_prefix: bool) -> None:
    table = rows()
    plain, packed = tiny(name, "sdpa"), tiny(name, batches.ROWS_ATTENTION)
    assert batches.supports(packed.config)
    batch = batches.lay_out(table.pack(0), share_prefix=share_prefix)
    assert batch["layout"].prefix == (6 if share_prefix else 0)
    inputs = {key: batch[key] for key in ("input_ids", "position_ids", "layout")}
    together = packed(**inputs, logits_to_keep=batch["predict_at"], use_cache=False).logits[0]
    alone = []
    for row in table.pack(0):
        ids = torch.from_numpy(row.input_ids.astype(np.int64))[None]
        learnt = np.flatnonzero(row.labels[1:] != IGNORED)
        alone.append(plain(input_ids=ids, use_cache=False).logits[0][learnt])
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


@pytest.mark.parametrize("share_prefix", [False, True])
def test_gradients_of_a_pack_are_the_sum_over_its_rows(share_prefix: bool) -> None:
    table = rows()
    packed, alone = tiny("llama", batches.ROWS_ATTENTION), tiny("llama", batches.ROWS_ATTENTION)
    loss(packed, batches.lay_out(table.pack(0), share_prefix=share_prefix)).backward()
    for row in table.pack(0):
        loss(alone, batches.lay_out([row])).backward()
    for ours, theirs in zip(packed.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_frozen_layers_done_once_give_the_same_loss_and_gradients(name: str) -> None:
    table = rows()
    lora = peft.LoraConfig(r=4, target_modules=LINEAR, layers_to_transform=[2, 3], task_type="CAUSAL_LM")
    assert model.first_tuned_layer(lora, 4) == 2

    def tuned() -> tuple[Any, Any]:
        base = tiny(name, batches.ROWS_ATTENTION)
        torch.manual_seed(9)
        made = peft.get_peft_model(base, lora)
        for key, value in made.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(value, std=0.1)
        return base, made

    batch = batches.lay_out(table.pack(0))
    _, whole = tuned()
    base, short = tuned()
    assert frozen_layers.can_cache(base, 2, table.tokens)
    frozen = frozen_layers.FrozenLayers(base, 2, table)
    for _ in range(2):  # computed, then remembered
        embedded = frozen.embed(batch["row_indexes"], batch["layout"])
    expected, found = loss(whole, batch), loss(short, batch, input_ids=None, inputs_embeds=embedded)
    assert torch.allclose(found, expected, atol=1e-4)
    expected.backward()
    found.backward()
    theirs = dict(whole.named_parameters())
    for key, value in short.named_parameters():
        if value.requires_grad:
            assert torch.allclose(value.grad, theirs[key].grad, atol=1e-4), key


def test_dequantised_weights_give_bit_for_bit_what_4_bit_weights_give(tmp_path: Path) -> None:
    tiny("llama", "sdpa").save_pretrained(tmp_path)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    made = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, device_map={"": "cpu"}, quantization_config=config
    ).train()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        quantised = made(input_ids=ids, use_cache=False).logits
        size = model.dequantise(made, DataType.FLOAT32)
        plain = made(input_ids=ids, use_cache=False).logits
    assert size > 0
    assert not any(isinstance(layer, bitsandbytes.nn.Linear4bit) for layer in made.modules())
    assert torch.equal(quantised, plain)


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"layers_to_transform": [2, 3]}, 2),
        ({"layers_to_transform": 3}, 3),
        ({}, 0),
        ({"layers_to_transform": [2], "modules_to_save": ["lm_head"]}, 0),
        ({"layers_to_transform": [2], "bias": "all"}, 0),
    ],
)
def test_layers_count_as_frozen_only_when_nothing_below_is_trained(
    changes: dict[str, Any], first: int
) -> None:
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], **changes)
    assert model.first_tuned_layer(config, 4) == first
