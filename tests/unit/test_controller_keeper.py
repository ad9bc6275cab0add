"""The keeper of nodes over an API server and a cloud in memory: nodes come, go, and are remembered over restarts."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kairay.controller.board import NodeBoard
from kairay.controller.groups import NodeWish
from kairay.controller.keeper import MEMORY, NodeKeeper
from kairay.errors import TransientError
from kairay.kube.errors import ConflictError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import CONFIG_MAP, NODE, POD, Key
from kairay.nodes.fake import FakeProvider
from kairay.nodes.interface import (
    GROUP_LABEL,
    GroupNode,
    NodeGroup,
    Offer,
    Refusal,
    RefusalKind,
)
from kairay.prices import Price, with_prices
from kairay.skus import Sku, load_skus
from memory_cluster import node_tools, worker_pod

A100, H100 = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"
GROUP = NodeGroup(
    name="g1", offers=(Offer(instance_type=A100), Offer(instance_type=H100)), gpus_per_node={A100: 1, H100: 1}
)
MINE = ("team", "mine")
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Stage:
    """A clock, a cluster, a cloud, and one Workspace that wants nodes of a group."""

    def __init__(self, skus: Mapping[str, Sku] | None = None) -> None:
        self.skus = load_skus() if skus is None else skus
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.cluster = FakeCluster(now=lambda: self.now)
        self.cloud = FakeProvider(lambda: self.now)
        self.log = io.StringIO()
        self.told: list[tuple[str, str]] = []
        self.restart()

    def restart(self) -> None:
        """A new process, which knows what the ConfigMap says and what passes over Workspaces tell it again."""
        self.board = NodeBoard(self.told.append)
        tools = node_tools(self.cluster, self.cloud, self.board, lambda: self.now, self.log, skus=self.skus)
        self.keeper = NodeKeeper(tools)
        self.board.want(MINE, NodeWish(group=GROUP))

    def passes(self, *, seconds: float, step: float = 5.0) -> None:
        """A pass every few seconds, while the clock goes on."""

        async def run() -> None:
            for _ in range(int(seconds / step)):
                await self.keeper.look_once()
                self.now += timedelta(seconds=step)
                self.cloud.advance()
                self._show_nodes()

        asyncio.run(run())

    def pod(self, name: str = "worker", *, node: str | None = None) -> None:
        """A Ray worker's pod, waiting or placed."""
        self.cluster.put(worker_pod(name, "g1", created=self.now, node=node))

    def nodes(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.cluster.all(NODE)]

    def word(self) -> str:
        said = self.board.words.get("g1")
        return "" if said is None else said.message

    def _show_nodes(self) -> None:
        """The cloud's machines as the API server has them."""
        there = {node.name: node for node in self.cloud.nodes()}
        for name in self.nodes():
            if name not in there:
                self.cluster.remove(Key(NODE, "", name))
        for node in there.values():
            self._put(node)

    def _put(self, node: GroupNode) -> None:
        room = {"cpu": "24", "memory": "220Gi", **({"nvidia.com/gpu": str(node.gpus)} if node.gpus else {})}
        old = self.cluster.find(NODE, "", node.name) or {}
        self.cluster.put({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": node.name, "creationTimestamp": node.created.isoformat(),
                "labels": {GROUP_LABEL: node.group, "kubernetes.azure.com/agentpool": node.pool},
            },
            "spec": {**(old.get("spec") or {}), "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]},
            "status": {"allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
        })  # fmt: skip


def test_a_waiting_pod_brings_one_node_in_one_write_and_its_end_takes_it_away() -> None:
    stage = Stage()
    stage.pod()
    stage.passes(seconds=60)
    assert stage.cloud.calls["ensure"] == 1
    assert "waiting for 1 × Standard_NC24ads_A100_v4" in stage.word()
    assert len(stage.told) <= 3, "the Workspace is looked at again for a new sentence, not at every pass"
    stage.passes(seconds=300)
    (node,) = stage.nodes()
    stage.pod(node=node)
    stage.passes(seconds=60)
    assert stage.word() == ""
    stage.cluster.remove(Key(POD, "team", "worker"))
    stage.passes(seconds=100)
    assert stage.nodes() == [node], "it stays a while, for the next job"
    stage.passes(seconds=120)
    assert stage.nodes() == []
    assert (stage.cloud.calls["remove"], stage.cloud.calls["scale"]) == (1, 0)


@pytest.mark.parametrize(("spot", "said"), [(False, " ($2.00 per hour)"), (True, " (spot) ($0.50 per hour)")])
def test_what_is_waited_for_is_told_with_the_operators_price(spot: bool, said: str) -> None:
    stage = Stage(
        with_prices(load_skus(), {A100: Price(usd_per_hour=2.0, spot_usd_per_hour=0.5)}, "prices.csv")
    )
    group = replace(GROUP, offers=(Offer(instance_type=A100, spot=spot),))
    stage.board.want(MINE, NodeWish(group=group))
    stage.pod()
    stage.passes(seconds=20)
    assert f"waiting for 1 × {A100}{said}: pool " in stage.word()


def test_a_node_is_closed_before_it_goes_and_opened_when_work_comes_meanwhile() -> None:
    stage = Stage()
    stage.pod()
    stage.passes(seconds=360)
    (node,) = stage.nodes()
    stage.cluster.remove(Key(POD, "team", "worker"))
    while not stage.cluster.all(NODE)[0]["spec"].get("unschedulable"):
        stage.passes(seconds=1, step=1)
    stage.pod("next")
    stage.passes(seconds=10, step=1)
    assert not stage.cluster.all(NODE)[0]["spec"].get("unschedulable")
    assert stage.nodes() == [node]
    assert stage.cloud.calls["remove"] == 0
    assert stage.cloud.calls["ensure"] == 1


def test_somebody_elses_pod_for_gpu_nodes_keeps_one_and_a_daemon_set_does_not() -> None:
    stage = Stage()
    stage.pod()
    stage.passes(seconds=360)
    (node,) = stage.nodes()
    tolerant = [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]
    for name, owner, tolerations in (
        ("daemon", "DaemonSet", tolerant), ("theirs", "ReplicaSet", tolerant), ("stray", "ReplicaSet", []),
    ):  # fmt: skip
        stage.cluster.put({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "other", "ownerReferences": [{"kind": owner, "uid": "u"}]},
            "spec": {"nodeName": node, "tolerations": tolerations}, "status": {"phase": "Running"},
        })  # fmt: skip
    stage.cluster.remove(Key(POD, "team", "worker"))
    stage.passes(seconds=300)
    assert stage.nodes() == [node]
    assert asyncio.run(stage.keeper.look_once()) <= 10, "others' pods are not watched, so they are looked for"
    stage.cluster.remove(Key(POD, "other", "theirs"))
    stage.passes(seconds=300)
    assert stage.nodes() == []


