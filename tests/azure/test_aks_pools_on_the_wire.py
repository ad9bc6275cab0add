"""The provider with Azure's real SDK against the simulator: what goes over the wire, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kairay.nodes.aks import AksProvider
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import NodeGroup, Offer, PoolSpec, PoolState
from kairay.skus import load_skus
from simulator import Simulator

A100 = "Standard_NC24ads_A100_v4"


def settings(azure: Simulator, **changes: Any) -> AksSettings:
    names = azure.cloud.names
    return AksSettings(
        **{
            "subscription": names.subscription,
            "resource_group": names.resource_group,
            "cluster": names.cluster,
            "endpoint": azure.url,
            **changes,
        }
    )


def run(azure: Simulator, scenario: Callable[[AksProvider], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        async with AksProvider(
            settings(azure), None, skus=load_skus(), now=azure.cloud.clock.now
        ) as provider:
            return await scenario(provider)

    return asyncio.run(inside())


def spec(name: str = "kra100", size: str = A100, *, spot: bool = False, **group: Any) -> PoolSpec:
    offer = Offer(instance_type=size, spot=spot)
    group = {"name": "ga100", "offers": (offer,), "gpus_per_node": {size: 1}, **group}
    return PoolSpec(name=name, group=NodeGroup(**group), offer=offer)


def test_a_pool_is_made_in_one_write_and_ready_when_its_operation_ends(azure: Simulator) -> None:
    async def scenario(provider: AksProvider) -> None:
        await provider.ensure(spec(), 2)
        (busy,) = [pool for pool in await provider.pools() if pool.group]
        assert (busy.state, busy.phase, busy.count) == (PoolState.BUSY, "Creating", 2)
        azure.advance(240)
        (ready,) = [pool for pool in await provider.pools() if pool.group]
        assert (ready.state, ready.group) == (PoolState.READY, "ga100")

    run(azure, scenario)
    assert azure.arm.calls == {"PUT pool": 1, "GET pools": 2}
