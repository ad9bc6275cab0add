"""The client towards a server that answers what the test says: every status becomes the right thing to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.kube.client import Client
from kairay.kube.connect import Connection
from kairay.kube.errors import AbsentError, ConflictError, GoneError
from kairay.kube.interface import WatchEvent
from kairay.kube.objects import POD, RAY_JOB, Key, Manifest

JOB: Manifest = {
    "apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "j", "namespace": "n"},
}  # fmt: skip
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(answer: Answer) -> Any:
    server = web.Server(answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with Client(Connection(server=f"http://{host}:{port}", namespace="n", tls=None)) as client:
            yield client
    finally:
        await runner.cleanup()


def says(status: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "Status", "message": message, **more}, status=status, headers=headers
        )

    return answer


def applied(answer: Answer) -> KairayError:
    async def scenario() -> None:
        async with served(answer) as client:
            await client.apply(JOB)

    with pytest.raises(KairayError) as caught:
        asyncio.run(scenario())
    return caught.value


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InputError),
        (401, HostError),
        (403, KairayError),
        (404, AbsentError),
        (409, ConflictError),
        (410, GoneError),
        (422, InputError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
    ],
)
def test_a_status_becomes_what_to_do_about_it(status: int, error: type[KairayError]) -> None:
    found = applied(says(status))
    assert type(found) is error
    assert "RayJob n/j" in found.message


def test_a_server_that_names_a_time_is_believed() -> None:
    found = applied(says(429, headers={"Retry-After": "17"}))
    assert isinstance(found, TransientError)
    assert found.retry_after == 17


def test_a_field_that_the_schema_lacks_is_our_mistake_though_the_server_calls_it_its_own() -> None:
    message = "failed to create typed patch object (n/j): .spec.x: field not declared in schema"
    assert type(applied(says(500, message))) is InputError


def test_another_uid_is_a_conflict_and_any_other_invalid_field_is_not() -> None:
    assert type(applied(says(422, details={"causes": [{"field": "metadata.uid"}]}))) is ConflictError
    assert type(applied(says(422, details={"causes": [{"field": "spec.x"}]}))) is InputError


def test_a_proxy_that_speaks_no_json_is_quoted() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway</html>")

    assert "bad gateway" in applied(answer).message


def test_nobody_at_home_is_transient() -> None:
    async def scenario() -> None:
        async with served(says(200)) as client:
            pass
        async with Client(client._connection) as late:
            await late.get(Key(POD, "n", "p"))

    with pytest.raises(TransientError, match="does not answer"):
        asyncio.run(scenario())


def test_a_refused_token_is_read_anew_once() -> None:
    async def answer(request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == "Bearer new"
        return web.json_response({"metadata": {"name": "p"}}, status=200 if good else 401)

    class Rotating(Connection):
        def token(self, *, fresh: bool = False) -> str | None:
            return "new" if fresh else "old"

    async def scenario() -> Manifest | None:
        async with served(answer) as client:
            known = client._connection
            client._connection = Rotating(server=known.server, namespace="n", tls=None)
            found: Manifest | None = await client.get(Key(POD, "n", "p"))
            return found

    assert asyncio.run(scenario()) == {"metadata": {"name": "p"}}


def test_a_long_list_comes_in_pages_and_is_trimmed_as_it_comes() -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        first = "continue" not in request.query
        metadata = {"resourceVersion": "7", **({"continue": "more"} if first else {})}
        items = [{"metadata": {"name": "a" if first else "b"}, "spec": 1}]
        return web.json_response({"metadata": metadata, "items": items})

    def trim(manifest: Manifest) -> Manifest:
        del manifest["spec"]
        return manifest

    async def scenario() -> tuple[list[Manifest], str]:
        async with served(answer) as client:
            found: tuple[list[Manifest], str] = await client.list(
                RAY_JOB, namespace="n", labels={"x": None, "y": "1"}, trim=trim
            )
            return found

    found, version = asyncio.run(scenario())
    assert version == "7"
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("RayJob", "a"), ("RayJob", "b")]
    assert not any("spec" in each for each in found)
    assert [each["labelSelector"] for each in asked] == ["x,y=1", "x,y=1"]


async def watched(*chunks: bytes) -> list[WatchEvent]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        return response

    async with served(answer) as client:
        return [event async for event in client.watch(POD, resource_version="1")]


def line(kind: str, found: Any) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def test_lines_of_a_watch_may_be_long_and_come_in_pieces() -> None:
    pod = {"metadata": {"name": "p", "resourceVersion": "2"}, "x": "y" * 300_000}
    whole = line("ADDED", pod) + line("BOOKMARK", {"metadata": {"resourceVersion": "3"}})
    found = asyncio.run(watched(whole[:5], whole[5:200_000], whole[200_000:-3], whole[-3:]))
    assert [event.type.value for event in found] == ["ADDED", "BOOKMARK"]
    assert found[0].object == pod


def test_a_watch_says_gone_in_its_stream_and_anything_else_is_transient() -> None:
    with pytest.raises(GoneError):
        asyncio.run(watched(line("ERROR", {"code": 410})))
    with pytest.raises(TransientError, match="etcd is tired"):
        asyncio.run(watched(line("ERROR", {"code": 500, "message": "etcd is tired"})))
    with pytest.raises(TransientError, match="the watch of pods broke"):
        asyncio.run(watched(b"<html>\n"))
