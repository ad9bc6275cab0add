"""The chat application: `import_path: kairay_serve.chat:build` in a Serve config.

A replica is the engine's own OpenAI app behind a thin front (keys, names, limits, /chat, /health, /metrics), in one
process and one HTTP hop.
"""

# Without `from __future__ import annotations`: Serve reads the builder's annotation as a type.
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig
from starlette.types import ASGIApp

from kairay_serve.args import ChatArgs, Device, UserConfig
from kairay_serve.engine import Engine, make_engine
from kairay_serve.front import Front, Limits
from kairay_serve.keys import ApiKeys
from kairay_serve.metrics import ServeMetrics

# Requests that Serve lets in beyond our own limit, so that refusals come from the replica, in OpenAI's shape.
_REFUSAL_ROOM = 64


def build(args: ChatArgs) -> Application:
    """The application for these arguments. Replicas and autoscaling are the Serve config's to say."""
    in_flight = args.max_ongoing_requests + args.max_queued_requests
    gpus = args.tensor_parallel * args.pipeline_parallel if args.device is Device.CUDA else 0
    deployment: serve.Deployment = Chat.options(  # type: ignore[attr-defined]  # the decorator's
        max_ongoing_requests=in_flight + _REFUSAL_ROOM,
        # Serve counts requests on their way to a replica as queued; bursts are ours to refuse.
        max_queued_requests=in_flight + _REFUSAL_ROOM,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        ray_actor_options={"num_cpus": args.threads or 1, "num_gpus": gpus},
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=1,
        graceful_shutdown_timeout_s=20,
    )
    application: Application = deployment.bind(args)
    return application


@serve.deployment(name="Chat")
@serve.ingress()
class Chat:
    """One replica: an engine and the front before it."""

    def __init__(self, args: ChatArgs) -> None:
        self._args = args
        self._metrics = ServeMetrics()
        self._keys = ApiKeys(None if args.keys_path is None else Path(args.keys_path))
        self._engine: Engine = make_engine(args, self._metrics)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Serve's hook: the app, built after the constructor."""
        inner = await self._engine.start()
        self._metrics.count_waiting(self._engine.waiting)
        return Front(inner, self._engine, limits(self._args), self._metrics, self._keys)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's hook: once before the first request, and again, without a restart, when it is edited."""
        self._keys.required = UserConfig.model_validate(user_config).require_keys

    async def check_health(self) -> None:
        """Serve's hook: raising has the replica replaced."""
        if (fault := self._engine.fault()) is not None:
            raise RuntimeError(fault)

    async def __del__(self) -> None:
        await self._engine.close()


def limits(args: ChatArgs) -> Limits:
    """The front's part of the arguments."""
    return Limits(
        names=args.names,
        default_model=args.default_model,
        max_in_flight=args.max_ongoing_requests + args.max_queued_requests,
    )
