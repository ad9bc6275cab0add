"""NodePools on a real API server with Karpenter's definitions, and the provider beside a played Karpenter."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bare import BareApiServer, bare_api_server, eventually
from kairay.kube.client import Client
from kairay.kube.connect import connect
from kairay.kube.karpenter import KarpenterProvider
from kairay.nodes.demand import view_group_node
from kairay.nodes.interface import (
    GROUP_LABEL,
    NodeGroup,
    Offer,
    Pool,
    PoolSpec,
    PoolState,
    RefusalKind,
    RefusedError,
)
from kairay.nodes.karpenter_settings import KarpenterSettings
from kairay.skus import load_skus
from onebox.api import Api, Manifest
from provisioner import CLAIMS, NODES, POOLS, Provisioner

pytestmark = pytest.mark.cluster
T = TypeVar("T")
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "karpenter"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
A100 = Offer(instance_type="Standard_NC48ads_A100_v4")
H100 = Offer(instance_type="Standard_NC40ads_H100_v5", spot=True)
GROUP = NodeGroup(
    name="abc123def0",
    offers=(A100, H100),
    gpus_per_node={A100.instance_type: 2, H100.instance_type: 1},
    labels={"app": "tuning"},
)
SPEC = PoolSpec(name="kwa100", group=GROUP, offer=A100)


class Clock:
    """Real time, moved on by hand."""

    ahead = 0.0

    def seconds(self) -> float:
        return datetime.now(UTC).timestamp() + self.ahead

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)


class Provider:
    """The provider, one connection and one event loop per call."""

    def __init__(self, server: BareApiServer, clock: Clock) -> None:
        self._server, self._clock = server, clock

    def pools(self) -> dict[str, Pool]:
        found = self._call(lambda provider: provider.pools())
        return {pool.name: pool for pool in found}

    def ensure(self, spec: PoolSpec, count: int) -> None:
        self._call(lambda provider: provider.ensure(spec, count))

    def scale(self, pool: Pool, count: int) -> None:
        self._call(lambda provider: provider.scale(pool, count))

    def remove(self, pool: Pool, *nodes: str) -> None:
        self._call(lambda provider: provider.remove(pool, nodes))

    def delete(self, pool: Pool) -> None:
        self._call(lambda provider: provider.delete(pool))

    def _call(self, work: Any) -> Any:
        async def call() -> Any:
            async with Client(connect({"KUBECONFIG": str(self._server.kubeconfig)})) as client:
                provider = KarpenterProvider(
                    client, KarpenterSettings(), skus=load_skus(), idle_seconds=120, now=self._clock.now
                )
                return await work(provider)

        return run(call())


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


def install(server: BareApiServer, version: str) -> None:
    for path in sorted(GOLDEN.glob(f"*-{version}.yaml")):
        server.api.apply_text(f"{CRDS}/{path.stem.split('-')[0]}.karpenter.sh", path.read_text("utf-8"))
    server.wait_for_crds()


@pytest.fixture
def server(api_server: BareApiServer) -> Iterator[BareApiServer]:
    """The API server with Karpenter's kinds, and none of their objects left at the end."""
    install(api_server, "1.15.0")
    yield api_server
    api = api_server.api
    for path in (
        POOLS,
        CLAIMS,
        NODES,
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/events",
    ):
        for each in api.items(path):
            where = f"{path}/{each['metadata']['name']}"
            if each["metadata"].get("finalizers"):
                api.patch(where, {"metadata": {"finalizers": None}})
            api.delete(where, grace_seconds=0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(server: BareApiServer, clock: Clock) -> Provider:
    return Provider(server, clock)


@pytest.fixture
def karpenter(server: BareApiServer, clock: Clock) -> Provisioner:
    """Karpenter, one step at a time."""
    api = Api(server.pki, server.url)
    return Provisioner(api=api, start_seconds=60, unavailable_seconds=300, now=clock.seconds)


def pod(name: str, *, gpus: int = 2, node: str | None = None) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeSelector": {GROUP_LABEL: GROUP.name},
            "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
            "containers": [
                {
                    "name": "worker",
                    "image": "registry.example/ray:1",
                    "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
                }
            ],
            **({"nodeName": node} if node else {}),
        },
    }


