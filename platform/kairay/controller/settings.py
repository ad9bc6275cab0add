"""What the operator of a cluster decides, read once from the environment (Helm values end there too)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from kairay import __version__
from kairay.errors import InputError
from kairay.nodes.actions import ScalingSettings
from kairay.nodes.groups import Sharing
from kairay.quantities import parse_bytes
from kairay.ray.cluster_places import PodSettings
from kairay.ray.pods import PodSize
from kairay.ray.raycluster import RayImage

RAY_VERSION = "2.60.0"
_GIB = 2**30
_ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?")
_IMAGE = RayImage(name=f"ghcr.io/kairay/ray:{__version__}", ray_version=RAY_VERSION)
_HEAD = PodSize(cpus=1, memory=2 * _GIB, most_cpus=2, most_memory=4 * _GIB)

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Provider(StrEnum):
    """Where GPU nodes come from."""

    EXISTING = "existing"
    """They are there; nothing is ever made or removed."""
    AKS = "aks"
    KARPENTER = "karpenter"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """GPU nodes; what a provider itself needs to know it reads from variables of its own."""

    provider: Provider = Provider.EXISTING
    idle_seconds: float = 120.0
    """A node without work stays so long, so that the next job finds it."""
    empty_pool_seconds: float = 3600.0
    """A pool without nodes that no Workspace uses stays so long."""
    sharing: Sharing = Sharing.NAMESPACE

    @property
    def come(self) -> bool:
        """Kairay brings them."""
        return self.provider is not Provider.EXISTING

    @property
    def scaling(self) -> ScalingSettings:
        """How patient scaling is; the rest is what Azure and Karpenter take."""
        return ScalingSettings(idle_seconds=self.idle_seconds, empty_pool_seconds=self.empty_pool_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Who is asked for models that the catalogue lacks."""

    hub: bool = True
    endpoint: str = ""
    """The hub's address, pods' too; empty: huggingface.co."""
    registries: frozenset[str] = frozenset()
    """Of OCI artifacts: host or host:port, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The controller's settings; defaults are those of the Helm chart."""

    image: RayImage = _IMAGE
    head: PodSize = _HEAD
    worker: PodSize | None = None
    """None: nearly the whole machine, for each of its GPUs a share."""
    worker_idle_seconds: int = 60
    """Until a Ray worker without work goes, and its GPU with it."""
    run_storage: int = 20 * _GIB
    """Bytes of the claim for checkpoints; 0: they last as long as the worker's pod."""
    storage_class: str | None = None
    """None: the cluster's default."""
    insecure_registries: str = ""
    """Registries that are asked by plain HTTP, host:port, by commas."""
    advertised_gpus: int = 0
    """Where nodes only advertise GPUs: how many a worker claims while it computes on its processor. For tests."""
    serve_by_default: bool = True
    idle_seconds: float | None = None
    """Until a replica without requests goes, where the Workspace does not say; None: the plan's ten minutes."""
    namespaces: tuple[str, ...] = ()
    """Watched; none: all."""
    attempts: int = 3
    """Of one revision whose head was lost."""
    nodes: NodeSettings = NodeSettings()
    models: ModelSettings = ModelSettings()
    prices: Path | None = None
    """Price file, as `kairay plan --prices` reads it; None: the shipped prices."""

    @property
    def pods(self) -> PodSettings:
        """What every pod is told."""
        given = {
            "HF_ENDPOINT": self.models.endpoint,
            "KAIRAY_INSECURE_REGISTRIES": self.insecure_registries,
        }
        return PodSettings(environment=tuple((key, value) for key, value in given.items() if value))


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from `KAIRAY_*` variables; InputError names the variable that cannot be read."""
    default = Settings()

    def get(name: str, parse: Callable[[str], T], otherwise: T) -> T:
        text = environment.get(name, "").strip()
        if not text:
            return otherwise
        try:
            return parse(text)
        except (ValueError, InputError) as error:
            raise InputError(f"{name}={text!r} cannot be read: {error}") from error

    return Settings(
        image=RayImage(
            name=get("KAIRAY_RAY_IMAGE", str, default.image.name),
            ray_version=get("KAIRAY_RAY_VERSION", str, default.image.ray_version),
        ),
        head=get("KAIRAY_HEAD_SIZE", parse_size, default.head),
        worker=get("KAIRAY_WORKER_SIZE", parse_size, default.worker),
        worker_idle_seconds=get("KAIRAY_WORKER_IDLE_SECONDS", int, default.worker_idle_seconds),
        run_storage=get("KAIRAY_RUN_STORAGE", parse_bytes, default.run_storage),
        storage_class=get("KAIRAY_STORAGE_CLASS", str, default.storage_class),
        insecure_registries=get("KAIRAY_INSECURE_REGISTRIES", str, default.insecure_registries),
        advertised_gpus=get("KAIRAY_ADVERTISED_GPUS", int, default.advertised_gpus),
        serve_by_default=get("KAIRAY_SERVE_BY_DEFAULT", _flag, default.serve_by_default),
        idle_seconds=get("KAIRAY_IDLE_SECONDS", float, default.idle_seconds),
        namespaces=get("KAIRAY_NAMESPACES", _words, default.namespaces),
        attempts=get("KAIRAY_ATTEMPTS", int, default.attempts),
        nodes=NodeSettings(
            provider=get("KAIRAY_NODES_PROVIDER", _word(Provider), default.nodes.provider),
            idle_seconds=get("KAIRAY_NODES_IDLE_SECONDS", float, default.nodes.idle_seconds),
            empty_pool_seconds=get(
                "KAIRAY_NODES_EMPTY_POOL_SECONDS", float, default.nodes.empty_pool_seconds
            ),
            sharing=get("KAIRAY_NODES_SHARING", _word(Sharing), default.nodes.sharing),
        ),
        models=ModelSettings(
            hub=get("KAIRAY_MODEL_HUB", _flag, default.models.hub),
            endpoint=get("HF_ENDPOINT", _address, default.models.endpoint),
            registries=get("KAIRAY_MODEL_REGISTRIES", _hosts, default.models.registries),
        ),
        prices=get("KAIRAY_PRICES", Path, default.prices),
    )


def parse_size(text: str) -> PodSize:
    """`cpus/memory` requested and at most, such as `1/2Gi-2/4Gi`; without the second part they are equal."""
    least, _, most = text.partition("-")
    (cpus, memory), (most_cpus, most_memory) = _pair(least), _pair(most or least)
    return PodSize(cpus=cpus, memory=memory, most_cpus=most_cpus, most_memory=most_memory)


def _pair(text: str) -> tuple[float, int]:
    cpus, slash, memory = text.partition("/")
    if not slash:
        raise ValueError("write cpus/memory, such as 1/2Gi")
    return float(cpus), parse_bytes(memory)


def _word(words: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return words(text)
        except ValueError as error:
            raise ValueError(f"write {' or '.join(words)}") from error

    return parse


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("write true or false")
    return text == "true"


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if len(words) > 1:
        raise ValueError("one namespace can be watched, or all; leave it out for all")
    return words


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("write https://host")
    return text


def _hosts(text: str) -> frozenset[str]:
    hosts = frozenset(filter(None, (host.strip().lower() for host in text.split(","))))
    for host in sorted(hosts):
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no registry; write host or host:port, parted by commas")
    return hosts


def describe(settings: Settings) -> dict[str, Any]:
    """For the log's first line."""
    return {
        "image": settings.image.name,
        "rayVersion": settings.image.ray_version,
        "namespaces": list(settings.namespaces) or "all",
        "nodes": str(settings.nodes.provider),
        "prices": str(settings.prices or "shipped"),
    }
