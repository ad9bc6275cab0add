"""The keeper of nodes on a real API server, with a cloud that has one pool and does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from kairay.controller.board import NodeBoard
from kairay.controller.keeper import NodeKeeper, NodeTools
from kairay.controller.log import Log
from kairay.controller.metrics import Metrics
from kairay.kube.client import Client
from kairay.kube.connect import Connection
from kairay.kube.objects import NODE, POD
from kairay.nodes.actions import ScalingSettings
from kairay.nodes.demand import POOL_LABELS
from kairay.nodes.interface import GROUP_LABEL, Offer, Pool, PoolSpec, PoolState, Quota
from kairay.skus import load_skus
from node_parts import Listed

GROUP, POOL = "a1b2c3", "gpua1b2c3"
LABELS = {GROUP_LABEL: GROUP, POOL_LABELS[0]: POOL}
"""Of a node of the pool."""


class OnePool:
    """See NodeProvider."""

    async def pools(self) -> tuple[Pool, ...]:
        offer = Offer(instance_type="Standard_NC24ads_A100_v4", spot=False)
        return (Pool(name=POOL, group=GROUP, offer=offer, count=1, state=PoolState.READY, phase="Succeeded"),)

    async def ensure(self, spec: PoolSpec, count: int) -> None:
        raise AssertionError("no pod waits")

    async def scale(self, pool: Pool, count: int) -> None:
        raise AssertionError("no pod waits")

    async def remove(self, pool: Pool, nodes: Iterable[str]) -> None:
        return

    async def delete(self, pool: Pool) -> None:
        return

    async def quota(self, offers: Iterable[Offer]) -> Mapping[Offer, Quota]:
        return {}


async def keep_until_cordoned(connection: Connection, namespace: str, seconds: float) -> None:
    """Run the keeper until it has cordoned an idle node; TimeoutError when it does not."""
    async with Client(connection) as cluster:
        nodes, _ = await cluster.list(NODE)
        keeper = NodeKeeper(NodeTools(
            provider=OnePool(), provider_name="Azure", cluster=cluster, board=NodeBoard(lambda _: None),
            views={NODE: Listed(nodes), POD: Listed()}, skus=load_skus(), namespace=namespace,
            scaling=ScalingSettings(idle_seconds=0), now=lambda: datetime.now(UTC),
            log=Log(io.StringIO()), metrics=Metrics(),
        ))  # fmt: skip
        work = asyncio.create_task(keeper.run())
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(seconds):
                while not any(each["spec"].get("unschedulable") for each in nodes):
                    await asyncio.sleep(0.1)
                    nodes, _ = await cluster.list(NODE)
            work.cancel()
            await work
