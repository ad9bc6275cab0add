"""The OpenAI app of the transformers engine: two generating routes and the list of models.

Transformers ships such an app (`transformers serve`), but it batches one model at a time, fixes the sampling
settings with the first request, knows no stop strings and needs the `openai` package; only the batching below
it is used here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from kairay_serve.answers import Answer, Served
from kairay_serve.api_errors import ApiError, invalid
from kairay_serve.openai_types import ChatRequest, CompletionRequest

LAST_EVENT = "data: [DONE]\n\n"


def build_app(served: Mapping[str, Served]) -> FastAPI:
    """The app over the served models, by name, the base model first."""
    app = FastAPI(title="Kairay chat", docs_url="/docs", redoc_url=None)
    started = int(time.time())

    @app.post("/v1/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Any:
        model = served[body.model]
        answer = model.answer(model.chat_tokens(body), body, param="messages")
        reply = _Reply(_id("chatcmpl", request), "chat.completion", body.model, _chat_choice, _chat_delta)
        return await reply.send([answer], stream=bool(body.stream), include_usage=body.include_usage)

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Any:
        model = served[body.model]
        prompts = body.prompts
        if not prompts or (len(prompts) > 1 and body.stream):
            raise invalid("give one prompt, or several without stream", "prompt")
        answers = [model.answer(model.text_tokens(prompt), body, param="prompt") for prompt in prompts]
        reply = _Reply(_id("cmpl", request), "text_completion", body.model, _text_choice, _text_choice)
        return await reply.send(answers, stream=bool(body.stream), include_usage=body.include_usage)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_card(model, started) for model in served.values()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name not in served:
            raise ApiError(
                404, f"The model {name!r} does not exist here; available: {', '.join(served)}.", param="model"
            )
        return _card(served[name], started)

    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    return app


class _Reply:
    """The shape of one route's answers: whole, or as server-sent events."""

    def __init__(
        self,
        reply_id: str,
        kind: str,
        model: str,
        choice: Callable[[int, str, str | None], dict[str, Any]],
        delta: Callable[[int, str, str | None], dict[str, Any]],
    ) -> None:
        self._id = reply_id
        self._kind = kind
        self._model = model
        self._choice = choice
        self._delta = delta
        self._created = int(time.time())

    async def send(self, answers: list[Answer], *, stream: bool, include_usage: bool) -> Any:
        if stream:
            first = answers[0]
            # The first step runs here, so that a refusal still has a status code.
            pieces = first.pieces()
            opening = await anext(pieces, "")
            events = self._events(first, opening, pieces, include_usage=include_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        texts = await asyncio.gather(*(answer.text() for answer in answers))
        choices = [
            self._choice(at, text, answer.finish_reason)
            for at, (text, answer) in enumerate(zip(texts, answers, strict=True))
        ]
        return JSONResponse(self._document(self._kind, choices) | {"usage": _usage(answers)})

    async def _events(
        self, answer: Answer, opening: str, pieces: AsyncGenerator[str, None], *, include_usage: bool
    ) -> AsyncGenerator[str, None]:
        kind = "chat.completion.chunk" if self._kind == "chat.completion" else self._kind
        usage: dict[str, Any] = {"usage": None} if include_usage else {}
        try:
            yield _event(self._document(kind, [self._delta(0, opening, None)], first=True) | usage)
            async for piece in pieces:
                yield _event(self._document(kind, [self._delta(0, piece, None)]) | usage)
        except ApiError as error:
            yield _event(error.body())
            return
        finally:
            await pieces.aclose()
        yield _event(self._document(kind, [self._delta(0, "", answer.finish_reason)]) | usage)
        if include_usage:
            yield _event(self._document(kind, []) | {"usage": _usage([answer])})
        yield LAST_EVENT

    def _document(self, kind: str, choices: list[dict[str, Any]], *, first: bool = False) -> dict[str, Any]:
        if first and kind == "chat.completion.chunk":
            choices[0]["delta"] = {"role": "assistant", **choices[0]["delta"]}
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def _id(prefix: str, request: Request) -> str:
    return f"{prefix}-{request.headers.get('x-request-id', '')}"


def _chat_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _chat_delta(index: int, text: str, reason: str | None) -> dict[str, Any]:
    delta = {"content": text} if text or reason is None else {}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _text_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _usage(answers: list[Answer]) -> dict[str, int]:
    prompt = sum(len(answer.prompt) for answer in answers)
    generated = sum(answer.generated for answer in answers)
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _card(served: Served, started: int) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": started,
        "owned_by": "kairay",
        "root": served.parent or served.name,
        "parent": served.parent,
        "max_model_len": served.context_length,
    }


def _event(document: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, error.headers())


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    sentence = str(fault["msg"]).removeprefix("Value error, ")
    where = ".".join(str(part) for part in fault["loc"] if part != "body")
    return await _api_error(request, invalid(f"{where}: {sentence}" if where else sentence, where or None))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return await _api_error(request, ApiError(error.status_code, f"{request.url.path}: {error.detail}"))
