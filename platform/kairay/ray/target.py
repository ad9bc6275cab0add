"""What differs between a laptop and a cluster; the rest of a job's command and a Serve config is the same.

A golden test pins the difference, so that what runs locally is what a cluster would run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TargetName(StrEnum):
    """The two back ends."""

    LOCAL = "local"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One back end."""

    name: TargetName
    http_host: str
    """Where Serve listens."""
    proxy_location: str
    """Which nodes get an HTTP server, in Serve's word."""
    replica_cpus: float | None
    """CPUs that a replica without a GPU claims from Ray; None: as many as it has threads."""
    first_replicas: int
    """Replicas to begin with, though fewer may be kept later."""
    gpu_wait_seconds: int
    """How long a job waits for its workers before it gives up."""
    max_failures: int
    """Lost worker groups that are replaced."""
    tuner_resource: str | None
    """Ray resource that marks the pods which see a run's storage; None: the driver sees it too."""
    advertised_gpus: int = 0
    """GPUs that a worker or replica on a processor claims all the same, for clusters whose nodes only advertise
    GPUs (the one-machine cluster of the tests)."""


LOCAL = Target(
    name=TargetName.LOCAL,
    http_host="127.0.0.1",
    proxy_location="HeadOnly",
    # A model that waits for questions must not keep a tuning job from its cores.
    replica_cpus=0,
    # A model that cannot be loaded should fail while somebody watches.
    first_replicas=1,
    # Whoever waits at a terminal wants to be told: on one machine resources come at once or not at all.
    gpu_wait_seconds=120,
    max_failures=3,
    tuner_resource=None,
)

CLUSTER = Target(
    name=TargetName.CLUSTER,
    http_host="0.0.0.0",  # noqa: S104  inside a pod; the NetworkPolicy decides who reaches it
    proxy_location="EveryNode",
    replica_cpus=None,
    first_replicas=0,
    gpu_wait_seconds=3600,
    max_failures=-1,
    tuner_resource="kairay_tuner",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlaces:
    """Where a tuning job finds and leaves things, as its driver sees them."""

    config: str
    """The file that the entrypoint reads."""
    data: tuple[str, ...]
    """Files, folders or http(s) addresses."""
    output: str
    """`oci:/folder:tag` or `registry/repository:tag`."""
    storage: str
    """Folder for checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedAdapter:
    """An adapter to serve beside the base model."""

    name: str
    source: str
    """`oci:/folder:tag`, an image, or a folder in peft's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlace:
    """Where an application answers."""

    port: int
    route_prefix: str
    adapters: tuple[ServedAdapter, ...] = ()
    default_model: str | None = None
    """Answers requests that name no model; None: the base model."""
    keys_path: str | None = None
    """Folder with the API keys; None: a place that has none."""
    require_keys: bool = False
    """Whether a request needs one of them."""
