"""KAITO and Kairay in one cluster, from the controller that waits to the Workspace that Kairay serves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bare import BareApiServer, eventually
from kairay.kube.objects import RAY_SERVICE, SERVICE, STATEFUL_SET, WORKSPACE
from kairay.local.ports import free_ports
from onebox.api import Manifest

pytestmark = pytest.mark.cluster

TEAM = "handover"
FINALIZER = "workspace.finalizer.kaito.sh"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kairay-system/leases/kairay-controller"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@pytest.fixture
def beside(server: BareApiServer) -> Iterator[BareApiServer]:
    """A cluster whose KAITO is live and serves one Workspace; without its finalizer, nothing of it can be deleted."""
    server.install_kuberay_crds()
    for name in (TEAM, "kaito-workspace"):
        server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    made = server.api.apply(workspace())
    for each in (webhook(), kaito(), *left_by_kaito(made["metadata"]["uid"])):
        server.api.apply(each)
    yield server
    path = WORKSPACE.path(TEAM, "phi")
    server.api.patch(path, {"metadata": {"finalizers": None}})
    server.api.delete(path)
    server.api.delete(f"{POLICIES}/{webhook()['metadata']['name']}")
    server.api.delete("/apis/apps/v1/namespaces/kaito-workspace/deployments/workspace")


def test_the_controller_waits_and_the_printed_commands_hand_the_workspace_over(
    beside: BareApiServer, tmp_path: Path
) -> None:
    kubectl = beside.tools / "kubectl"
    if not kubectl.exists():
        pytest.skip("kubectl is not built on this machine; run `make cluster-tools`")
    environment = {**os.environ, "KUBECONFIG": str(beside.kubeconfig)}
    environment["PATH"] = f"{beside.tools}:{environment['PATH']}"
    with controller(environment, tmp_path) as (address, log):
        eventually("the log says why", lambda: "KAITO is live in this cluster" in log.read_text("utf-8"))
        assert requests.get(f"{address}/healthz", timeout=5).status_code == 200
        assert requests.get(f"{address}/readyz", timeout=5).status_code == 503
        assert beside.api.find(LEASE) is None

        report = kairay(environment, "migrate", "-n", TEAM)
        assert "KAITO is live" in report
        assert "StatefulSet phi (1 GPU)" in report
        commands = kairay(environment, "migrate", "-n", TEAM, "--adopt")
        subprocess.run(["sh", "-e", "-c", commands], env=environment, cwd=tmp_path, check=True, timeout=60)

        assert beside.api.find(STATEFUL_SET.path(TEAM, "phi")) is None
        assert "finalizers" not in beside.api.get(WORKSPACE.path(TEAM, "phi"))["metadata"]
        assert "name: phi" in (tmp_path / "workspaces-before-kairay.yaml").read_text("utf-8")
        eventually("Kairay serves it", lambda: beside.api.find(RAY_SERVICE.path(TEAM, "phi")), 60)
        selector = beside.api.get(SERVICE.path(TEAM, "phi"))["spec"]["selector"]
        assert "kaito.sh/workspace" not in selector
        assert requests.get(f"{address}/readyz", timeout=5).status_code == 200
    beside.api.delete(LEASE)


@contextlib.contextmanager
def controller(environment: dict[str, str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Its address and its log."""
    (port,) = free_ports(1)
    log = folder / "controller.log"
    settings = {"KAIRAY_HTTP_HOST": "127.0.0.1", "KAIRAY_HTTP_PORT": str(port)}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "kairay.controller"]
        process = subprocess.Popen(command, env={**environment, **settings}, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait(20)


def kairay(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "kairay.cli.main", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def workspace() -> Manifest:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": "phi", "namespace": TEAM, "finalizers": [FINALIZER]},
        "resource": {"labelSelector": {"matchLabels": {"app": "phi"}}},
        "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
    }  # fmt: skip


def webhook() -> Manifest:
    """With no rule in it: nobody answers here."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "validation.workspace.kaito.sh"}, "webhooks": [],
    }  # fmt: skip


def kaito() -> Manifest:
    return deployment_like(
        "Deployment", "workspace", "kaito-workspace", "mcr.microsoft.com/aks/kaito/workspace:0.12.0"
    )


def left_by_kaito(uid: str) -> list[Manifest]:
    owner = {"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "name": "phi", "uid": uid}
    pods = deployment_like("StatefulSet", "phi", TEAM, "mcr.microsoft.com/aks/kaito/kaito-base:0.4.0", gpus=1)
    pods["spec"]["serviceName"] = "phi-headless"
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "phi", "namespace": TEAM},
        "spec": {"selector": {"kaito.sh/workspace": "phi"}, "ports": [{"port": 80, "targetPort": 5000}]},
    }  # fmt: skip
    for each in (pods, service):
        each["metadata"]["ownerReferences"] = [owner]
    return [pods, service]


def deployment_like(kind: str, name: str, namespace: str, image: str, *, gpus: int = 0) -> Manifest:
    labels = {"kaito.sh/workspace": name}
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = {"name": "main", "image": image, "resources": {"limits": limits}}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip
