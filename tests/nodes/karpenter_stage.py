"""Karpenter's provider over an API server in memory, and a group of nodes for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from kairay.kube.fake import FakeCluster
from kairay.kube.karpenter import KarpenterProvider
from kairay.kube.objects import EVENT, NODE_CLAIM, NODE_POOL, Key, Kind, Manifest
from kairay.nodes.interface import (
    NodeGroup,
    Offer,
    Pool,
    PoolSpec,
    Refusal,
    RefusedError,
)
from kairay.nodes.karpenter_settings import KarpenterSettings
from kairay.skus import load_skus

A100 = Offer(instance_type="Standard_NC48ads_A100_v4")
SPOT = replace(A100, spot=True)
H100 = Offer(instance_type="Standard_NC40ads_H100_v5")
GROUP = NodeGroup(
    name="abc123def0",
    offers=(A100, SPOT, H100),
    gpus_per_node={A100.instance_type: 2, H100.instance_type: 1},
    labels={"app": "tuning"},
    tenant="team",
)
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 10))


def spec(offer: Offer = A100, name: str = "kwpool", **changes: Any) -> PoolSpec:
    return PoolSpec(name=name, group=replace(GROUP, **changes), offer=offer)


class World:
    """A provider, the cluster that it talks to, and a clock that stands still."""

    def __init__(self, settings: KarpenterSettings | None = None) -> None:
        self.now = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
        self.cluster = FakeCluster(now=lambda: self.now)
        self.provider = KarpenterProvider(
            self.cluster,
            settings or KarpenterSettings(),
            skus=load_skus(),
            idle_seconds=120,
            now=lambda: self.now,
        )

    def pools(self) -> dict[str, Pool]:
        return {pool.name: pool for pool in run(self.provider.pools())}

    def made(self, count: int = 3) -> Pool:
        """A pool of ours."""
        run(self.provider.ensure(spec(), count))
        return self.pools()["kwpool"]

    def body(self, name: str = "kwpool") -> Manifest:
        found = self.cluster.find(NODE_POOL, "", name)
        assert found is not None
        return found

    def claim(self, name: str, *, pool: str = "kwpool", node: str | None = None, **said: str) -> None:
        """A NodeClaim with conditions: type="Status/Reason/message", as of now."""
        conditions = [self.condition(kind, text) for kind, text in said.items()]
        status = {"conditions": conditions, **({"nodeName": node} if node else {})}
        self.cluster.put(thing(NODE_CLAIM, name, status=status, labels={"karpenter.sh/nodepool": pool}))

    def say(self, kind: str, text: str, pool: str = "kwpool") -> None:
        """A condition of the NodePool."""
        self.cluster.set_status(Key(NODE_POOL, "", pool), {"conditions": [self.condition(kind, text)]})

    def event(self, about: str, reason: str, message: str, kind: str = "NodeClaim") -> None:
        self.cluster.put(
            thing(
                EVENT,
                f"{about}.{reason.lower()}",
                namespace="default",
                involvedObject={"kind": kind, "name": about},
                reason=reason,
                message=message,
                lastTimestamp=self.stamp(),
            )
        )

    def condition(self, kind: str, text: str) -> Manifest:
        status, reason, message = text.split("/", 2)
        said = {"type": kind, "status": status, "reason": reason, "message": message}
        return said | {"lastTransitionTime": self.stamp()}

    def stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def refusal(self) -> Refusal | None:
        return self.pools()["kwpool"].refusal


def thing(kind: Kind, name: str, *, labels: dict[str, str] | None = None, **rest: Any) -> Manifest:
    metadata = {"name": name, "labels": labels or {}}
    if "namespace" in rest:
        metadata["namespace"] = rest.pop("namespace")
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}


def refused(work: Coroutine[Any, Any, Any]) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        run(work)
    return caught.value.refusal
