"""What stands before either engine's OpenAI app: one ASGI callable that owns keys, names, limits, health and /chat.

A request that generates text is read whole, its model checked (absent: the default), admitted or refused,
and handed on; /chat becomes an OpenAI request on the way in and its own answer on the way out. A few harmless
paths pass through; no other path of an engine's app is reachable, nor a websocket. Refusals come before the
engine sees anything; where API keys are required, only /health is open.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kairay_serve import legacy_chat
from kairay_serve.api_errors import ApiError, invalid, overloaded, unavailable, unknown_model
from kairay_serve.engine import Engine
from kairay_serve.keys import ApiKeys
from kairay_serve.metrics import CONTENT_TYPE, UNKNOWN_MODEL, ServeMetrics

CHAT = "/chat"
HEALTH = "/health"
GENERATING = frozenset({CHAT, "/v1/chat/completions", "/v1/completions", "/v1/responses"})
MAX_BODY_BYTES = 8 * 2**20
_POLICY_VIOLATION = 1008


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Names and bounds of one replica."""

    names: tuple[str, ...]
    default_model: str
    max_in_flight: int
    """Requests being answered or waiting; the next one gets 429."""


class Front:
    """The ASGI app of a replica."""

    def __init__(
        self, inner: ASGIApp, engine: Engine, limits: Limits, metrics: ServeMetrics, keys: ApiKeys
    ) -> None:
        self._inner = inner
        self._engine = engine
        self._limits = limits
        self._metrics = metrics
        self._keys = keys
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or hand on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "POST" and path in GENERATING:
            await _Exchange(self, path).run(scope, receive, send)
        elif path != HEALTH and (refusal := self._keys.refusal(scope["headers"])) is not None:
            await _refused(refusal)(scope, receive, send)
        elif scope["method"] == "GET" and path in _PAGES:
            await _PAGES[path](self)(scope, receive, send)
        elif path.startswith(_PASSED):
            await self._inner(scope, receive, send)
        else:
            await _no_route(scope["method"], path)(scope, receive, send)

    def check_key(self, scope: Scope) -> None:
        """ApiError 401 or 503 for a request that may not pass."""
        if (refusal := self._keys.refusal(scope["headers"])) is not None:
            raise refusal

    def admit(self) -> None:
        """Count one request in; ApiError 503 or 429 when it cannot be taken."""
        if (fault := self._engine.fault()) is not None:
            raise unavailable(fault)
        if self._in_flight >= self._limits.max_in_flight:
            raise overloaded(self._limits.max_in_flight)
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)

    def release(self) -> None:
        """Count one request out."""
        self._in_flight -= 1
        self._metrics.in_flight.set(self._in_flight)

    def choose_model(self, asked: object) -> str:
        """The served name that a request means; ApiError names the others."""
        if asked is None or asked == "":
            return self._limits.default_model
        if not isinstance(asked, str):
            raise invalid("model is the name of a served model", "model")
        if asked not in self._limits.names:
            raise unknown_model(asked, self._limits.names)
        return asked

    def _root(self) -> Response:
        return JSONResponse({"message": "Server is running"})

    def _health(self) -> Response:
        fault = self._engine.fault()
        return JSONResponse({"status": "Healthy"}) if fault is None else JSONResponse({"detail": fault}, 503)

    def _metrics_page(self) -> Response:
        return Response(self._metrics.render(self._engine.metrics()), media_type=CONTENT_TYPE)


_PASSED = ("/v1/models", "/tokenize", "/detokenize", "/docs", "/openapi.json", "/version")
_PAGES: Mapping[str, Callable[[Front], Response]] = {
    "/": Front._root,
    HEALTH: Front._health,
    "/metrics": Front._metrics_page,
}


def _no_route(method: str, path: str) -> Response:
    known = path in GENERATING or path in _PAGES
    return _refused(ApiError(405 if known else 404, f"There is no {method} {path} here."))


def _refused(error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers())


class _Exchange:
    """One request that generates text, from its first byte to its last."""

    def __init__(self, front: Front, path: str) -> None:
        self._front = front
        self._path = path
        self._model = UNKNOWN_MODEL
        self._code = 499  # the client went away before there was a status
        self._translated: legacy_chat.Translated | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        try:
            await self._answer(scope, receive, self._noting_status(send))
        finally:
            metrics = self._front._metrics
            metrics.requests.labels(self._model, self._path, str(self._code)).inc()
            metrics.seconds.labels(self._model, self._path).observe(time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._front.check_key(scope)
            asked = await _read_document(receive)
            self._model = self._front.choose_model(asked.get("model"))
            document = self._for_engine(asked)
            self._front.admit()
        except ApiError as error:
            refused = _refused(error)
            if self._path == CHAT:
                refused = JSONResponse({"detail": error.message}, error.status, error.headers())
            await refused(scope, receive, send)
            return
        try:
            await self._ask(scope, document, receive, send)
        finally:
            self._front.release()

    def _for_engine(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._path != CHAT:
            return {**document, "model": self._model}
        has_template = self._front._engine.has_chat_template(self._model)
        self._translated = legacy_chat.translate(
            legacy_chat.parse(document), model=self._model, has_template=has_template
        )
        return self._translated.body

    async def _ask(self, scope: Scope, document: Mapping[str, Any], receive: Receive, send: Send) -> None:
        path = self._translated.path if self._translated else self._path
        body = json.dumps(document).encode()
        inner = self._front._inner
        if self._translated is None:
            await inner(_rewritten(scope, path, len(body)), _replay(body, receive), send)
            return
        collected = _Collected()
        await inner(_rewritten(scope, path, len(body)), _replay(body, receive), collected)
        await _legacy_answer(self._translated, collected)(scope, receive, send)

    def _noting_status(self, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._code = message["status"]
            await send(message)

        return noting


class _Collected:
    """A `send` that keeps the answer."""

    def __init__(self) -> None:
        self.status = 500
        self.headers = Headers()
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = Headers(raw=message.get("headers", []))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


def _legacy_answer(translated: legacy_chat.Translated, collected: _Collected) -> Response:
    try:
        answer = json.loads(collected.body)
    except ValueError:
        answer = None
    headers = {legacy_chat.IGNORED_HEADER: ", ".join(translated.ignored)} if translated.ignored else {}
    if "retry-after" in collected.headers:
        headers["retry-after"] = collected.headers["retry-after"]
    if collected.status != 200 or answer is None:
        status = collected.status if collected.status != 200 else 500
        return JSONResponse(legacy_chat.detail(status, answer), status, headers)
    return JSONResponse(legacy_chat.result(translated, answer), headers=headers)


async def _read_document(receive: Receive) -> dict[str, Any]:
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(499, "the client went away")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ApiError(413, f"a request may have {MAX_BODY_BYTES // 2**20} MiB; this one has more")
        chunks.append(chunk)
        more = message.get("more_body", False)
    try:
        document = json.loads(b"".join(chunks))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise invalid(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise invalid("the body must be a JSON object")
    return document


def _rewritten(scope: Scope, path: str, length: int) -> Scope:
    """The scope for the engine's app: its path, the new length, a request id that no client chose, no key."""
    headers = MutableHeaders(raw=list(scope["headers"]))
    headers["content-length"] = str(length)
    headers["content-type"] = "application/json"
    headers["x-request-id"] = uuid4().hex
    for name in ("content-encoding", "transfer-encoding", "authorization", "x-api-key"):
        del headers[name]
    full = scope.get("root_path", "") + path
    return {**scope, "path": full, "raw_path": full.encode(), "headers": headers.raw}


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever the connection says (a disconnect)."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
