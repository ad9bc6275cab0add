"""A port of this machine that leads to a pod or Service, through the API server's proxy and with our credentials.

Only loopback listens. Ray's token is added on the way, so a browser and `ray job submit` need none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web

from kairay.errors import HostError
from kairay.kube.connect import Connection
from kairay.kube.objects import Key
from kairay.kube.sockets import Sockets

LOOPBACK: Final = "127.0.0.1"
_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "host", "authorization", "content-length", "accept-encoding", "content-encoding",
})  # fmt: skip
"""Headers of one hop, or ours to say."""


def proxy_path(key: Key, port: int) -> str:
    """The API server's way to a port of a pod or Service."""
    return f"{key.kind.path(key.namespace, key.name)}:{port}/proxy"


@asynccontextmanager
async def forwarded(
    connection: Connection, path: str, *, port: int, headers: Mapping[str, str]
) -> AsyncIterator[str]:
    """The local URL while the context lasts; `port` 0 takes a free one. HostError when it is taken."""
    sockets = Sockets()
    connector = aiohttp.TCPConnector(
        ssl=connection.tls if connection.tls is not None else True, socket_factory=sockets.make
    )
    async with (
        aclosing(sockets),
        aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=True) as session,
    ):
        passage = _Passage(connection, session, path, headers)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{rest:.*}", passage.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, LOOPBACK, port)
            await site.start()
            yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
        except OSError as error:
            raise HostError(f"port {port} is taken on this machine; choose another with --port") from error
        finally:
            await runner.cleanup()


class _Passage:
    """Passes requests on, streams answers back."""

    def __init__(
        self, connection: Connection, session: aiohttp.ClientSession, path: str, headers: Mapping[str, str]
    ) -> None:
        self._connection, self._session, self._path, self._headers = connection, session, path, headers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request of any method."""
        url, headers = self._target(request), self._outgoing(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request, url, headers)
        try:
            answer = await self._session.request(
                request.method, url, headers=headers, data=await request.read(), allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=10),
            )  # fmt: skip
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"{self._connection.server} does not answer: {error!r}\n")
        async with answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    def _target(self, request: web.Request) -> str:
        # The API server writes its own prefix into links of HTML pages.
        rest = request.path_qs.removeprefix(self._path)
        return f"{self._connection.server}{self._path}/{rest.lstrip('/')}"

    def _outgoing(self, request: web.Request) -> dict[str, str]:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        headers.update(self._headers)
        token = self._connection.token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _websocket(self, request: web.Request, url: str, headers: dict[str, str]) -> web.StreamResponse:
        ours = web.WebSocketResponse()
        await ours.prepare(request)
        plain = {key: value for key, value in headers.items() if not key.lower().startswith("sec-websocket")}
        async with self._session.ws_connect(url, headers=plain, max_msg_size=0) as theirs:
            await asyncio.wait(
                {asyncio.ensure_future(_pump(ours, theirs)), asyncio.ensure_future(_pump(theirs, ours))},
                return_when=asyncio.FIRST_COMPLETED,
            )
            await ours.close()
        return ours


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: Socket, sink: Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
