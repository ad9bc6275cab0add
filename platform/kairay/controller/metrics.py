"""What Prometheus sees of the controller."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(slots=True)
class Metrics:
    """Counters and gauges in a registry of their own."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    passes: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    waiting: Gauge = field(init=False)
    leading: Gauge = field(init=False)
    workspaces: Gauge = field(init=False)
    provider_calls: Counter = field(init=False)
    pool_nodes: Gauge = field(init=False)

    def __post_init__(self) -> None:
        self.passes = Counter(
            "kairay_reconciles_total", "Passes over Workspaces.", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram("kairay_reconcile_seconds", "Seconds of a pass.", registry=self.registry)
        self.waiting = Gauge(
            "kairay_queue_length", "Workspaces that wait for a pass.", registry=self.registry
        )
        self.leading = Gauge("kairay_leading", "1 on the controller that writes.", registry=self.registry)
        self.workspaces = Gauge("kairay_workspaces", "Workspaces that there are.", registry=self.registry)
        self.provider_calls = Counter(
            "kairay_node_writes_total", "Writes to the provider of nodes.", ["action", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.pool_nodes = Gauge(
            "kairay_pool_nodes", "Nodes that a pool of ours should have.", ["pool", "instance_type", "spot"],
            registry=self.registry,
        )  # fmt: skip
