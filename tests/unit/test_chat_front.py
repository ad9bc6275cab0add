"""The front before an engine's app: names, limits, health, /chat, and what each refusal looks like."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from kairay_serve.front import MAX_BODY_BYTES, Front, Limits
from kairay_serve.keys import ApiKeys
from kairay_serve.metrics import ServeMetrics

NAMES = ("base", "tuned")


@dataclass
class FakeEngine:
    """Echoes what it is asked, in the shape of a chat completion; `hold` keeps answers back."""

    broken: str | None = None
    hold: asyncio.Event | None = None
    status: int = 200
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)

    async def start(self) -> Any:
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.asked.append((scope["path"], json.loads(body) if body else {}, headers))
        if self.hold is not None:
            await self.hold.wait()
        answer = {"choices": [{"message": {"content": "hello"}}]}
        if self.status != 200:
            answer = {"error": {"message": "no"}}  # type: ignore[dict-item]
        await send(
            {"type": "http.response.start", "status": self.status, "headers": [(b"retry-after", b"9")]}
        )
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def has_chat_template(self, model: str) -> bool:
        return model == "tuned"

    def fault(self) -> str | None:
        return self.broken

    def waiting(self) -> int:
        return 0

    def metrics(self) -> bytes:
        return b"engine_said 1\n"

    async def close(self) -> None:
        return None


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def front(engine: FakeEngine, limit: int = 2, keys: ApiKeys | None = None) -> Front:
    limits = Limits(names=NAMES, default_model="tuned", max_in_flight=limit)
    return Front(engine, engine, limits, ServeMetrics(), keys or ApiKeys(None))


async def call(
    app: Front,
    method: str,
    path: str,
    body: Any = None,
    root_path: str = "",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    answer = Answer()

    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "method": method,
        "path": root_path + path,
        "root_path": root_path,
        "headers": [(b"x-request-id", b"mine"), (b"content-length", b"1"), *headers],
        "query_string": b"",
    }
    await app(scope, receive, send)
    return answer


def ask(engine: FakeEngine, method: str, path: str, body: Any = None, root_path: str = "") -> Answer:
    return asyncio.run(call(front(engine), method, path, body, root_path))


def test_a_request_without_model_goes_to_the_default_one() -> None:
    engine = FakeEngine()
    assert ask(engine, "POST", "/v1/completions", {"prompt": "a"}).status == 200
    path, body, headers = engine.asked[0]
    assert (path, body) == ("/v1/completions", {"prompt": "a", "model": "tuned"})
    assert int(headers["content-length"]) == len(json.dumps(body))
    assert headers["x-request-id"] != "mine"


def test_an_unknown_model_never_reaches_the_engine() -> None:
    engine = FakeEngine()
    answer = ask(engine, "POST", "/v1/chat/completions", {"model": "gpt-4"})
    assert (answer.status, engine.asked) == (404, [])
    assert answer.json["error"]["code"] == "model_not_found"
    assert "available: base, tuned" in answer.json["error"]["message"]
    assert ask(engine, "POST", "/v1/chat/completions", {"model": ["base"]}).status == 400


def test_chat_is_put_to_the_openai_app_and_its_answer_translated() -> None:
    engine = FakeEngine()
    answer = ask(engine, "POST", "/chat", {"prompt": "hi", "generate_kwargs": {"num_beams": 2}})
    assert (answer.status, answer.json) == (200, {"Result": "hello"})
    assert answer.headers["x-kairay-ignored"] == "generate_kwargs.num_beams"
    assert engine.asked[0][0] == "/v1/chat/completions"


def test_chat_keeps_the_engines_refusal_and_when_to_come_back() -> None:
    answer = ask(FakeEngine(status=503), "POST", "/chat", {"prompt": "hi"})
    assert (answer.status, answer.json, answer.headers["retry-after"]) == (503, {"detail": "no"}, "9")


def test_the_application_may_live_under_a_prefix() -> None:
    engine = FakeEngine()
    assert ask(engine, "POST", "/chat", {"prompt": "hi"}, root_path="/phi").json == {"Result": "hello"}
    assert engine.asked[0][0] == "/phi/v1/chat/completions"
    assert ask(engine, "GET", "/health", root_path="/phi").status == 200


def test_one_request_too_many_is_refused_and_a_place_is_freed_again() -> None:
    async def scene() -> tuple[Answer, list[Answer], Answer]:
        engine = FakeEngine(hold=asyncio.Event())
        assert engine.hold is not None
        app = front(engine, limit=2)
        first = [asyncio.create_task(call(app, "POST", "/v1/completions", {})) for _ in "ab"]
        while len(engine.asked) < 2:
            await asyncio.sleep(0)
        refused = await call(app, "POST", "/chat", {"prompt": "hi"})
        engine.hold.set()
        answered = list(await asyncio.gather(*first))
        return refused, answered, await call(app, "POST", "/v1/completions", {})

    refused, answered, later = asyncio.run(scene())
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "2 requests are already" in refused.json["detail"]
    assert [answer.status for answer in (*answered, later)] == [200, 200, 200]


def test_a_request_that_is_given_up_frees_its_place() -> None:
    async def scene() -> Answer:
        engine = FakeEngine(hold=asyncio.Event())
        assert engine.hold is not None
        app = front(engine, limit=1)
        task = asyncio.create_task(call(app, "POST", "/v1/completions", {}))
        while not engine.asked:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        engine.hold.set()
        return await call(app, "POST", "/v1/completions", {})

    assert asyncio.run(scene()).status == 200


def test_a_dead_engine_is_503_everywhere() -> None:
    engine = FakeEngine(broken="the engine died")
    assert (ask(engine, "GET", "/health").status, ask(engine, "GET", "/health").json) == (
        503,
        {"detail": "the engine died"},
    )
    answer = ask(engine, "POST", "/v1/completions", {})
    assert (answer.status, answer.json["error"]["code"]) == (503, "engine_unavailable")


def test_a_body_must_be_a_json_object_of_bounded_size() -> None:
    for body, status in (
        (b"{", 400),
        (b"\xff\xfe{", 400),
        (b"[]", 400),
        (b"[" * 10**5, 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ):
        assert ask(FakeEngine(), "POST", "/v1/completions", body).status == status


def test_no_other_path_of_the_engine_is_reachable() -> None:
    engine = FakeEngine()
    for method, path, status in (
        ("POST", "/invocations", 404),
        ("GET", "/chat", 405),
        ("POST", "/metrics", 405),
    ):
        assert ask(engine, method, path, {}).status == status
    assert engine.asked == []
    assert ask(engine, "GET", "/v1/models").status == 200


def test_metrics_count_by_model_route_and_code_and_include_the_engines() -> None:
    async def scene() -> str:
        app = front(FakeEngine())
        await call(app, "POST", "/chat", {"prompt": "hi"})
        await call(app, "POST", "/chat", {"prompt": "hi", "model": "x" * 100})
        return (await call(app, "GET", "/metrics")).body.decode()

    text = asyncio.run(scene())
    assert 'kairay_serve_requests_total{code="200",model="tuned",route="/chat"} 1.0' in text
    assert 'kairay_serve_requests_total{code="404",model="unknown",route="/chat"} 1.0' in text
    assert "kairay_serve_requests_in_flight 0.0" in text
    assert text.endswith("engine_said 1\n")


def test_where_keys_are_required_only_health_is_open(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("right\n")

    async def scene() -> None:
        engine = FakeEngine()
        app = front(engine, keys=ApiKeys(tmp_path / "keys"))
        for method, path in (
            ("POST", "/v1/completions"), ("POST", "/chat"), ("GET", "/metrics"), ("GET", "/v1/models"),
            ("GET", "/docs"), ("GET", "/"), ("GET", "/nowhere"), ("POST", "/health/"),
        ):  # fmt: skip
            refused = await call(app, method, path, {"prompt": "hi"})
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer"), path
        assert engine.asked == []
        assert (await call(app, "GET", "/health")).status == 200
        key = ((b"authorization", b"Bearer right"),)
        assert (await call(app, "GET", "/metrics", headers=key)).status == 200
        assert (await call(app, "POST", "/chat", {"prompt": "hi"}, headers=key)).json == {"Result": "hello"}
        assert not {"authorization", "x-api-key"} & set(engine.asked[0][2])

    asyncio.run(scene())


def test_a_refused_key_is_told_in_the_shape_of_its_api_and_counted(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("right\n")
    key = ((b"x-api-key", b"right"),)

    async def scene() -> tuple[Answer, Answer, str]:
        app = front(FakeEngine(), keys=ApiKeys(tmp_path / "keys"))
        openai = await call(app, "POST", "/v1/completions", {}, headers=((b"x-api-key", b"wrong"),))
        chat = await call(app, "POST", "/chat", b"\xff", headers=((b"authorization", b"Basic right"),))
        return openai, chat, (await call(app, "GET", "/metrics", headers=key)).body.decode()

    openai, chat, metrics = asyncio.run(scene())
    error = openai.json["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert "not known here" in error["message"]
    assert "no API key in the request" in chat.json["detail"]
    assert 'requests_total{code="401",model="unknown",route="/chat"} 1.0' in metrics


def test_a_websocket_is_closed_before_the_engine_sees_it() -> None:
    async def scene() -> list[Message]:
        engine, sent = FakeEngine(), []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await front(engine)({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
        assert engine.asked == []
        return sent

    assert asyncio.run(scene()) == [{"type": "websocket.close", "code": 1008}]
