"""The provider of nodes that the settings name, opened for as long as the controller leads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from kairay.controller.settings import Provider, Settings
from kairay.errors import HostError, InputError
from kairay.kube.interface import Cluster
from kairay.kube.karpenter import KarpenterProvider
from kairay.nodes.aks_settings import CLUSTER, GROUP, SUBSCRIPTION, AksSettings, read_aks_settings
from kairay.nodes.interface import NodeProvider
from kairay.nodes.karpenter_settings import read_karpenter_settings
from kairay.skus import load_skus


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """A provider, and what people call it."""

    provider: NodeProvider
    name: str


@asynccontextmanager
async def open_provider(
    settings: Settings, environment: Mapping[str, str], cluster: Cluster
) -> AsyncIterator[Provided | None]:
    """None where nodes are there already. InputError: a variable of the provider's is missing."""
    match settings.nodes.provider:
        case Provider.EXISTING:
            yield None
        case Provider.AKS:
            async with _aks(_aks_settings(environment), environment) as provider:
                yield Provided(provider=provider, name="Azure")
        case Provider.KARPENTER:
            karpenter = KarpenterProvider(
                cluster,
                read_karpenter_settings(environment),
                skus=load_skus(),
                idle_seconds=settings.nodes.idle_seconds,
                now=lambda: datetime.now(UTC),
            )
            yield Provided(provider=karpenter, name="Karpenter")


def _aks_settings(environment: Mapping[str, str]) -> AksSettings:
    found = read_aks_settings(environment)
    if found is None:
        raise InputError(f"KAIRAY_NODES_PROVIDER=aks needs {SUBSCRIPTION}, {GROUP} and {CLUSTER}; set them")
    return found


@asynccontextmanager
async def _aks(settings: AksSettings, environment: Mapping[str, str]) -> AsyncIterator[NodeProvider]:
    # Azure's clients are an extra of the controller's image; who has nodes already does without them.
    try:
        from kairay.nodes.aks import AksProvider
        from kairay.nodes.aks_login import open_credential
    except ModuleNotFoundError as error:
        raise HostError(
            f"KAIRAY_NODES_PROVIDER=aks needs Azure's clients ({error.name} is missing); install kairay[azure], "
            f"or use the controller's own image"
        ) from error
    async with AksProvider(settings, open_credential(settings, environment), skus=load_skus()) as provider:
        yield provider
