"""POST /chat as KAITO's clients use it: what is asked of the engine, what comes back, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kairay_serve.api_errors import ApiError
from kairay_serve.legacy_chat import Translated, detail, parse, result, translate


def asked(has_template: bool = True, **document: Any) -> Translated:
    return translate(parse(document), model="m", has_template=has_template)


def settings(**generate_kwargs: Any) -> Mapping[str, Any]:
    body = asked(prompt="hi", generate_kwargs=generate_kwargs).body
    return {key: value for key, value in body.items() if key not in {"model", "messages"}}


def chat_answer(text: str | None) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def test_a_prompt_becomes_one_user_message_answered_greedily() -> None:
    question = asked(prompt="YOUR QUESTION HERE")
    assert question.path == "/v1/chat/completions"
    assert question.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "YOUR QUESTION HERE"}],
        "temperature": 0.0,
        "max_tokens": 256,
    }
    assert result(question, chat_answer("An answer.")) == {"Result": "An answer."}


def test_the_full_text_of_a_chat_is_given_only_when_asked_for() -> None:
    assert result(asked(prompt="Q", return_full_text=True), chat_answer("A")) == {"Result": "QA"}
    assert result(asked(prompt="Q", return_full_text=False), chat_answer("A")) == {"Result": "A"}


def test_a_model_without_template_continues_the_prompt_and_returns_it_as_kaito_does() -> None:
    question = asked(has_template=False, prompt="Once", prefix="> ")
    assert (question.path, question.body["prompt"]) == ("/v1/completions", "> Once")
    assert result(question, {"choices": [{"text": " upon"}]}) == {"Result": "> Once upon"}
    bare = asked(has_template=False, prompt="Once", return_full_text=False)
    assert result(bare, {"choices": [{"text": " upon"}]}) == {"Result": " upon"}


def test_messages_are_passed_on_and_win_over_a_prompt() -> None:
    question = asked(prompt="ignored", messages=[{"role": "user", "content": "hi"}], return_full_text=True)
    assert question.body["messages"] == [{"role": "user", "content": "hi"}]
    assert question.ignored == ("prompt",)
    assert result(question, chat_answer("A")) == {"Result": "A"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"temperature": 0.0, "max_tokens": 256}),
        ({"max_length": 200}, {"temperature": 0.0, "max_tokens": 200}),
        ({"max_length": 200, "max_new_tokens": 7}, {"temperature": 0.0, "max_tokens": 7}),
        ({"do_sample": True}, {"temperature": 1.0, "top_k": 10, "top_p": 1.0, "max_tokens": 256}),
        ({"temperature": 0.5}, {"temperature": 0.5, "top_k": 10, "top_p": 1.0, "max_tokens": 256}),
        ({"temperature": 0.5, "do_sample": False}, {"temperature": 0.0, "max_tokens": 256}),
        ({"do_sample": True, "temperature": 0}, {"temperature": 0.0, "max_tokens": 256}),
        (
            {"repetition_penalty": 1.1, "seed": 3, "stop_strings": ["\n"]},
            {"temperature": 0.0, "max_tokens": 256, "repetition_penalty": 1.1, "seed": 3, "stop": ["\n"]},
        ),
    ],
)
def test_generate_kwargs_are_translated(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert settings(**given) == expected


def test_a_full_kaito_request_is_understood_and_only_what_matters_is_reported() -> None:
    question = asked(
        prompt="hi",
        return_full_text=True,
        clean_up_tokenization_spaces=False,
        handle_long_generation=None,
        generate_kwargs={
            "max_length": 200,
            "min_length": 0,
            "do_sample": True,
            "early_stopping": False,
            "num_beams": 3,
            "temperature": 1.0,
            "top_k": 10,
            "top_p": 1,
            "typical_p": 1,
            "repetition_penalty": 1,
            "pad_token_id": 0,
            "eos_token_id": None,
            "penalty_alpha": 0.6,
        },
    )
    assert question.ignored == (
        "generate_kwargs.num_beams",
        "generate_kwargs.pad_token_id",
        "generate_kwargs.penalty_alpha",
    )


@pytest.mark.parametrize(
    ("document", "status", "sentence"),
    [
        ({}, 400, "Text generation parameter prompt required"),
        ({"prompt": ""}, 400, "Text generation parameter prompt required"),
        ({"messages": []}, 400, "Conversational parameter messages required"),
        ({"prompt": 3}, 422, "prompt: Input should be a valid string"),
        ({"messages": [{"role": "user"}]}, 422, "messages.0.content: Field required"),
        (
            {"prompt": "a", "generate_kwargs": {"max_length": 0}},
            422,
            "generate_kwargs.max_length: Input should be greater than 0",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said(document: dict[str, Any], status: int, sentence: str) -> None:
    with pytest.raises(ApiError) as refused:
        asked(**document)
    assert (refused.value.status, refused.value.message) == (status, sentence)


def test_a_conversation_needs_a_template() -> None:
    with pytest.raises(ApiError, match="no chat template; send prompt"):
        asked(has_template=False, messages=[{"role": "user", "content": "hi"}])


def test_the_engines_errors_keep_their_sentence() -> None:
    assert detail(400, {"error": {"message": "too long"}}) == {"detail": "too long"}
    assert detail(500, "boom") == {"detail": "the engine answered with status 500"}


def test_an_answer_without_text_is_empty() -> None:
    assert result(asked(prompt="Q"), chat_answer(None)) == {"Result": ""}
