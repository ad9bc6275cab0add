"""`POST /chat`: the API of KAITO before 2026, translated to the engine's OpenAI API and back. Pure.

Fields, the answer `{"Result": ...}`, errors `{"detail": ...}` and their sentences are KAITO's (its file
presets/workspace/inference/text-generation/inference_api.py, December 2024). Deliberately different, because a
tuned chat model should give its answer, the same one each time:

- a `prompt` goes through the chat template as one user message, where the model has a template;
- then `Result` holds the answer alone, unless `return_full_text` is true in the request;
- `do_sample` defaults to false (KAITO: true), unless `temperature`, `top_k` or `top_p` are given;
- `max_length` counts the answer's tokens alone and defaults to 256 (KAITO: 200, prompt included);
- `model` (ours) selects the base model or an adapter.

What cannot be honoured is named in the response header `x-kairay-ignored`, never an error: old clients send
every field they know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kairay_serve.api_errors import ApiError

DEFAULT_MAX_TOKENS = 256
DEFAULT_TOP_K = 10
IGNORED_HEADER = "x-kairay-ignored"

# Settings that change nothing at this value; with another one they are reported as ignored.
_NEUTRAL: Mapping[str, object] = {
    "min_length": 0,
    "early_stopping": False,
    "num_beams": 1,
    "typical_p": 1,
    "pad_token_id": None,
    "eos_token_id": None,
    "clean_up_tokenization_spaces": False,
    "handle_long_generation": None,
}


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str


class GenerateKwargs(BaseModel):
    """The part of Hugging Face's generation settings that both engines have; the rest is kept as extra."""

    model_config = ConfigDict(extra="allow")

    max_length: Annotated[int, Field(gt=0)] | None = None
    max_new_tokens: Annotated[int, Field(gt=0)] | None = None
    do_sample: bool | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    seed: int | None = None
    stop_strings: str | list[str] | None = None


class ChatBody(BaseModel):
    """A request to /chat."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    prefix: str | None = None
    return_full_text: bool | None = None
    generate_kwargs: GenerateKwargs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """The same question for the OpenAI API, and what to do with its answer."""

    path: str
    body: Mapping[str, Any]
    lead: str
    """Put before the answer: the prompt, where the full text was asked for."""
    ignored: tuple[str, ...]


def parse(document: Mapping[str, Any]) -> ChatBody:
    """The typed request; ApiError 422 names the first wrong field, 400 says what is missing."""
    try:
        body = ChatBody.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ApiError(422, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    if body.messages is not None and not body.messages and not body.prompt:
        raise ApiError(400, "Conversational parameter messages required")
    if not body.messages and not body.prompt:
        raise ApiError(400, "Text generation parameter prompt required")
    return body


def translate(body: ChatBody, *, model: str, has_template: bool) -> Translated:
    """What to ask the OpenAI API; ApiError 400 for a conversation with a model that has no template."""
    settings, ignored = _settings(body.generate_kwargs or GenerateKwargs())
    ignored += _beyond_neutral("", body.model_extra or {})
    prompt = (body.prefix or "") + (body.prompt or "")
    if body.messages and body.prompt:
        ignored.append("prompt")
    if not has_template:
        if body.messages:
            raise ApiError(400, f"{model} has no chat template; send prompt instead of messages")
        return Translated(
            path="/v1/completions",
            body={"model": model, "prompt": prompt, **settings},
            lead="" if body.return_full_text is False else prompt,
            ignored=tuple(sorted(ignored)),
        )
    turns = [turn.model_dump() for turn in body.messages or [Message(role="user", content=prompt)]]
    return Translated(
        path="/v1/chat/completions",
        body={"model": model, "messages": turns, **settings},
        lead=prompt if body.return_full_text and not body.messages else "",
        ignored=tuple(sorted(ignored)),
    )


def result(translated: Translated, answer: Mapping[str, Any]) -> dict[str, str]:
    """KAITO's answer from the OpenAI API's."""
    choices: Sequence[Mapping[str, Any]] = answer["choices"]
    choice = choices[0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return {"Result": translated.lead + (text or "")}


def detail(status: int, answer: object) -> dict[str, str]:
    """KAITO's (FastAPI's) error from the OpenAI API's."""
    if isinstance(answer, Mapping) and isinstance(error := answer.get("error"), Mapping):
        return {"detail": str(error.get("message"))}
    return {"detail": f"the engine answered with status {status}"}


def _settings(wanted: GenerateKwargs) -> tuple[dict[str, Any], list[str]]:
    shaping = {"temperature": wanted.temperature, "top_k": wanted.top_k, "top_p": wanted.top_p}
    sample = (
        any(value is not None for value in shaping.values()) if wanted.do_sample is None else wanted.do_sample
    )
    if sample and wanted.temperature != 0:
        defaults = {"temperature": 1.0, "top_k": DEFAULT_TOP_K, "top_p": 1.0}
        settings = {key: defaults[key] if value is None else value for key, value in shaping.items()}
    else:
        settings = {"temperature": 0.0}
    settings["max_tokens"] = wanted.max_new_tokens or wanted.max_length or DEFAULT_MAX_TOKENS
    more: dict[str, Any] = {
        "repetition_penalty": wanted.repetition_penalty,
        "seed": wanted.seed,
        "stop": wanted.stop_strings,
    }
    settings |= {key: value for key, value in more.items() if value is not None}
    return settings, _beyond_neutral("generate_kwargs.", wanted.model_extra or {})


def _beyond_neutral(prefix: str, extra: Mapping[str, Any]) -> list[str]:
    return [prefix + key for key, value in extra.items() if key not in _NEUTRAL or value != _NEUTRAL[key]]