def drop(api: Api, name: str) -> None:
    api.delete(f"/api/v1/namespaces/default/pods/{name}", grace_seconds=0)


def place(api: Api, name: str, node: str) -> None:
    """The scheduler's work, which nobody does here."""
    drop(api, name)
    eventually("the pod is gone", lambda: api.find(f"/api/v1/namespaces/default/pods/{name}") is None)
    api.apply(pod(name, node=node))


def test_without_karpenter_its_absence_is_told() -> None:
    with bare_api_server() as server:
        provider = Provider(server, Clock())
        for call in (provider.pools, lambda: provider.ensure(SPEC, 1)):
            with pytest.raises(RefusedError, match="Karpenter is not installed") as caught:
                call()
            assert caught.value.refusal.kind is RefusalKind.UNAVAILABLE


def test_the_oldest_karpenter_with_this_api_takes_our_node_pools_too() -> None:
    with bare_api_server() as server:
        install(server, "1.0.8")
        provider = Provider(server, Clock())
        server.api.apply_text(
            f"{CRDS}/nodeclaims.karpenter.sh", (GOLDEN / "nodeclaims-1.15.0.yaml").read_text()
        )
        server.wait_for_crds()
        provider.ensure(SPEC, 1)
        provider.scale(provider.pools()["kwa100"], 4)
        assert provider.pools()["kwa100"].bounds == (0, 4)
        provider.delete(provider.pools()["kwa100"])
        assert provider.pools() == {}


def test_a_node_pool_is_made_raised_and_deleted(provider: Provider, server: BareApiServer) -> None:
    for spec in (SPEC, replace(SPEC, name="kwh100", offer=H100)):
        provider.ensure(spec, 2)
        with pytest.raises(RefusedError) as caught:
            provider.ensure(spec, 2)
        assert caught.value.refusal.kind is RefusalKind.CONFLICT
        made = provider.pools()[spec.name]
        assert (made.group, made.offer, made.bounds) == (GROUP.name, spec.offer, (0, 2))
        assert (made.state, made.count) == (PoolState.READY, 0)
        provider.scale(made, 5)
        raised = provider.pools()[spec.name]
        assert raised.bounds == (0, 5)
        with pytest.raises(RefusedError, match="was changed since") as caught:
            provider.scale(made, 9)
        provider.delete(raised)
        assert spec.name not in provider.pools()
        provider.delete(raised)


def test_what_the_api_server_drops_or_refuses_is_nothing_of_ours(
    provider: Provider, server: BareApiServer
) -> None:
    provider.ensure(SPEC, 2)
    kept = server.api.get(f"{POOLS}/kwa100")["spec"]
    assert kept["limits"] == {"nvidia.com/gpu": "4"}
    assert kept["disruption"] == {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "120s",
        "budgets": [{"nodes": "0", "reasons": ["Drifted", "Underutilized"]}],
    }
    assert kept["template"]["spec"]["expireAfter"] == "Never"
    assert kept["weight"] == 100


def test_a_rule_of_karpenters_that_is_broken_is_told_in_its_words(provider: Provider) -> None:
    wrong = replace(SPEC, group=replace(GROUP, labels={"app": "not a label"}))
    with pytest.raises(RefusedError, match=r"spec\.template\.metadata\.labels") as caught:
        provider.ensure(wrong, 1)
    assert caught.value.refusal.kind is RefusalKind.INVALID


