"""/healthz and /readyz for the kubelet, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the kubelet asks."""

    alive: Callable[[], bool]
    """The loop turns."""
    ready: Callable[[], bool]
    """The API server answers us."""
    registry: CollectorRegistry

    async def healthz(self, request: web.Request) -> web.Response:
        """Restart us unless this is 200."""
        return _verdict(self.alive())

    async def readyz(self, request: web.Request) -> web.Response:
        """A roll-out goes on when this is 200."""
        return _verdict(self.ready())

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format."""
        return web.Response(
            body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


async def serve_http(health: Health, *, host: str, port: int) -> web.AppRunner:
    """Start to answer; `cleanup()` of what is returned ends it."""
    app = web.Application()
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", health.metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def _verdict(holds: bool) -> web.Response:
    return web.Response(text="ok\n") if holds else web.Response(text="not yet\n", status=503)
