"""The controller's process: win the Lease, fill the caches, pass over Workspaces until told to stop."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from kairay.controller.board import NodeBoard
from kairay.controller.events import Events
from kairay.controller.http import Health, serve_http
from kairay.controller.kaito import KaitoGate
from kairay.controller.keeper import NodeKeeper, NodeTools
from kairay.controller.leader import Elector
from kairay.controller.log import Log
from kairay.controller.look import WATCHED
from kairay.controller.metrics import Metrics
from kairay.controller.models import ModelLookUp, look_up_model
from kairay.controller.providers import Provided, open_provider
from kairay.controller.queue import WorkQueue
from kairay.controller.ray_api import RayHttp
from kairay.controller.reconcile import Reconciler, Tools
from kairay.controller.settings import Settings, describe
from kairay.controller.triggers import TRIMS, WorkspaceName, concerned, concerns_nodes
from kairay.errors import InputError, KairayError, TransientError
from kairay.kube.cache import Cache
from kairay.kube.client import Client
from kairay.kube.connect import connect
from kairay.kube.interface import Cluster
from kairay.kube.objects import NODE, POD, WORKSPACE, Kind, Manifest
from kairay.objects.metadata import WORKSPACE_LABEL
from kairay.prices import VARIABLE, priced_skus
from kairay.skus import Sku

WORKERS = 16
_STALLED_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the process stands; the rest is `Settings`."""

    namespace: str
    """Of the Lease, and of the controller's pods."""
    http_host: str
    http_port: int


