"""What the kubelet and Prometheus are told, and what the log's lines look like."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime

import aiohttp
from prometheus_client import CollectorRegistry, Counter

from kairay.controller.http import Health, serve_http
from kairay.controller.log import Log


async def ask(*, alive: bool, ready: bool) -> dict[str, tuple[int, str]]:
    registry = CollectorRegistry()
    Counter("passes", "Passes.", registry=registry).inc()
    health = Health(alive=lambda: alive, ready=lambda: ready, registry=registry)
    runner = await serve_http(health, host="127.0.0.1", port=0)
    host, port = runner.addresses[0][:2]
    found = {}
    async with aiohttp.ClientSession() as session:
        for path in ("healthz", "readyz", "metrics", "elsewhere"):
            async with session.get(f"http://{host}:{port}/{path}") as answer:
                found[path] = (answer.status, await answer.text())
    await runner.cleanup()
    return found


def test_a_live_and_ready_controller_is_ok_and_shows_its_metrics() -> None:
    found = asyncio.run(ask(alive=True, ready=True))
    assert (found["healthz"][0], found["readyz"][0], found["elsewhere"][0]) == (200, 200, 404)
    assert "passes_total 1.0" in found["metrics"][1]


def test_one_that_hangs_is_restarted_and_one_that_is_not_ready_gets_time() -> None:
    found = asyncio.run(ask(alive=False, ready=False))
    assert (found["healthz"][0], found["readyz"][0]) == (503, 503)


def test_a_log_line_is_one_json_object() -> None:
    stream = io.StringIO()
    log = Log(stream, now=lambda: datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC))
    log.info("started", namespace="ns", text="two\nlines")
    log.fault("pass failed", error=ValueError("x"))
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {
        "time": "2026-01-02T03:04:05.678Z", "level": "info", "event": "started", "namespace": "ns",
        "text": "two\nlines",
    }  # fmt: skip
    assert (second["level"], second["error"]) == ("error", "x")
