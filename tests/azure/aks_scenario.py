"""Small factories and a way to run a provider against the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from kairay.nodes.aks import AksProvider
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import NodeGroup, Offer, Pool, PoolSpec, Refusal, RefusedError
from kairay.skus import load_skus
from simulator import Simulator

A100 = "Standard_NC24ads_A100_v4"
H100 = "Standard_NC40ads_H100_v5"
FAMILY = "StandardNCADSA100v4Family"
T = TypeVar("T")


def settings(azure: Simulator, **changes: Any) -> AksSettings:
    names = azure.cloud.names
    given = {
        "subscription": names.subscription,
        "resource_group": names.resource_group,
        "cluster": names.cluster,
        "endpoint": azure.url,
    }
    return AksSettings(**{**given, **changes})


def provider_of(azure: Simulator, **changes: Any) -> AksProvider:
    return AksProvider(settings(azure, **changes), None, skus=load_skus(), now=azure.cloud.clock.now)


def run(azure: Simulator, scenario: Callable[[AksProvider], Awaitable[T]], **changes: Any) -> T:
    """`scenario` with a provider of its own, as a controller that has just started has one."""

    async def inside() -> T:
        async with provider_of(azure, **changes) as provider:
            return await scenario(provider)

    return asyncio.run(inside())


def refused(azure: Simulator, scenario: Callable[[AksProvider], Awaitable[Any]], **changes: Any) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        run(azure, scenario, **changes)
    return caught.value.refusal


def spec(name: str = "kra100", size: str = A100, *, spot: bool = False, **group: Any) -> PoolSpec:
    offer = Offer(instance_type=size, spot=spot)
    given = {"name": "ga100", "offers": (offer,), "gpus_per_node": {size: 1}, **group}
    return PoolSpec(name=name, group=NodeGroup(**given), offer=offer)


async def ours(provider: AksProvider) -> Pool:
    """The one pool that is Kairay's."""
    (pool,) = [pool for pool in await provider.pools() if pool.group is not None]
    return pool


def made(azure: Simulator, count: int = 2, **changes: Any) -> None:
    """A pool of ours that is at rest; what it took is not counted."""
    run(azure, lambda provider: provider.ensure(spec(**changes), count))
    azure.advance(240)
    azure.arm.log.clear()


def machines(azure: Simulator, pool: str = "kra100") -> list[str]:
    return [machine.name for machine in azure.cloud.pools[pool].machines]
