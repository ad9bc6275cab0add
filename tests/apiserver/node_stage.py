"""The controller's passes over a real API server and a simulated AKS, in virtual time.

Real: the API server with its schemas, the client, the reconciler, the keeper of nodes, Azure's SDK. The stage plays
the kubelet (machines become nodes), Ray (a worker's pod that waits) and the loop that calls pass after pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aks_scenario import provider_of
from bare import BareApiServer
from controller_stage import SilentRay
from kairay.controller.board import NodeBoard
from kairay.controller.events import Events
from kairay.controller.keeper import NodeTools
from kairay.controller.log import Log
from kairay.controller.look import WATCHED
from kairay.controller.metrics import Metrics
from kairay.controller.models import ModelLookUp
from kairay.controller.reconcile import Reconciler, Tools
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.controller.triggers import TRIMS
from kairay.errors import KairayError
from kairay.kube.client import Client
from kairay.kube.connect import connect
from kairay.kube.objects import NODE, POD, RAY_SERVICE, WORKSPACE, Key, Kind, Manifest
from kairay.nodes.actions import ScalingSettings
from kairay.nodes.aks import AksProvider
from kairay.nodes.interface import GROUP_LABEL
from kairay.objects.metadata import WORKSPACE_LABEL
from kairay.presets import find_preset
from kairay.skus import load_skus
from node_parts import Keeper, KilledError, Listed
from simulator import Simulator
from simulator.records import AgentPool

START = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "mine"
_NODES = "/api/v1/nodes"


class Stage:
    """One namespace with one Workspace, its worker's pod, and the controller that cares for both."""

    def __init__(self, server: BareApiServer, azure: Simulator, client: Client, namespace: str) -> None:
        self.server, self.azure, self.client, self.namespace = server, azure, client, namespace
        self.log = io.StringIO()
        self.said: list[tuple[str, str]] = []
        """Reason and message of ResourceReady, once for each change."""
        self.restarts = -1
        self.endpoint = azure.url
        self._views = {kind: Listed() for kind in WATCHED}
        self._since: dict[str, datetime] = {}
        self._provider: AksProvider | None = None

    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock)

    @property
    def clock(self) -> float:
        return self.azure.cloud.clock.now()

    @property
    def group(self) -> str:
        """The nodes that the Workspace's workers select, as its RayService says."""
        service = self.server.api.get(RAY_SERVICE.path(self.namespace, NAME))
        template = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]
        return str(template["spec"]["nodeSelector"][GROUP_LABEL])

    @property
    def pools(self) -> list[AgentPool]:
        """Kairay's."""
        found = self.azure.cloud.pools.values()
        return [pool for pool in found if GROUP_LABEL in (pool.properties.get("nodeLabels") or {})]

    @property
    def machines(self) -> dict[str, str]:
        """Size of each machine of Kairay's pools: all that is paid for."""
        return {machine.name: pool.size[0] for pool in self.pools for machine in pool.machines}

    @property
    def calls(self) -> dict[str, int]:
        """What Azure was asked to change."""
        names = ("PUT pool", "POST deleteMachines", "DELETE pool")
        return {name: self.azure.arm.calls[name] for name in names}

    async def restart(self) -> None:
        """A new process: it knows what Kubernetes and Azure know."""
        await self.close()
        self.restarts += 1
        self._provider = provider_of(self.azure, endpoint=self.endpoint)
        log, skus, board = Log(self.log), load_skus(), NodeBoard(lambda name: None)
        events = Events(self.client, self.now, self._lost)
        self._reconciler = Reconciler(Tools(
            cluster=self.client, views=self._views, ray=SilentRay(), events=events, skus=skus, board=board,
            models=ModelLookUp(find_preset), settings=Settings(nodes=NodeSettings(provider=Provider.AKS)),
            namespace=self.namespace, now=self.now,
        ))  # fmt: skip
        self._keeper = Keeper(NodeTools(
            provider=self._provider, provider_name="Azure", cluster=self.client, views=self._views, board=board,
            skus=skus, scaling=ScalingSettings(), namespace=self.namespace, now=self.now, log=log,
            metrics=Metrics(),
        ))  # fmt: skip
        board.asked = self._keeper.wake
        await self._keeper.recall()

    async def close(self) -> None:
        """The process ends."""
        if self._provider is not None:
            await self._provider.__aexit__()

    async def die_at(self, call: str, *, answered: bool, within: float, apart: float = 0.5) -> None:
        """The process is killed when it is about to make a call to Azure, or when Azure has answered it."""
        real = getattr(self._provider, call)

        async def killed(*given: Any) -> None:
            if answered:
                await real(*given)
            raise KilledError

        setattr(self._provider, call, killed)
        with contextlib.suppress(KilledError):
            await self.until(call, lambda: False, within, apart=apart)
        await self.restart()

    def write(self, resource: Manifest) -> None:
        """The Workspace, in a namespace of its own."""
        api = self.server.api
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        api.apply({
            "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
            "metadata": {"name": NAME, "namespace": self.namespace},
            "resource": {"labelSelector": {"matchLabels": {"app": NAME}}, **resource},
            "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
        })  # fmt: skip

    def need(self, name: str = "worker") -> None:
        """Ray wants a worker: a pod that waits for a node with a GPU."""
        gpu = {"nvidia.com/gpu": "1"}
        self.server.api.apply({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": self.namespace,
                "labels": {WORKSPACE_LABEL: NAME, "kairay.dev/role": "worker"},
            },
            "spec": {
                "nodeSelector": {GROUP_LABEL: self.group},
                "containers": [{"name": "ray", "image": "none", "resources": {"limits": gpu, "requests": gpu}}],
            },
        })  # fmt: skip

    def end(self) -> None:
        """The work is done."""
        for pod in self.server.api.items(POD.path(self.namespace)):
            self.server.api.delete(POD.path(self.namespace, pod["metadata"]["name"]), grace_seconds=0)

    def patch_node(self, name: str, condition: Manifest) -> None:
        """The kubelet or a node problem detector says something of a node."""
        self.server.api.patch(f"{_NODES}/{name}/status", [
            {"op": "add", "path": "/status/conditions/-", "value": condition},
        ])  # fmt: skip

    def word(self) -> tuple[str, str]:
        return self.said[-1] if self.said else ("", "")

    async def until(self, what: str, done: Callable[[], bool], within: float, *, apart: float = 0.5) -> float:
        """Passes until it is so; virtual seconds that it took. AssertionError when it is not in time."""
        began = self.clock
        wait = await self.look()
        while not done():
            left = began + within - self.clock
            assert left > 0, f"{what}: not within {within:.0f} s; {self.told()}"
            self.sleep(min(left, max(wait, apart)))
            wait = await self.look()
        return self.clock - began

    async def go_on(self, seconds: float) -> None:
        """Passes for so long."""
        end = self.clock + seconds
        while self.clock < end:
            self.sleep(min(end - self.clock, await self.look()))

    async def look(self) -> float:
        """One pass over nodes, one over the Workspace; seconds until the controller wants the next."""
        await self._look_around()
        self._keeper.woken = False
        wait = await self._keeper.look_safely()
        await self._reconciler.reconcile(self.namespace, NAME)
        await self._hear()
        return 0.5 if self._keeper.woken else wait

    def sleep(self, seconds: float) -> None:
        """The clock goes on, and stops early where something happens that the controller would see."""
        event = self.azure.next_event()
        self.azure.advance(max(0.5, seconds if event is None else min(seconds, event - self.clock)))
        self._show_nodes()

    def told(self) -> str:
        """All that a person would look at."""
        words = "\n".join(f"  {reason}: {message}" for reason, message in self.said[-6:])
        return f"calls {self.calls}, machines {self.machines}, said\n{words}\n{self.log.getvalue()[-2500:]}"

    def _lost(self, error: KairayError) -> None:
        raise error

    async def _look_around(self) -> None:
        async def list_all(kind: Kind) -> None:
            place = None if kind == NODE else self.namespace
            labels = {WORKSPACE_LABEL: None} if kind == POD else None
            found, _ = await self.client.list(kind, namespace=place, labels=labels, trim=TRIMS[kind])
            for each in found:
                # The server's own clock is the real one.
                since = self._since.setdefault(each["metadata"]["uid"], self.now())
                each["metadata"]["creationTimestamp"] = since.isoformat()
            self._views[kind].take(found)

        await asyncio.gather(*(list_all(kind) for kind in WATCHED))

    async def _hear(self) -> None:
        found = await self.client.get(Key(WORKSPACE, self.namespace, NAME))
        for each in ((found or {}).get("status") or {}).get("conditions", ()):
            word = (each["reason"], each["message"])
            if each["type"] == "ResourceReady" and word != self.word():
                self.said.append(word)

    def _show_nodes(self) -> None:
        """Machines that have joined, as their kubelets write them."""
        api = self.server.api
        there = {each["metadata"]["name"]: each for each in self.azure.nodes()}
        known = {each["metadata"]["name"]: each for each in api.items(_NODES)}
        for name in known.keys() - there.keys():
            api.delete(f"{_NODES}/{name}")
        for name, node in there.items():
            if name not in known:
                api.apply(node)
            elif known[name]["status"]["allocatable"] != node["status"]["allocatable"]:
                room = {key: node["status"][key] for key in ("capacity", "allocatable")}
                api.patch(f"{_NODES}/{name}/status", {"status": room})


@contextlib.asynccontextmanager
async def open_stage(
    server: BareApiServer, azure: Simulator, namespace: str, resource: Manifest
) -> AsyncIterator[Stage]:
    """A Workspace that has been looked at, and whose RayService is there."""
    async with Client(connect({"KUBECONFIG": str(server.kubeconfig)})) as client:
        stage = Stage(server, azure, client, namespace)
        stage.write(resource)
        await stage.restart()
        try:
            await stage.look()
            yield stage
        finally:
            await stage.close()
            for node in server.api.items(_NODES):
                server.api.delete(f"{_NODES}/{node['metadata']['name']}")


def play(scenario: Awaitable[None]) -> None:
    """Run one."""

    async def run() -> None:
        await scenario

    asyncio.run(run())
