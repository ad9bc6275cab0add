"""What a replica counts, in Prometheus' text format, in a registry of its own.

Label values come from closed sets (served names, routes, status codes), so the number of series is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
UNKNOWN_MODEL = "unknown"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ServeMetrics:
    """One replica's counters; every name starts with `kairay_serve_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "kairay_serve_requests", "Requests answered", ("model", "route", "code"), registry=self.registry
        )
        self.seconds = Histogram(
            "kairay_serve_request_seconds",
            "Seconds from a request's arrival to its last byte",
            ("model", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "kairay_serve_requests_in_flight", "Requests being answered or waiting", registry=self.registry
        )
        self.waiting = Gauge(
            "kairay_serve_requests_waiting", "Requests that wait for the engine", registry=self.registry
        )
        self.prompt_tokens = Counter(
            "kairay_serve_prompt_tokens", "Tokens read", ("model",), registry=self.registry
        )
        self.generated_tokens = Counter(
            "kairay_serve_generated_tokens", "Tokens written", ("model",), registry=self.registry
        )
        self.first_token_seconds = Histogram(
            "kairay_serve_time_to_first_token_seconds",
            "Seconds from a request's arrival at the engine to its first token",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )

    def count_waiting(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` for the queue's length at every scrape."""
        self.waiting.set_function(waiting)

    def render(self, more: bytes = b"") -> bytes:
        """The scrape; `more` is what the engine says of itself in the same format."""
        return generate_latest(self.registry) + more
