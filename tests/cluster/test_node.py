"""What every Kubernetes gives: GPUs, Services, names, claims, logs, exec, port-forward; nodes that come and go."""

from __future__ import annotations

import re
import subprocess

import pytest
import requests

from fixture_types import GpuNode, Kubectl
from onebox.api import Manifest
from onebox.cluster import DEFAULT_GPUS, Cluster
from polling import eventually
from ray_manifests import pod

# The first test also starts the cluster, which builds programs on a new machine: only the test itself is timed.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300, func_only=True)]


def test_the_node_is_ready_and_advertises_its_gpus(cluster: Cluster) -> None:
    node = cluster.api.get(f"/api/v1/nodes/{cluster.node}")
    ready = next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")
    assert ready == "True"
    gpus = eventually(
        "the GPUs are allocatable",
        lambda: cluster.api.get(f"/api/v1/nodes/{cluster.node}")["status"]["allocatable"].get(
            "nvidia.com/gpu"
        ),
    )
    assert gpus == str(DEFAULT_GPUS)


def test_a_claim_outlives_the_pod_that_wrote_to_it(cluster: Cluster, namespace: str) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "run"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    cluster.api.apply(claim, namespace)
    path = f"/api/v1/namespaces/{namespace}"
    writer = on_claim(
        pod("writer", cluster.image, "sh", "-c", "echo step-10 > /data/checkpoint; exec sleep infinity")
    )
    cluster.api.apply(writer, namespace)
    eventually("the writer runs", lambda: phase(cluster, namespace, "writer"), lambda seen: seen == "Running")
    assert cluster.api.get(f"{path}/persistentvolumeclaims/run")["status"]["phase"] == "Bound"
    cluster.api.delete(f"{path}/pods/writer", grace_seconds=0)
    cluster.api.apply(on_claim(pod("reader", cluster.image, "cat", "/data/checkpoint")), namespace)
    eventually(
        "the reader ends", lambda: phase(cluster, namespace, "reader"), lambda seen: seen == "Succeeded"
    )
    assert cluster.api.text(f"{path}/pods/reader/log") == "step-10\n"


def test_a_service_answers_by_address_and_name_and_kubectl_reaches_into_pods(
    cluster: Cluster, namespace: str, kubectl: Kubectl
) -> None:
    server = pod("web", cluster.image, "python", "-u", "-m", "http.server", "8080", "--directory", "/etc")
    cluster.api.apply(server, namespace)
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }  # fmt: skip
    address = cluster.api.apply(service, namespace)["spec"]["clusterIP"]
    answer = eventually(
        "the host is answered", lambda: requests.get(f"http://{address}/nsswitch.conf", timeout=5)
    )
    assert "hosts: files dns" in answer.text
    ask = "import urllib.request as u; print(u.urlopen('http://web/nsswitch.conf', timeout=10).status)"
    cluster.api.apply(pod("client", cluster.image, "sleep", "infinity"), namespace)
    eventually("the client runs", lambda: phase(cluster, namespace, "client"), lambda seen: seen == "Running")
    assert kubectl("exec", "-n", namespace, "client", "--", "python", "-c", ask).strip() == "200"
    assert "GET /nsswitch.conf" in kubectl("logs", "-n", namespace, "web")
    assert forwarded(cluster, namespace) == 200


def test_a_gpu_node_comes_takes_its_pod_and_goes(cluster: Cluster, namespace: str, gpu_node: GpuNode) -> None:
    wanting = pod("wanting", "anything:1", "train")
    wanting["spec"] |= {
        "nodeSelector": {"gpu-pool": "a100"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    }
    wanting["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "8"}}
    cluster.api.apply(wanting, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/wanting"
    reason = eventually("the scheduler gives up for now", lambda: unschedulable(cluster.api.get(path)))
    assert "didn't match Pod's node affinity/selector" in reason
    gpu_node("pool-0", gpus=8, labels={"gpu-pool": "a100"})
    eventually("the pod runs", lambda: phase(cluster, namespace, "wanting"), lambda seen: seen == "Running")
    assert cluster.api.get(path)["spec"]["nodeName"] == "pool-0"
    cluster.api.delete(path, grace_seconds=0)
    cluster.api.delete("/api/v1/nodes/pool-0")
    eventually("the node is gone", lambda: cluster.api.find("/api/v1/nodes/pool-0") is None)


def forwarded(cluster: Cluster, namespace: str) -> int:
    """Status of a request through `kubectl port-forward` on a free port."""
    command = [
        str(cluster.kubectl),
        f"--kubeconfig={cluster.kubeconfig}",
        "port-forward",
        "-n",
        namespace,
        "pod/web",
        ":8080",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert port is not None
            return requests.get(f"http://127.0.0.1:{port[1]}/nsswitch.conf", timeout=10).status_code
        finally:
            forward.terminate()


def on_claim(manifest: Manifest) -> Manifest:
    manifest["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "run"}}]
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return manifest


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    return str(cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")["status"].get("phase"))


def unschedulable(found: Manifest) -> str:
    conditions = found["status"].get("conditions", [])
    return next((str(c.get("message")) for c in conditions if c.get("reason") == "Unschedulable"), "")
