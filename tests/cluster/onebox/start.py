"""Bring the parts up in their order. Every step says what it did; what cannot go on says why."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from onebox import addons, certificates, control_plane, network, node, runtime
from onebox.api import Api
from onebox.commands import succeeds
from onebox.errors import Report
from onebox.layout import NODE, NODE_IP, Layout
from onebox.processes import ANCHOR, parts, spawn
from onebox.waiting import wait_for


class Start:
    """One start: remembers the pids of the parts it started, to notice when one dies."""

    def __init__(self, layout: Layout, tools: Path, report: Report) -> None:
        self.layout, self.tools, self.report = layout, tools, report
        self.pids: dict[str, int] = {}

    def run(self, *, gpus: int) -> None:
        """From nothing to a Ready node with DNS, registries and the operator."""
        self._namespaces()
        certificates.create(self.layout.pki, datetime.datetime.now(datetime.UTC))
        self.layout.kubeconfig.symlink_to(self.layout.pki / "admin.kubeconfig")
        self._spawn("etcd", control_plane.etcd)
        self._spawn("kube-apiserver", control_plane.api_server)
        self._containerd()
        api = Api(self.layout.pki)
        self._wait("API server", lambda: api.text("/readyz") == "ok", seconds=120)
        self.report("API server is ready")
        self._spawn("kube-controller-manager", control_plane.controller_manager)
        self._spawn("kube-scheduler", control_plane.scheduler)
        self._spawn("kubelet", node.kubelet)
        self._spawn("kube-proxy", node.kube_proxy)
        self._wait("default service account", lambda: self._has_service_account(api), seconds=60)
        addons.apply(api, self.layout, self.tools)
        self._wait("ready node", lambda: node.ready(api.get(f"/api/v1/nodes/{NODE}")), seconds=60)
        node.advertise_gpus(api, gpus)
        self.report(f"node {NODE} is ready ({NODE_IP}, {gpus} pretended GPUs)")
        self._wait_deployments(api, addons.DEPLOYMENTS)
        self.report("DNS, registries and the KubeRay operator are available")

    def additions(self, api: Api) -> None:
        """Claims and kwok, once their programs are built."""
        addons.apply_storage(api, self.layout, self.tools)
        self._spawn("kwok", node.kwok)
        self._wait_deployments(api, (addons.STORAGE_DEPLOYMENT,))
        self.report("storage class and kwok are available")

    def _namespaces(self) -> None:
        node.save_settings(self.layout)
        runtime.make_covered_folders(self.layout)
        node.make_cgroups()
        network.create()
        self.pids[ANCHOR] = spawn(self.layout, ANCHOR, runtime.anchor_command(self.layout), anchor=None)
        self._wait("private namespaces", runtime.anchor_ready(self.layout).exists, seconds=10)
        self.report("network and mount namespaces are there")

    def _containerd(self) -> None:
        config = runtime.write_configuration(self.layout, self.tools)
        self.pids["containerd"] = spawn(
            self.layout, "containerd", ["containerd", "-c", str(config)], anchor=self._anchor()
        )
        version = ["ctr", "-a", str(self.layout.containerd_socket), "version"]
        self._wait("container runtime", lambda: succeeds(version), seconds=60)
        runtime.import_images(self.layout, self.tools)
        self.report("container runtime and images are there")

    def _spawn(self, name: str, command: Callable[[Layout, Path], list[str]]) -> None:
        self.pids[name] = spawn(self.layout, name, command(self.layout, self.tools), anchor=self._anchor())

    def _anchor(self) -> int:
        return self.pids.get(ANCHOR) or next(part.pid for part in parts() if part.name == ANCHOR)

    def _wait(
        self, what: str, check: Callable[[], bool], *, seconds: float, missing: Callable[[], str] = lambda: ""
    ) -> None:
        wait_for(what, check, seconds=seconds, parts=self.pids, logs=self.layout.logs, missing=missing)

    def _wait_deployments(self, api: Api, wanted: tuple[tuple[str, str], ...]) -> None:
        missing: list[str] = []

        def available() -> bool:
            missing[:] = addons.unavailable(api, wanted)
            return not missing

        self._wait(
            "available deployments", available, seconds=120, missing=lambda: f"missing: {', '.join(missing)}"
        )

    @staticmethod
    def _has_service_account(api: Api) -> bool:
        return api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None
