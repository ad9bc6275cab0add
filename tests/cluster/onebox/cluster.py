"""The cluster of this machine as a value, and the two operations on it: `ensure_up` and `take_down`."""

from __future__ import annotations

import datetime
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from onebox import holder as holders
from onebox import packages, tools
from onebox.addons import REGISTRY_PASSWORD, REGISTRY_USER
from onebox.api import Api, ApiError
from onebox.errors import OneboxError, Report
from onebox.holder import Holder
from onebox.layout import CLONE, NODE, PRIVATE_REGISTRY_IP, RAY_IMAGE, REGISTRY_IP, REGISTRY_PORT, Layout
from onebox.processes import parts
from onebox.start import Start
from onebox.stop import leftovers, stop

DEFAULT_GPUS = 4
SLOW_SECONDS = 30
"""How long a cluster whose parts live may take to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster and how to reach it."""

    kubeconfig: Path
    kubectl: Path
    logs: Path
    """One <part>.log each."""
    api: Api
    image: str = RAY_IMAGE
    """For pods: Python, Ray and Kairay as they are in this clone's environment."""
    registry: str = f"{REGISTRY_IP}:{REGISTRY_PORT}"
    """Plain HTTP, no login; reachable from the host and from pods."""
    private_registry: str = f"{PRIVATE_REGISTRY_IP}:{REGISTRY_PORT}"
    """Plain HTTP, basic authentication."""
    registry_user: str = REGISTRY_USER
    registry_password: str = REGISTRY_PASSWORD
    node: str = NODE

    @classmethod
    def running(cls) -> Cluster | None:
        """This clone's cluster, if it is up and its API server answers."""
        layout = Layout.default()
        holder = holders.read(layout)
        if holder is None or not holder.up or not holder.is_this_clone or not layout.kubeconfig.exists():
            return None
        cluster = cls(
            kubeconfig=layout.kubeconfig,
            kubectl=Path(holder.tools) / "kubectl",
            logs=layout.logs,
            api=Api(layout.pki),
        )
        return cluster if cluster.is_ready() else None

    def is_ready(self) -> bool:
        """The API server says so now."""
        try:
            return self.api.text("/readyz") == "ok"
        except (requests.RequestException, ApiError, OSError):
            return False


def ensure_up(report: Report, gpus: int = DEFAULT_GPUS) -> tuple[Cluster, bool]:
    """The running cluster of this clone, and whether this call started it.

    Installs packages and builds programs as needed; cleans up after a start that was cut off. What only tests and
    people need (kubectl, kwok, claims) is built when the cluster is up already. An interrupted or failed start leaves
    nothing behind. Raises OneboxError when the machine cannot, or when another clone holds the cluster.
    """
    packages.check_machine()
    layout = Layout.default()
    with holders.lock(layout, report):
        packages.forget_installation()
        started = _running_or_slow(layout, report) is None
        if started:
            _clear_the_way(layout, report)
            packages.install(report)
            folder = layout.tools / tools.cache_key()
            tools.build(folder, tools.NEEDED, _build_log(layout), report)
            _start(layout, folder, report, gpus)
        try:
            _complete(layout, report)
        except BaseException:
            if started:
                report("the start did not succeed; cleaning up")
                stop(layout, report)
            raise
    cluster = Cluster.running()
    if cluster is None:
        raise OneboxError(f"the API server stopped answering right after the start; see {layout.logs}")
    return cluster, started


def _running_or_slow(layout: Layout, report: Report) -> Cluster | None:
    """This clone's cluster. While its parts live it is not taken for a broken one because it answers slowly."""
    cluster = Cluster.running()
    holder = holders.read(layout)
    if cluster is not None or holder is None or not holder.up or not holder.is_this_clone:
        return cluster
    if not _lives():
        return None
    report("the cluster is up and answers slowly; waiting for it")
    deadline = time.monotonic() + SLOW_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1)
        if (cluster := Cluster.running()) is not None:
            return cluster
    raise OneboxError(
        f"the cluster's API server lives and does not answer for {SLOW_SECONDS} s; `make cluster-down`, then up again"
    )


def build_tools(report: Report) -> None:
    """Packages and every program, without a start. Raises OneboxError when the machine cannot run a cluster."""
    packages.check_machine()
    layout = Layout.default()
    with holders.lock(layout, report):
        packages.install(report)
    folder = layout.tools / tools.cache_key()
    tools.build(folder, (*tools.NEEDED, *tools.LATER), _build_log(layout), report)
    tools.build(tools.helm_folder(layout.tools), (tools.HELM,), _build_log(layout), report)


def take_down(report: Report, *, force: bool = False) -> None:
    """Leave nothing of the cluster on this machine; fine when there is none.

    Raises OneboxError when another clone holds it (unless `force`, or that clone or its cluster is gone).
    """
    packages.check_machine()
    layout = Layout.default()
    with holders.lock(layout, report):
        packages.forget_installation()
        holder = holders.read(layout)
        if not force:
            _refuse_another_clones(holder)
        if holder is None and not leftovers(layout):
            report("no cluster is up")
            return
        stop(layout, report)


def _clear_the_way(layout: Layout, report: Report) -> None:
    """Refuse where another clone's cluster runs; clean up after one that is not whole."""
    holder = holders.read(layout)
    _refuse_another_clones(holder)
    if holder or leftovers(layout):
        report("cleaning up after a cluster that was not taken down")
        stop(layout, report)


def _refuse_another_clones(holder: Holder | None) -> None:
    """A record whose cluster died with the machine, or was killed, holds nothing."""
    if holder and holder.up and not holder.is_this_clone and Path(holder.clone).exists() and _lives():
        raise OneboxError(
            f"one cluster per machine: the clone in {holder.clone} holds it (since {holder.started}); run "
            "`make cluster-down` there first, or `make cluster-down FORCE=1` here"
        )


def _lives() -> bool:
    """Whether a cluster has what it cannot be without, whoever started it and however slowly it answers."""
    return {part.name for part in parts()} >= {"etcd", "kube-apiserver"}


def _start(layout: Layout, folder: Path, report: Report, gpus: int) -> None:
    """Start all parts; on failure or Ctrl-C undo it."""
    began = time.monotonic()
    shutil.rmtree(layout.logs, ignore_errors=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    holder = Holder(clone=str(CLONE), started=now, tools=str(folder), up=False)
    holders.write(layout, holder)
    layout.state.mkdir(mode=0o755)
    try:
        Start(layout, folder, report).run(gpus=gpus)
        holders.write(layout, replace(holder, up=True))
    except BaseException:
        report("the start did not succeed; cleaning up")
        stop(layout, report)
        raise
    report(f"the cluster is up, {time.monotonic() - began:.0f} s after its start")


def _complete(layout: Layout, report: Report) -> None:
    """Add what was not built yet when the cluster came up, also after an interruption."""
    holder = holders.read(layout)
    if holder is not None and not any(part.name == "kwok" for part in parts()):
        folder = Path(holder.tools)
        tools.build(folder, tools.LATER, _build_log(layout), report)
        Start(layout, folder, report).additions(Api(layout.pki))


def _build_log(layout: Layout) -> Path:
    return layout.root / "build.log"
