"""The simulator as an HTTP server in threads of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from simulator.cloud import Cloud
from simulator.control import control
from simulator.nodes import node_manifest
from simulator.records import NodeNews
from simulator.wire import Answer, Arm, Call

OnNodes = Callable[[str, tuple[str, ...], tuple[str, ...]], None]
"""Called with a pool, the nodes that joined it and those that left."""
_TICK = 0.1
"""Seconds between looks at what is due, when the clock runs by itself."""


class Simulator:
    """ARM on a loopback port while its `with` block lasts.

    `on_nodes` is told of nodes that come and go, `on_gpus` of nodes whose GPUs are advertised; both in the order of
    events, never while the simulator is locked. With a clock that stands still they are called by `advance` and by
    requests.
    """

    def __init__(
        self,
        cloud: Cloud | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        on_nodes: OnNodes | None = None,
        on_gpus: Callable[[str, tuple[str, ...]], None] | None = None,
    ) -> None:
        self.cloud = cloud or Cloud()
        self._on_nodes, self._on_gpus = on_nodes, on_gpus
        self._lock, self._telling = threading.RLock(), threading.Lock()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer((host, port), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_port}"
        self.arm = Arm(cloud=self.cloud, base=self.url)
        self._threads = [threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)]
        if self.cloud.clock.speed:
            self._threads.append(threading.Thread(target=self._tick, daemon=True))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def advance(self, seconds: float) -> None:
        """Move the clock; whatever falls due on the way happens in its order."""
        with self._lock:
            end = self.cloud.clock.now() + seconds
            while (now := self.cloud.clock.now()) < end:
                due = self.next_event()
                self.cloud.clock.advance(min(end if due is None else due, end) - now)
                self.cloud.settle()
            self.cloud.settle()
        self._tell()

    def next_event(self) -> float | None:
        """When something happens by itself next, on the cloud's clock."""
        cloud = self.cloud
        moments = [operation.ends for operation in cloud.operations.values()]
        for pool in cloud.pools.values():
            moments += [moment for machine in pool.machines for moment in (machine.joins_at, machine.gpus_at)]
        return min((moment for moment in moments if moment > cloud.clock.now()), default=None)

    def nodes(self) -> list[dict[str, Any]]:
        """Node manifests of the machines that have joined."""
        with self._lock:
            self.cloud.settle()
            return [
                node_manifest(pool.name, pool.properties, machine.name, gpus=machine.gpus)
                for _, pool in sorted(self.cloud.pools.items())
                for machine in pool.machines
                if machine.joined
            ]

    def answer(self, call: Call) -> Answer:
        """To ARM's paths and to the simulator's own."""
        if call.path == "/_control/advance":
            self.advance(float(json.loads(call.body)["seconds"]))
            return Answer(status=200, body={"now": self.cloud.clock.now()})
        if call.path == "/_control/nodes":
            return Answer(status=200, body=self.nodes())
        with self._lock:
            answer = control(self.arm, call) if call.path.startswith("/_control/") else self.arm.answer(call)
        self._tell()
        return answer

    def _tick(self) -> None:
        while not self._ended.wait(_TICK):
            with self._lock:
                self.cloud.settle()
            self._tell()

    def _tell(self) -> None:
        """Hand the news on, one teller at a time so that they stay in order."""
        with self._telling:
            with self._lock:
                news, self.cloud.news = self.cloud.news, []
            for each in news:
                self._tell_one(each)

    def _tell_one(self, news: NodeNews) -> None:
        if self._on_nodes and (news.added or news.removed):
            self._on_nodes(news.pool, news.added, news.removed)
        if self._on_gpus and news.gpus:
            self._on_gpus(news.pool, news.gpus)


def _handler(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            url = urlsplit(self.path)
            call = Call(
                method=self.command,
                path=unquote(url.path),
                query=dict(parse_qsl(url.query)),
                headers={key.lower(): value for key, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            )
            answer = simulator.answer(call)
            content = answer.content
            self.send_response(answer.status)
            for key, value in answer.headers.items():
                self.send_header(key, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(content)))
            if content:
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """The log is Arm's."""

    return Handler
