"""One cluster per session, one namespace per test, evidence on failure, nothing left over."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from evidence import collect
from fixture_types import Apply, GpuNode, Kubectl
from onebox.api import Manifest
from onebox.cluster import Cluster, ensure_up, take_down
from onebox.errors import MachineCannotError
from onebox.kairay import install, uninstall
from polling import eventually

NAMESPACE = pytest.StashKey[str]()
FAILED = pytest.StashKey[bool]()
PRETENDED: Manifest = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""The taint that keeps real pods off nodes on which nothing runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-cluster",
        action="store_true",
        help="leave the cluster up that the tests started, and the namespaces of tests that failed",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that start and stop clusters come first: they need the machine without one."""
    items.sort(
        key=lambda item: item.path.parent == Path(__file__).parent and item.path.name != "test_lifecycle.py"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    cluster: Cluster | None = item.funcargs.get("cluster") if hasattr(item, "funcargs") else None
    if report.failed and cluster is not None:
        item.stash[FAILED] = True
        if namespace := item.stash.get(NAMESPACE, None):
            report.sections.append(("cluster", collect(cluster.api, namespace)))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The running cluster of this clone, or one that is started now and taken down at the end."""
    terminal = request.config.get_terminal_writer()

    def report(line: str) -> None:
        terminal.line(f"cluster: {line}")

    try:
        found, started = ensure_up(report)
    except MachineCannotError as error:
        pytest.skip(str(error))
    yield found
    if started and not request.config.getoption("--keep-cluster"):
        take_down(report)


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; gone with all its pods before the next test starts."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    name = words[:50].strip("-")
    request.node.stash[NAMESPACE] = name
    remove_namespace(cluster, name)
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually("the default service account", lambda: cluster.api.find(account))
    yield name
    if request.node.stash.get(FAILED, False) and request.config.getoption("--keep-cluster"):
        request.config.get_terminal_writer().line(f"\ncluster: kept namespace {name}")
    else:
        remove_namespace(cluster, name)


def remove_namespace(cluster: Cluster, name: str) -> None:
    """Wait until it is gone. Its pods are deleted too, with a second of grace, so that they do not linger."""
    path = f"/api/v1/namespaces/{name}"
    if cluster.api.find(path) is None:
        return
    cluster.api.delete(path)
    for pod in cluster.api.items(f"{path}/pods"):
        cluster.api.delete(f"{path}/pods/{pod['metadata']['name']}", grace_seconds=1)
    eventually(f"namespace {name} is gone", lambda: cluster.api.find(path) is None, seconds=90)


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    """Run kubectl; its standard output, or an error that carries what it said."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def gpu_node(cluster: Cluster) -> Iterator[GpuNode]:
    """Make nodes that only pretend, with GPUs; they and what runs on them go at the end."""
    made: list[str] = []

    def make(
        name: str, *, gpus: int = 8, labels: dict[str, str] | None = None, taints: Iterable[Manifest] = ()
    ) -> str:
        made.append(name)
        room = {"cpu": "32", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
        node: Manifest = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"type": "kwok", "kubernetes.io/os": "linux", **(labels or {})},
            },
            "spec": {"taints": [PRETENDED, *taints]},
        }
        cluster.api.apply(node)
        cluster.api.patch(f"/api/v1/nodes/{name}/status", {"status": {"allocatable": room, "capacity": room}})
        return name

    yield make
    for name in made:
        for pod in cluster.api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={name}"):
            metadata = pod["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            cluster.api.delete(path, grace_seconds=0)
        cluster.api.delete(f"/api/v1/nodes/{name}")


@pytest.fixture(scope="session")
def kairay(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with Kairay on it."""
    install(cluster, print)
    yield cluster
    uninstall(cluster)


@pytest.fixture
def apply(kairay: Cluster, namespace: str, kubectl: Kubectl, tmp_path: Path) -> Apply:
    """`kubectl apply` a text into the test's namespace."""

    def run(text: str) -> str:
        file = tmp_path / "workspace.yaml"
        file.write_text(text, "utf-8")
        return kubectl("-n", namespace, "apply", "-f", str(file))

    return run
