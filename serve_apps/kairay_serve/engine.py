"""The seam between the HTTP front and what generates text: a small protocol and the choice of engine.

An engine loads once, in `start`, and hands out its own OpenAI app; everything else (names, limits, /chat,
health, metrics) is the front's.
"""

from __future__ import annotations

from typing import Protocol

from starlette.types import ASGIApp

from kairay_serve.args import ChatArgs, EngineKind
from kairay_serve.metrics import ServeMetrics


class Engine(Protocol):
    """One loaded set of models behind one OpenAI app. All methods are called on one event loop."""

    async def start(self) -> ASGIApp:
        """Load the weights and return the app; KairayError says what keeps it from starting."""

    def has_chat_template(self, model: str) -> bool:
        """Whether messages can be put to this served name."""

    def fault(self) -> str | None:
        """Why it cannot answer; None while it can. Cheap, never blocks."""

    def waiting(self) -> int:
        """Requests that it has accepted and not begun."""

    def metrics(self) -> bytes:
        """Its own metrics, in Prometheus' text format; may be empty."""

    async def close(self) -> None:
        """Stop its threads and let go of the memory."""


def make_engine(args: ChatArgs, metrics: ServeMetrics) -> Engine:
    """The engine that `args` names, not started. Its libraries are imported here, not before."""
    match args.engine:
        case EngineKind.TRANSFORMERS:
            from kairay_serve.engine_transformers import TransformersEngine

            return TransformersEngine(args, metrics)
        case EngineKind.VLLM:
            from kairay_serve.engine_vllm import VllmEngine

            return VllmEngine(args, metrics)