async def run(settings: Settings, options: Options, log: Log) -> None:
    """Until SIGTERM or SIGINT. LeadershipLostError ends it too: another controller writes then.

    InputError for a price file that cannot be read: what runs is judged by it, so no other prices stand in.
    """
    skus = read_prices(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    async with (
        Client(connect()) as cluster,
        aiohttp.ClientSession(trust_env=False) as session,
        open_provider(settings, os.environ, cluster) as provided,
    ):
        elector = Elector(
            cluster=cluster, namespace=options.namespace,
            identity=f"{socket.gethostname()}_{os.getpid()}", now=time.monotonic,
        )  # fmt: skip
        controller = Controller(settings, options.namespace, skus, cluster, session, metrics, log, provided)
        gate = KaitoGate(cluster=cluster, namespaces=settings.namespaces, log=log)
        health = Health(
            alive=controller.is_alive,
            ready=lambda: gate.is_open and controller.is_ready(),
            registry=metrics.registry,
        )
        http = await serve_http(health, host=options.http_host, port=options.http_port)
        log.info("started", **describe(settings))
        try:
            await _until(stop, _lead(gate, elector, controller, metrics, log))
        finally:
            await http.cleanup()
            log.info("stopped")


def read_prices(settings: Settings) -> Mapping[str, Sku]:
    """Every size at the operator's prices; InputError names the setting, the file, the line and what to write."""
    try:
        return priced_skus(settings.prices)
    except InputError as error:
        raise InputError(f"{VARIABLE} (Helm: prices): {error.message}") from error


async def _lead(
    gate: KaitoGate, elector: Elector, controller: Controller, metrics: Metrics, log: Log
) -> None:
    await gate.wait()
    await elector.win()
    log.info("leading", identity=elector.identity)
    metrics.leading.set(1)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(elector.keep())
            tasks.create_task(controller.run())
    except asyncio.CancelledError:
        await elector.release()
        raise
    finally:
        metrics.leading.set(0)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends, raising what it raises, or until `stop` is set."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return
    await task


class Controller:
    """Caches, the queue and the workers that empty it."""

    def __init__(
        self, settings: Settings, namespace: str, skus: Mapping[str, Sku], cluster: Cluster,
        session: aiohttp.ClientSession, metrics: Metrics, log: Log, provided: Provided | None = None,
    ) -> None:  # fmt: skip
        self._metrics, self._log = metrics, log
        self._queue: WorkQueue[WorkspaceName] = WorkQueue(random.random)
        self.caches = {kind: self._cache(cluster, kind, settings) for kind in WATCHED}
        self._beat: float | None = None
        board = NodeBoard(self._queue.add)
        events = Events(cluster, _now, lambda error: log.fault("event lost", message=error.message))
        models = ModelLookUp(lambda name: look_up_model(name, settings.models, os.environ))
        self._reconciler = Reconciler(Tools(
            cluster=cluster, views=self.caches, ray=RayHttp(session), events=events, settings=settings,
            skus=skus, board=board, models=models, namespace=namespace, now=_now,
            lost=lambda error: log.fault("why pods wait not read", message=error.message),
        ))  # fmt: skip
        self._keeper = None if provided is None else NodeKeeper(NodeTools(
            provider=provided.provider, provider_name=provided.name, cluster=cluster, views=self.caches, board=board,
            skus=skus, scaling=settings.nodes.scaling, namespace=namespace, now=_now, log=log,
            metrics=metrics,
        ))  # fmt: skip
        if self._keeper is not None:
            board.asked = self._keeper.wake

    def is_alive(self) -> bool:
        """The event loop has turned lately, or waits for its turn to lead."""
        return self._beat is None or time.monotonic() - self._beat < _STALLED_SECONDS

    def is_ready(self) -> bool:
        """The caches are filled, or it waits for its turn to lead."""
        return self._beat is None or all(cache.synced.is_set() for cache in self.caches.values())

    async def run(self) -> None:
        """Fill the caches, then pass over what changes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._turn())
            for cache in self.caches.values():
                tasks.create_task(cache.run())
            for cache in self.caches.values():
                await cache.synced.wait()
            self._log.info("synced", workspaces=len(list(self.caches[WORKSPACE].all())))
            for _ in range(WORKERS):
                tasks.create_task(self._work())
            if self._keeper is not None:
                tasks.create_task(self._keeper.run())

    def _cache(self, cluster: Cluster, kind: Kind, settings: Settings) -> Cache:
        labels = {WORKSPACE_LABEL: None} if kind == POD else None
        namespace = settings.namespaces[0] if settings.namespaces and kind != NODE else None
        return Cache(
            cluster, kind, on_change=self._changed, random=random.random, labels=labels, namespace=namespace,
            trim=TRIMS[kind],
        )  # fmt: skip

    def _changed(self, kind: Kind, old: Manifest | None, new: Manifest | None) -> None:
        for name in concerned(kind, old, new, self.caches[WORKSPACE].all):
            self._queue.add(name)
        self._metrics.waiting.set(len(self._queue))
        if self._keeper is not None and concerns_nodes(kind, old, new):
            self._keeper.wake()

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            namespace, name = key
            try:
                with self._metrics.seconds.time():
                    again = await self._reconciler.reconcile(namespace, name)
            except KairayError as error:
                least = error.retry_after if isinstance(error, TransientError) else 0.0
                wait = self._queue.failed(key, least=least)
                self._count("failed")
                self._log.fault(
                    "pass failed", namespace=namespace, name=name, reason=error.reason, message=error.message,
                    retrySeconds=round(wait, 1),
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001  # one Workspace's surprise must not stop the others
                self._queue.failed(key, least=10.0)
                self._count("crashed")
                self._log.fault("pass crashed", namespace=namespace, name=name, error=repr(error))
            else:
                self._queue.done(key)
                self._count("done")
                if again is not None:
                    self._queue.add_after(key, again)

    def _count(self, outcome: str) -> None:
        self._metrics.passes.labels(outcome).inc()
        self._metrics.waiting.set(len(self._queue))

    async def _turn(self) -> None:
        while True:
            self._beat = time.monotonic()
            self._metrics.workspaces.set(len(list(self.caches[WORKSPACE].all())))
            await asyncio.sleep(_STALLED_SECONDS / 6)


def _now() -> datetime:
    return datetime.now(UTC)