def test_a_waiting_pod_brings_a_node_and_an_empty_node_goes(
    provider: Provider, karpenter: Provisioner, clock: Clock, server: BareApiServer
) -> None:
    api = server.api
    provider.ensure(SPEC, 1)
    karpenter.step()
    assert provider.pools()["kwa100"].count == 0
    api.apply(pod("worker"))
    api.apply(pod("second"))
    karpenter.step()
    karpenter.step()
    launching = provider.pools()["kwa100"]
    assert (launching.count, launching.phase, api.items(NODES)) == (1, "Launching", [])
    clock.ahead += 60
    karpenter.step()
    (node,) = api.items(NODES)
    name = node["metadata"]["name"]
    seen = view_group_node(node)
    assert seen is not None
    assert (seen.group, seen.pool, seen.gpus, seen.ready) == (GROUP.name, "kwa100", 2, True)
    assert node["metadata"]["labels"]["app"] == "tuning"
    assert {"key": "sku", "value": "gpu", "effect": "NoSchedule"} in node["spec"]["taints"]

    place(api, "worker", name)
    karpenter.step()
    assert provider.pools()["kwa100"].count == 1, "the limit keeps the second pod waiting"
    provider.scale(provider.pools()["kwa100"], 2)
    karpenter.step()
    assert provider.pools()["kwa100"].count == 2
    clock.ahead += 60
    karpenter.step()
    assert len(api.items(NODES)) == 2

    with pytest.raises(RefusedError, match="has 2 node") as caught:
        provider.delete(provider.pools()["kwa100"])
    assert caught.value.refusal.kind is RefusalKind.CONFLICT

    drop(api, "worker")
    drop(api, "second")
    for _ in range(2):
        karpenter.step()
        # The looks take real time, which counts too.
        clock.ahead += 90
        karpenter.step()
        assert len(api.items(NODES)) == 2, "empty nodes stay for the idle time"
        clock.ahead -= 90
    clock.ahead += 121
    karpenter.step()
    assert api.items(NODES) == []
    assert provider.pools()["kwa100"].count == 0
    provider.delete(provider.pools()["kwa100"])
    assert provider.pools() == {}


def test_a_size_that_the_cloud_has_none_of_is_told_and_the_next_offer_stands_in(
    provider: Provider, karpenter: Provisioner, clock: Clock, server: BareApiServer
) -> None:
    karpenter.refuses[A100.instance_type] = "all requested instance types were unavailable during launch"
    provider.ensure(SPEC, 1)
    server.api.apply(pod("worker", gpus=1))
    karpenter.step()
    pool = provider.pools()["kwa100"]
    assert (pool.state, pool.count) == (PoolState.FAILED, 0)
    assert pool.refusal is not None
    assert (pool.refusal.kind, pool.refusal.code) == (RefusalKind.CAPACITY, "InsufficientCapacityError")

    provider.ensure(replace(SPEC, name="kwh100", offer=H100), 1)
    karpenter.step()
    clock.ahead += 60
    karpenter.step()
    (node,) = server.api.items(NODES)
    assert node["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    assert provider.pools()["kwh100"].count == 1

    del karpenter.refuses[A100.instance_type]
    clock.ahead += 601
    assert provider.pools()["kwa100"].refusal is None


def test_a_node_that_is_removed_by_name_is_drained_first(
    provider: Provider, karpenter: Provisioner, clock: Clock, server: BareApiServer
) -> None:
    api = server.api
    provider.ensure(SPEC, 2)
    for name in ("one", "two"):
        api.apply(pod(name))
    karpenter.step()
    clock.ahead += 60
    karpenter.step()
    first, second = sorted(each["metadata"]["name"] for each in api.items(NODES))
    place(api, "one", first)
    place(api, "two", second)
    provider.remove(provider.pools()["kwa100"], first, "never-there")
    assert provider.pools()["kwa100"].count == 1
    karpenter.step()
    assert [each["metadata"]["name"] for each in api.items(NODES)] == [second]
    assert api.find("/api/v1/namespaces/default/pods/one") is None
    assert api.find("/api/v1/namespaces/default/pods/two") is not None


def test_a_deleted_node_pool_takes_its_nodes_along(
    provider: Provider, karpenter: Provisioner, clock: Clock, server: BareApiServer
) -> None:
    provider.ensure(SPEC, 1)
    server.api.apply(pod("worker"))
    with karpenter.running(every=0.05):
        eventually("a node is asked for", lambda: server.api.items(CLAIMS))
        clock.ahead += 60
        eventually("the node is there", lambda: server.api.items(NODES))
        server.api.delete(f"{POOLS}/kwa100")
        eventually("its node is gone", lambda: not server.api.items(NODES))
        eventually("its claim is gone", lambda: not server.api.items(CLAIMS))
