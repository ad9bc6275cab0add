"""The chat application on real Ray Serve, with the real small model and an adapter: what clients rely on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from small_chat import ADAPTER, PRESET, Service, chat_service

pytestmark = [
    pytest.mark.local,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray's imports
]

QUESTIONS = ("What is the capital of France?", "Name three colours.", "Who wrote Hamlet?")
MAX_TOKENS = 12
CONTEXT = 1024
ONGOING, QUEUED = 4, 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with chat_service(
        tmp_path_factory.mktemp("adapter"), QUESTIONS, MAX_TOKENS, contextLength=CONTEXT, kvCacheBytes=512 * 2**20,
        threads=1, maxOngoingRequests=ONGOING, maxQueuedRequests=QUEUED,
    ) as running:  # fmt: skip
        yield running


def within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.1)
    return False


def chat_body(question: str, **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        **more,
    }


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    """OpenAI's, closed at the end."""
    from openai import OpenAI

    with OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat_answers_with_the_adapter_when_no_model_is_named(service: Service) -> None:
    answers = [
        service.post("/chat", prompt=question, generate_kwargs={"max_length": MAX_TOKENS}).json()
        for question in QUESTIONS
    ]
    assert answers == [{"Result": answer} for answer in service.adapter_answers]


def test_the_base_model_answers_as_plain_transformers_does(service: Service) -> None:
    answers = tuple(
        service.post("/v1/chat/completions", **chat_body(question, model=PRESET)).json()["choices"][0][
            "message"
        ]["content"]
        for question in QUESTIONS
    )
    assert answers == service.base_answers
    assert answers != service.adapter_answers


def test_answers_do_not_depend_on_who_else_is_asking(service: Service) -> None:
    def ask(at: int) -> str:
        body = chat_body(QUESTIONS[at % 3], model=ADAPTER if at < 3 else PRESET)
        return str(service.post("/v1/chat/completions", **body).json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(6) as pool:
        answers = tuple(pool.map(ask, range(6)))
    assert answers == service.adapter_answers + service.base_answers


def test_the_openai_client_reads_whole_answers_and_streams(service: Service, client: Any) -> None:
    whole = client.chat.completions.create(model=ADAPTER, **chat_body(QUESTIONS[0]))
    chunks = list(
        client.chat.completions.create(
            model=ADAPTER, stream=True, stream_options={"include_usage": True}, **chat_body(QUESTIONS[0])
        )
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == streamed == service.adapter_answers[0]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == MAX_TOKENS or whole.choices[0].finish_reason == "stop"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in {"stop", "length"}


def test_the_list_of_models_is_the_base_and_the_adapter(client: Any) -> None:
    models = {model.id: model for model in client.models.list()}
    assert list(models) == [PRESET, ADAPTER]
    assert models[ADAPTER].parent == models[ADAPTER].root == PRESET
    assert models[PRESET].parent is None


def test_completions_continue_text_and_stop_where_told(client: Any) -> None:
    ask = {"model": PRESET, "prompt": "One, two, three, four,", "temperature": 0, "max_tokens": 8}
    free = client.completions.create(**ask).choices[0]
    cut = client.completions.create(**ask, stop=[free.text[4:6]]).choices[0]
    assert free.finish_reason == "length"
    assert (cut.finish_reason, cut.text) == ("stop", free.text[: free.text.index(free.text[4:6])])
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**ask, stream=True))
    assert streamed == free.text


def test_a_seed_makes_a_sampled_answer_repeatable(service: Service) -> None:
    body = chat_body(QUESTIONS[1], model=PRESET) | {"temperature": 1.0, "seed": 11, "top_p": 0.9}
    answers = {
        service.post("/v1/chat/completions", **body).json()["choices"][0]["message"]["content"] for _ in "ab"
    }
    assert len(answers) == 1


def test_an_unknown_model_is_404_and_names_the_others(client: Any) -> None:
    from openai import NotFoundError

    with pytest.raises(NotFoundError, match=f"available: {PRESET}, {ADAPTER}"):
        client.chat.completions.create(model="gpt-4", **chat_body("hi"))


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/chat", {}, 400, "Text generation parameter prompt required"),
        ("/chat", {"messages": []}, 400, "Conversational parameter messages required"),
        ("/chat", {"prompt": ["a"]}, 422, "prompt: Input should be a valid string"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages: List should have at least 1 item"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "word " * CONTEXT}]},
            400,
            "shorten it",
        ),
        ("/v1/chat/completions", chat_body("hi", max_tokens=CONTEXT), 400, "at most"),
        ("/v1/chat/completions", chat_body("hi", n=2), 400, "n is not supported"),
        ("/v1/completions", {"prompt": ""}, 400, "the prompt is empty"),
        ("/v1/completions", {"prompt": [10**9]}, 400, "token ids lie between"),
        ("/v1/embeddings", {"input": "a"}, 404, "There is no POST /v1/embeddings"),
        ("/health", {}, 405, "There is no POST /health"),
    ],
)
def test_a_bad_request_gets_one_sentence(
    service: Service, path: str, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = service.post(path, **body)
    assert answer.status_code == status
    said = answer.json()
    assert sentence in (said["detail"] if path == "/chat" else said["error"]["message"])


def test_a_body_that_is_not_json_is_400(service: Service) -> None:
    answer = requests.post(f"{service.url}/v1/completions", data=b"{\xff", timeout=60)
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]["message"]


def test_too_many_at_once_get_429_and_the_rest_an_answer(service: Service) -> None:
    with ThreadPoolExecutor(24) as pool:
        asked = [
            pool.submit(service.post, "/v1/chat/completions", **chat_body("Count to ten.")) for _ in range(24)
        ]
    answers = [answer.result() for answer in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(answers) - len(refused) >= ONGOING + QUEUED
    assert refused
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    assert {answer.status_code for answer in answers} == {200, 429}


def test_a_client_that_goes_away_frees_its_place(service: Service) -> None:
    endless = chat_body("Tell me a very long story.", model=PRESET, max_tokens=900)
    with requests.post(
        f"{service.url}/v1/chat/completions", json={**endless, "stream": True}, stream=True, timeout=60
    ) as answer:
        next(answer.iter_lines())
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{service.url}/v1/chat/completions", json=endless, timeout=1)
    assert within(20, lambda: "\nkairay_serve_requests_in_flight 0.0\n" in service.get("/metrics").text)


def test_health_and_metrics_say_what_happened(service: Service) -> None:
    service.post("/chat", prompt="hi", generate_kwargs={"max_new_tokens": 2})
    assert (service.get("/health").status_code, service.get("/health").json()) == (200, {"status": "Healthy"})
    assert service.get("/").json() == {"message": "Server is running"}
    text = service.get("/metrics").text
    assert f'kairay_serve_requests_total{{code="200",model="{ADAPTER}",route="/chat"}}' in text
    assert f'kairay_serve_generated_tokens_total{{model="{ADAPTER}"}}' in text
    assert f'kairay_serve_time_to_first_token_seconds_count{{model="{ADAPTER}"}}' in text


def test_what_chat_cannot_honour_is_named_in_a_header(service: Service) -> None:
    answer = service.post(
        "/chat", prompt="hi", generate_kwargs={"num_beams": 4, "max_length": 2, "min_length": 0}
    )
    assert (answer.status_code, answer.headers["x-kairay-ignored"]) == (200, "generate_kwargs.num_beams")
    assert json.loads(answer.text).keys() == {"Result"}
