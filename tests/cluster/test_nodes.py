"""GPU nodes come for the work and leave after it: real pods of Ray, Azure's real SDK, a simulated Azure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from fixture_types import Apply, Kubectl
from installed import configure
from onebox.api import Api
from onebox.cluster import Cluster
from onebox.kairay import INSTALL
from onebox.layout import NODE, Layout
from polling import eventually
from provisioner import CLAIMS, POOLS, Provisioner
from ray_manifests import Manifest
from simulated_azure import simulated_azure
from simulator import Simulator
from workspaces import (
    QUESTION,
    ROOT,
    condition,
    leftovers,
    message_of,
    objects,
    provide,
    reason_of,
    short_tuning,
    status,
    workers,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900, func_only=True)]

IDLE_SECONDS = 10
GOLDEN = ROOT / "tests" / "golden" / "karpenter"
SERVED = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: served}
resource:
  instanceType: Standard_NC64as_T4_v3
  labelSelector: {matchLabels: {app: small-model}}
inference:
  preset: {name: smollm2-135m-instruct}
  scaling: {minReplicas: 0, maxReplicas: 2, targetOngoingRequests: 1, idleSeconds: 10}
"""
LOAD = """
import json, sys, threading, time, urllib.error, urllib.request
url, question = sys.argv[1:]
body = json.dumps({"prompt": question}).encode()
end = time.monotonic() + 420

def ask():
    while time.monotonic() < end:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            answer = json.loads(urllib.request.urlopen(request, timeout=180).read())
        except urllib.error.URLError:  # kube-proxy may be a second behind the Service; a full queue says 429
            time.sleep(0.5)
        else:
            print(answer["Result"], flush=True)

threads = [threading.Thread(target=ask) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
"""Six requests at a time, until the pod is deleted or seven minutes are over."""


@pytest.fixture
def azure(kairay: Cluster) -> Iterator[Simulator]:
    """The controller makes pools in it; every message is as AKS describes it."""
    with simulated_azure(kairay, KAIRAY_NODES_IDLE_SECONDS=str(IDLE_SECONDS)) as simulator:
        yield simulator
        assert simulator.arm.violations == []


@pytest.fixture
def karpenter(kairay: Cluster) -> Iterator[None]:
    """Karpenter's definitions, a played Karpenter whose nodes only pretend, and a controller that uses it."""
    for name in ("nodepools", "nodeclaims"):
        definition = yaml.safe_load((GOLDEN / f"{name}-1.15.0.yaml").read_text("utf-8"))
        kairay.api.apply(definition)
    kairay.api.apply_all((INSTALL / "karpenter-rbac.yaml").read_text("utf-8"))
    eventually("Karpenter's kinds", lambda: kairay.api.find(POOLS) and kairay.api.find(CLAIMS))
    provisioner = Provisioner(api=Api(Layout.default().pki), start_seconds=1.0)
    with provisioner.running():
        configure(
            kairay, KAIRAY_NODES_PROVIDER="karpenter", KAIRAY_NODES_IDLE_SECONDS="5",
            KAIRAY_NODES_EMPTY_POOL_SECONDS="5",
            KAIRAY_RUN_STORAGE="0",  # nobody makes a volume on a node that only pretends
        )  # fmt: skip
        yield
        configure(kairay)


def test_a_node_comes_for_a_tuning_job_and_leaves_after_it(
    kairay: Cluster, namespace: str, azure: Simulator, apply: Apply, kubectl: Kubectl
) -> None:
    provide(kairay, namespace)
    apply(short_tuning(kairay, namespace, "tuned"))
    eventually(
        "it is planned", lambda: reason_of(kairay, namespace, "tuned", "ResourceReady"),
        lambda reason: reason == "NodesOnDemand", seconds=60,
    )  # fmt: skip
    assert not azure.arm.calls["PUT pool"], "nothing is paid for while the data is checked"

    pod = eventually("the GPU worker's pod", lambda: workers(kairay, namespace), seconds=180)[0]
    eventually("the pool is made", lambda: azure.arm.calls["PUT pool"] == 1, seconds=15)
    waited = (
        datetime.now(UTC) - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    ).total_seconds()
    told = eventually(
        "status says so", lambda: message_of(kairay, namespace, "tuned", "ResourceReady"),
        lambda text: "scaling 0→1" in text, seconds=20,
    )  # fmt: skip
    print(
        f"\n{waited:.1f} s from the pod to the PUT, a whole second of it the pod's time stamp; status: {told}"
    )
    assert waited <= 6, "5 s, and what the time stamp cuts off"
    assert "waiting for 1 × Standard_NC4as_T4_v3" in told

    eventually(
        "it is tuned", lambda: status(kairay, namespace, "tuned").get("tuning", {}).get("outcome"),
        lambda outcome: outcome == "Succeeded", seconds=480,
    )  # fmt: skip
    eventually("the GPU has gone", lambda: not workers(kairay, namespace), seconds=90)
    idle = time.monotonic()
    eventually("the machine is deleted", lambda: azure.arm.calls["POST deleteMachines"] == 1, seconds=60)
    print(
        f"{time.monotonic() - idle:.1f} s from the last pod to deleteMachines, of which {IDLE_SECONDS} are the setting"
    )
    eventually("no machine is left", lambda: machines(azure), lambda left: left == 0, seconds=30)
    assert azure.arm.calls["PUT pool"] == 1, "one write made the pool, none was needed to take its node away"
    eventually("the node is as it was", lambda: not labels(kairay).get("kairay.dev/pool"), seconds=20)


