"""The chat application with engine vLLM on real Ray Serve: the contract with vLLM's launcher modules."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

pytestmark = [
    pytest.mark.local,
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray's imports
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vLLM is not installed; requirements/serve-vllm-cpu.txt has it",
    ),
]

PRESET = "smollm2-135m-instruct"
ADAPTER = "workspace-tuned"
QUESTIONS = ("What is the capital of France?", "Name three colours.")
MAX_TOKENS = 8


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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    adapter = tmp_path_factory.mktemp("adapter")
    base_answers, adapter_answers = plain_answers(adapter)

    import ray
    from ray import serve

    from kairay_serve.args import ChatArgs
    from kairay_serve.chat import build

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        args = ChatArgs.model_validate(
            {
                "name": "tuned",
                "preset": PRESET,
                "modelName": PRESET,
                "adapters": [{"name": ADAPTER, "source": str(adapter)}],
                "defaultModel": ADAPTER,
                "engine": "vllm",
                "contextLength": 1024,
                "kvCacheBytes": 2**30,
                "threads": 2,
                "maxOngoingRequests": 8,
            }
        )
        serve.run(build(args), name="tuned", route_prefix="/")
        yield Service(f"http://127.0.0.1:{port}", base_answers, adapter_answers)
        serve.shutdown()
    finally:
        ray.shutdown()


def plain_answers(adapter: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write a random adapter, and answer greedily with plain transformers, then with peft."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kairay_serve.sources import model_folder

    folder = model_folder(PRESET, None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = tuple(greedy(model, tokenizer, question) for question in QUESTIONS)
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
    return base, tuple(greedy(tuned, tokenizer, question) for question in QUESTIONS)


def greedy(model: Any, tokenizer: Any, question: str) -> str:
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    output = model.generate(**encoded, max_new_tokens=MAX_TOKENS, do_sample=False)
    return str(tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))


def test_chat_answers_with_the_adapter_and_the_base_model_as_peft_does(service: Service) -> None:
    limit = {"max_new_tokens": MAX_TOKENS}
    tuned = [service.post("/chat", prompt=question, generate_kwargs=limit).json() for question in QUESTIONS]
    base = [
        service.post("/chat", prompt=question, model=PRESET, generate_kwargs=limit).json()
        for question in QUESTIONS
    ]
    assert tuned == [{"Result": answer} for answer in service.adapter_answers]
    assert base == [{"Result": answer} for answer in service.base_answers]


def test_the_openai_client_streams_and_lists_both_models(service: Service) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == [PRESET, ADAPTER]
    chunks = client.chat.completions.create(
        model=PRESET,
        messages=[{"role": "user", "content": QUESTIONS[0]}],
        temperature=0,
        max_tokens=MAX_TOKENS,
        stream=True,
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == service.base_answers[0]


def test_refusals_look_as_the_other_engines_do(service: Service) -> None:
    unknown = service.post("/v1/chat/completions", model="gpt-4", messages=[])
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert service.post("/chat").json() == {"detail": "Text generation parameter prompt required"}
    assert service.post("/v1/completions", prompt="a", max_tokens=10**6).status_code == 400
    assert service.post("/invocations", prompt="a").status_code == 404


def test_health_and_metrics_tell_of_both_sides(service: Service) -> None:
    assert service.get("/health").json() == {"status": "Healthy"}
    text = service.get("/metrics").text
    assert "kairay_serve_requests_total{" in text
    assert "vllm:generation_tokens_total{" in text