def test_a_refusal_is_said_remembered_over_a_restart_and_the_next_size_taken() -> None:
    stage = Stage()
    quota = Refusal(
        kind=RefusalKind.QUOTA, code="OperationNotAllowed", message="quota NCADS_A100_v4 is used up",
        avoid_seconds=600,
    )  # fmt: skip
    stage.cloud.refuse_next("ensure", quota, offer=Offer(instance_type=A100))
    stage.pod()
    stage.passes(seconds=10, step=1)
    assert stage.cloud.calls["ensure"] == 2, "the first size once, then the next"
    kept = stage.cluster.find(CONFIG_MAP, "kairay-system", MEMORY)
    assert kept is not None
    stage.restart()
    asyncio.run(stage.keeper.recall())
    stage.passes(seconds=60)
    assert stage.cloud.calls["ensure"] == 2, "nothing is asked for again"
    assert [each["metadata"]["labels"][GROUP_LABEL] for each in stage.cluster.all(NODE)] in ([], ["g1"])
    stage.passes(seconds=300)
    assert len(stage.nodes()) == 1


def test_a_cloud_that_does_not_answer_is_said_to_whoever_waits() -> None:
    stage = Stage()
    stage.cloud.refuse_next("pools", Refusal(kind=RefusalKind.UNAVAILABLE, code="Timeout", message="away"))
    asyncio.run(stage.keeper.look_safely())
    assert stage.word() == "", "nobody waits"
    stage.pod()
    silent = Refusal(
        kind=RefusalKind.UNAVAILABLE, code="Timeout", message="Azure does not answer", retry_after=30
    )
    stage.cloud.refuse_next("pools", silent)
    assert asyncio.run(stage.keeper.look_safely()) == 30
    assert stage.word() == "Azure does not answer"
    assert asyncio.run(stage.keeper.look_safely()) > 0
    assert stage.word() != "Azure does not answer"