def test_nodes_follow_a_service_from_zero_to_two_replicas_and_back(
    kairay: Cluster, namespace: str, azure: Simulator, apply: Apply, kubectl: Kubectl
) -> None:
    apply(SERVED)
    eventually(
        "it waits for requests", lambda: condition(kairay, namespace, "served", "WorkspaceReady"),
        lambda verdict: verdict == "True", seconds=240,
    )  # fmt: skip
    assert not azure.arm.calls["PUT pool"]
    kairay.api.apply(loader(kairay, "http://served/chat"), namespace)
    eventually("two replicas work", lambda: ready_workers(kairay, namespace) == 2, seconds=360)
    assert machines(azure) == 1, "both have room on one machine with four GPUs"
    assert azure.arm.calls["PUT pool"] == 1
    place = f"/api/v1/namespaces/{namespace}/pods/loader"
    answers = eventually("answers", lambda: kairay.api.text(f"{place}/log").strip().splitlines())
    print(f"\n{len(answers)} answers by then")
    kairay.api.delete(place, grace_seconds=0)
    eventually("no replica is left", lambda: not workers(kairay, namespace), seconds=180)
    eventually("no machine is left", lambda: machines(azure), lambda left: left == 0, seconds=90)
    assert azure.arm.calls["POST deleteMachines"] == 1
    kubectl("-n", namespace, "delete", "workspace", "served")
    eventually("all is gone", lambda: leftovers(kairay, namespace), lambda found: not found, seconds=120)
    assert not objects(kairay, namespace, "rayservices")


def test_karpenters_pools_are_made_for_waiting_pods_and_deleted_after_them(
    kairay: Cluster, namespace: str, karpenter: None, apply: Apply, kubectl: Kubectl
) -> None:
    provide(kairay, namespace)
    apply(short_tuning(kairay, namespace, "tuned"))
    eventually("the GPU worker's pod", lambda: workers(kairay, namespace), seconds=180)
    (pool,) = eventually("its NodePool", lambda: kairay.api.items(POOLS), seconds=30)
    assert pool["spec"]["template"]["metadata"]["labels"]["app"] == "small-model"
    eventually(
        "the pod has a node", lambda: workers(kairay, namespace)[0]["spec"].get("nodeName"), bool, seconds=60
    )
    assert kairay.api.items(CLAIMS)
    eventually(
        "the node is told", lambda: reason_of(kairay, namespace, "tuned", "ResourceReady"),
        lambda reason: reason == "NodesReady", seconds=60,
    )  # fmt: skip

    kubectl("-n", namespace, "delete", "workspace", "tuned")
    eventually("the node has gone", lambda: not kairay.api.items(CLAIMS), seconds=90)
    eventually("the NodePool has gone", lambda: not kairay.api.items(POOLS), seconds=90)


def machines(azure: Simulator) -> int:
    """Of pools that are not the system's."""
    return sum(len(pool.machines) for name, pool in azure.cloud.pools.items() if name != "system")


def labels(cluster: Cluster) -> dict[str, str]:
    """Of the real node."""
    found: dict[str, str] = cluster.api.get(f"/api/v1/nodes/{NODE}")["metadata"]["labels"]
    return found


def ready_workers(cluster: Cluster, namespace: str) -> int:
    def is_ready(pod: Manifest) -> bool:
        conditions: list[dict[str, Any]] = pod["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    return sum(map(is_ready, workers(cluster, namespace)))


def loader(cluster: Cluster, url: str) -> Manifest:
    """A pod that asks."""
    command = ["python", "-c", LOAD, url, QUESTION]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loader"},
        "spec": {"restartPolicy": "Never", "containers": [
            {"name": "main", "image": cluster.image, "command": command},
        ]},
    }  # fmt: skip
