"""How answers end and fit: stop strings in pieces, room in the context, requests and their defaults."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kairay_serve.api_errors import ApiError
from kairay_serve.openai_types import ChatRequest, CompletionRequest
from kairay_serve.sampling import Sampling, SamplingDefaults, StopScanner, answer_room


def scanned(stops: list[str], *pieces: str) -> tuple[list[str], bool]:
    scanner = StopScanner(stops)
    shown = [scanner.feed(piece) for piece in pieces]
    return [*shown, scanner.flush()], scanner.stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "stopped"),
    [
        ([], ["a", "b"], ["a", "b", ""], False),
        (["END"], ["abc E", "N", "D more"], ["abc ", "", "", ""], True),
        (["END"], ["abc E", "N", "x"], ["abc ", "", "ENx", ""], False),
        (["END"], ["abc EN"], ["abc ", "EN"], False),
        (["b", "abc"], ["a", "bc"], ["", "", ""], True),
        (["aab"], ["aa", "ab"], ["", "a", ""], True),
        (["x"], ["one x two x", "three"], ["one ", "", ""], True),
    ],
)
def test_text_is_shown_up_to_the_first_stop_string(
    stops: list[str], pieces: list[str], shown: list[str], stopped: bool
) -> None:
    assert scanned(stops, *pieces) == (shown, stopped)


def test_an_answer_gets_what_the_context_leaves() -> None:
    assert answer_room(None, prompt_tokens=10, context_length=100, param="prompt") == 90
    assert answer_room(90, prompt_tokens=10, context_length=100, param="prompt") == 90


@pytest.mark.parametrize(
    ("asked", "prompt", "param", "sentence"),
    [
        (None, 100, "messages", "the prompt has 100: shorten it"),
        (91, 10, "max_tokens", "asks for 91 more. Ask for 90 at most"),
    ],
)
def test_what_does_not_fit_the_context_is_refused(
    asked: int | None, prompt: int, param: str, sentence: str
) -> None:
    with pytest.raises(ApiError, match=sentence) as refused:
        answer_room(asked, prompt_tokens=prompt, context_length=100, param="messages")
    assert (refused.value.status, refused.value.param, refused.value.code) == (
        400,
        param,
        "context_length_exceeded",
    )


def chat(**more: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **more})


def test_a_request_that_says_nothing_gets_the_models_own_sampling() -> None:
    own = SamplingDefaults(temperature=0.7, top_k=20, top_p=0.8)
    assert chat().sampling(own, 5) == Sampling(max_tokens=5, temperature=0.7, top_k=20, top_p=0.8)
    assert chat(temperature=0).sampling(own, 5).temperature == 0
    assert chat().sampling(SamplingDefaults(), 5).temperature == 0


def test_both_names_of_the_answers_bound_are_known() -> None:
    assert chat(max_tokens=3).wanted_tokens == 3
    assert chat(max_tokens=3, max_completion_tokens=4).wanted_tokens == 4


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0].turn()["content"] == "ab"
    with pytest.raises(ValidationError, match="Input should be 'text'"):
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


@pytest.mark.parametrize(
    "field", [{"n": 2}, {"logprobs": True}, {"tools": [{"type": "function"}]}, {"logit_bias": {"1": 2}}]
)
def test_what_would_change_the_answer_and_cannot_be_done_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(field))} is not supported"):
        chat(**field)


def test_harmless_fields_are_taken() -> None:
    assert chat(user="u", metadata={}, n=1, logprobs=False, tools=[], store=True).model == "m"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]]), ([], [])],
)
def test_a_completion_takes_one_prompt_or_several(prompt: Any, prompts: list[Any]) -> None:
    assert CompletionRequest.model_validate({"model": "m", "prompt": prompt}).prompts == prompts