def test_a_memory_that_cannot_be_read_is_dropped_and_said() -> None:
    stage = Stage()
    stage.cluster.put({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MEMORY, "namespace": "kairay-system"},
        "data": {"memory.json": "{"},
    })  # fmt: skip
    asyncio.run(stage.keeper.recall())
    stage.pod()
    stage.passes(seconds=10)
    assert "memory of nodes dropped" in stage.log.getvalue()
    assert stage.cloud.calls["ensure"] == 1


def test_an_api_server_that_is_away_at_the_start_is_waited_for_and_the_memory_taken_up_then() -> None:
    stage = Stage()
    stage.pod()
    stage.passes(seconds=10)
    stage.restart()
    stage.cluster.fail_next("get", CONFIG_MAP, TransientError("the API server is starting", retry_after=2))
    assert asyncio.run(stage.keeper.look_safely()) == 2
    asyncio.run(stage.keeper.look_safely())
    assert stage.cloud.calls["ensure"] == 1, "what was asked for before the restart is remembered"


def test_a_cloud_that_wants_fewer_calls_is_left_alone_whatever_changes_meanwhile(skip_time: Run) -> None:
    stage = Stage()
    throttled = Refusal(kind=RefusalKind.THROTTLED, code="Throttled", message="later", retry_after=60)
    stage.cloud.refuse_next("pools", throttled)

    async def changes() -> list[int]:
        keeper = asyncio.create_task(stage.keeper.run())
        calls = []
        for _ in range(4):
            await asyncio.sleep(19)
            stage.keeper.wake()
            calls.append(stage.cloud.calls["pools"])
        keeper.cancel()
        return calls

    assert skip_time(changes()) == [1, 1, 1, 2]


def test_a_node_that_went_before_it_was_closed_keeps_no_other_from_coming() -> None:
    stage = Stage()
    stage.pod()
    stage.passes(seconds=360)
    stage.cluster.remove(Key(POD, "team", "worker"))
    while not stage.cluster.all(NODE)[0]["spec"].get("unschedulable"):
        stage.passes(seconds=1, step=1)
    stage.pod("one")
    stage.pod("two")
    stage.cluster.fail_next("apply", NODE, ConflictError("the node has another uid"))
    stage.passes(seconds=5, step=1)
    assert stage.cloud.calls["scale"] == 1, "the second pod's node is asked for in the same pass"
    stage.passes(seconds=60, step=1)
    assert not stage.cluster.all(NODE)[0]["spec"].get("unschedulable"), "it is opened in a later one"
    assert "node not changed" in stage.log.getvalue()


def test_a_pass_follows_within_a_minute_whatever_is_waited_for() -> None:
    stage = Stage()
    never = Refusal(kind=RefusalKind.RESTRICTED, code="SkuNotAvailable", message="no", avoid_seconds=82800)
    for size in (A100, H100):
        stage.cloud.refuse_next("ensure", never, offer=Offer(instance_type=size))
    stage.pod()
    stage.passes(seconds=20, step=1)
    assert 0 < asyncio.run(stage.keeper.look_once()) <= 60


def test_passes_come_in_a_bunch_and_then_one_every_three_seconds() -> None:
    stage = Stage()
    breaths = []
    for _ in range(40):
        asyncio.run(stage.keeper.look_safely())
        breaths.append(stage.keeper.breath())
        stage.now += timedelta(seconds=breaths[-1])
    assert breaths[:15] == [0.5] * 15
    assert breaths[-1] == pytest.approx(3.0)
    stage.now += timedelta(minutes=2)
    asyncio.run(stage.keeper.look_safely())
    assert stage.keeper.breath() == 0.5
