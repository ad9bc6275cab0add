"""The chat application on real Ray Serve, with the real small model, a random adapter and what both should answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from kairay.local.ports import free_ports

PRESET = "smollm2-135m-instruct"
ADAPTER = "workspace-tuned"


@dataclass(frozen=True)
class Service:
    """A running application and what its models answer without it."""

    url: str
    base_answers: tuple[str, ...]
    adapter_answers: tuple[str, ...]

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=120)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=60)


@contextmanager
def chat_service(
    adapter: Path, questions: tuple[str, ...], max_tokens: int, **args: Any
) -> Iterator[Service]:
    """Both models behind one URL, the adapter written to this folder; `args` are ChatArgs'."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    base_answers, adapter_answers = _plain_answers(adapter, questions, max_tokens)

    import ray
    from ray import serve

    from kairay_serve.args import ChatArgs
    from kairay_serve.chat import build

    (port,) = free_ports(1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        both = {
            "name": "tuned", "preset": PRESET, "modelName": PRESET, "defaultModel": ADAPTER,
            "adapters": [{"name": ADAPTER, "source": str(adapter)}],
        }  # fmt: skip
        serve.run(build(ChatArgs.model_validate(both | args)), name="tuned", route_prefix="/")
        yield Service(f"http://127.0.0.1:{port}", base_answers, adapter_answers)
        serve.shutdown()
    finally:
        ray.shutdown()


def _plain_answers(
    adapter: Path, questions: tuple[str, ...], max_tokens: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write a random adapter, and answer greedily with plain transformers, then with peft."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kairay_serve.sources import model_folder

    folder = model_folder(PRESET, None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = tuple(_greedy(model, tokenizer, question, max_tokens) for question in questions)
    torch.manual_seed(7)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj"],
        layers_to_transform=[28, 29],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    tuned = get_peft_model(model, config)
    tuned.save_pretrained(adapter)
    return base, tuple(_greedy(tuned, tokenizer, question, max_tokens) for question in questions)


def _greedy(model: Any, tokenizer: Any, question: str, max_tokens: int) -> str:
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    output = model.generate(**encoded, max_new_tokens=max_tokens, do_sample=False)
    return str(tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))
