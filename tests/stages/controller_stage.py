"""A cluster in memory with one GPU node and the controller's passes over one Workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kairay.controller.board import NodeBoard
from kairay.controller.events import Recorder
from kairay.controller.models import ModelLookUp, Models
from kairay.controller.observed import Observed
from kairay.controller.reconcile import Reconciler, Tools
from kairay.controller.settings import Settings
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import RAY_JOB, WORKSPACE, Key, Manifest
from kairay.presets import find_preset
from kairay.ray.job_word import JobWord
from kairay.skus import Sku, load_skus
from memory_cluster import live_views

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LABELS = {"app": "mine", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}


class SilentRay:
    """A Ray that has nothing to say."""

    async def last_word(self, head: str, token: str, job_id: str) -> JobWord:
        return JobWord()

    async def metrics(self, addresses: Iterable[str]) -> str:
        return ""


class NoEvents:
    async def changed(self, seen: Observed, status: Any) -> None:
        return None


class Stage:
    """A cluster with one GPU node and a reconciler."""

    def __init__(self, models: Models | None = None) -> None:
        self.now = NOW
        self.settings = Settings()
        self.skus: Mapping[str, Sku] = load_skus()
        self.models = models or ModelLookUp(find_preset)
        self.cluster = FakeCluster(now=lambda: NOW)
        room = {"cpu": "24", "memory": "220Gi", "nvidia.com/gpu": "1"}
        ready = [{"type": "Ready", "status": "True"}]
        self.cluster.put({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1", "labels": LABELS},
            "status": {"allocatable": room, "conditions": ready},
        })  # fmt: skip
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered."""
        self.board = NodeBoard(lambda name: None)
        self.reconciler = Reconciler(Tools(
            cluster=self.cluster, views=live_views(self.cluster), ray=SilentRay(), events=self.recorder(),
            settings=self.settings, skus=self.skus, board=self.board, models=self.models,
            namespace="kairay-system", now=lambda: self.now,
        ))  # fmt: skip

    def recorder(self) -> Recorder:
        """Who hears what turned."""
        return NoEvents()

    def passes(self, count: int = 1) -> float | None:
        """What the last one wants: seconds until the next."""
        again = None
        for _ in range(count):
            again = asyncio.run(self.reconciler.reconcile("team", "mine"))
        return again

    def after(self, seconds: float) -> float | None:
        """A pass so much later; what it wants."""
        self.now += timedelta(seconds=seconds)
        return self.passes()

    def put(self, **work: Any) -> Manifest:
        return self.cluster.put({
            "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine", "namespace": "team"},
            "resource": {"labelSelector": {"matchLabels": {"app": "mine"}}}, **work,
        })  # fmt: skip

    def status(self) -> dict[str, Any]:
        found = self.cluster.find(WORKSPACE, "team", "mine")
        assert found is not None
        return dict(found.get("status") or {})

    def condition(self, kind: str) -> tuple[str, str]:
        """Its reason and message."""
        found = next(each for each in self.status()["conditions"] if each["type"] == kind)
        return found["reason"], found["message"]

    def end_job(self, **status: Any) -> str:
        job = self.cluster.all(RAY_JOB)[0]
        name = str(job["metadata"]["name"])
        self.cluster.set_status(Key(RAY_JOB, "team", name), status)
        return name
