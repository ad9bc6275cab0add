"""Workspaces that need no training on the cluster: sizes of nodes, other settings, the user's own pod, exposure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from fixture_types import Apply, GpuNode, Kubectl
from installed import configure
from onebox.cluster import Cluster
from polling import eventually
from workspaces import (
    ROOT,
    ask,
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

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600, func_only=True)]

SEED = (ROOT / "examples" / "tuning-phi-3.yaml").read_text("utf-8")
PHI = "workspace-tuning-phi-3"
SIZE = "node.kubernetes.io/instance-type"
TEMPLATE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {{name: my-own}}
resource:
  labelSelector: {{matchLabels: {{app: small-model}}}}
inference:
  template:
    spec:
      containers:
      - name: main
        image: {image}
        command: {command}
        ports: [{{containerPort: 5000}}]
"""
PROGRAM = """
import http.server

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"Result": "mine"}')

http.server.HTTPServer(("", 5000), Answers).serve_forever()
"""
INFERENCE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: exposed, annotations: {kaito.sh/enablelb: "True"}}
resource:
  labelSelector: {matchLabels: {app: small-model}}
inference:
  preset: {name: smollm2-135m-instruct}
"""


@pytest.fixture
def real_gpus(kairay: Cluster) -> Iterator[None]:
    """As on a cluster whose GPUs are there: shapes are a GPU's. Nothing can compute on them here."""
    configure(kairay, KAIRAY_ADVERTISED_GPUS=None, KAIRAY_WORKER_SIZE=None)
    yield
    configure(kairay)


def test_a_t4_on_labelled_nodes_is_planned_and_a_v100_is_refused_by_its_compute_capability(
    kairay: Cluster, namespace: str, apply: Apply, gpu_node: GpuNode, real_gpus: None
) -> None:
    gpu_node("v100", gpus=1, labels={"app": "tuning-phi-3", SIZE: "Standard_NC6s_v3"})
    apply(SEED)
    told = eventually(
        "a verdict",
        lambda: message_of(kairay, namespace, PHI, "ResourceReady"),
        lambda text: "capability" in text,
    )
    assert "compute capability 7.0" in told
    assert reason_of(kairay, namespace, PHI, "ResourceReady") == "CannotBePlanned"
    assert not objects(kairay, namespace, "rayjobs")

    kairay.api.delete("/api/v1/nodes/v100")
    kairay.api.delete(f"/apis/kaito.sh/v1beta1/namespaces/{namespace}/workspaces/{PHI}")
    gpu_node("t4", gpus=1, labels={"app": "tuning-phi-3", SIZE: "Standard_NC4as_T4_v3"})
    apply(SEED.replace("Standard_NC6s_v3", "Standard_NC4as_T4_v3"))
    eventually(
        "it is planned",
        lambda: condition(kairay, namespace, PHI, "ResourceReady"),
        lambda verdict: verdict == "True",
    )
    assert status(kairay, namespace, PHI)["plan"]["instanceType"] == "Standard_NC4as_T4_v3"
    assert len(objects(kairay, namespace, "rayjobs")) == 1


def test_an_edit_undone_and_an_upgrade_ask_for_no_gpu(
    kairay: Cluster, namespace: str, apply: Apply, kubectl: Kubectl
) -> None:
    provide(kairay, namespace)
    provide(kairay, namespace, rows='{"prompt": \n', name="broken")

    def ended(outcome: str) -> None:
        eventually(
            f"it has {outcome.lower()}", lambda: status(kairay, namespace, "changing").get("tuning", {}).get("outcome"),
            lambda found: found == outcome, seconds=480,
        )  # fmt: skip

    apply(short_tuning(kairay, namespace, "changing"))
    ended("Succeeded")
    digest = status(kairay, namespace, "changing")["tuning"]["adapter"]["digest"]
    eventually("its GPU has gone", lambda: not tuners(kairay, namespace), seconds=60)

    apply(short_tuning(kairay, namespace, "changing", data="broken"))
    ended("Failed")
    assert status(kairay, namespace, "changing")["tuning"]["adapter"]["digest"] == digest, "the old one stays"
    kubectl("-n", namespace, "annotate", "workspace", "changing", "kairay.dev/retry=1")
    eventually(
        "another attempt", lambda: status(kairay, namespace, "changing")["tuning"].get("attempt"),
        lambda attempt: attempt == 2, seconds=120,
    )  # fmt: skip
    ended("Failed")

    seen: set[str] = set()
    apply(short_tuning(kairay, namespace, "changing"))

    def again() -> bool:
        seen.update(tuners(kairay, namespace))
        return status(kairay, namespace, "changing").get("tuning", {}).get("outcome") == "Succeeded"

    eventually("the first adapter is found again", again, seconds=180)
    assert status(kairay, namespace, "changing")["tuning"]["adapter"]["digest"] == digest
    jobs = {each["metadata"]["uid"] for each in objects(kairay, namespace, "rayjobs")}

    configure(kairay, KAIRAY_HEAD_SIZE="0.3/1Gi-2/4Gi", KAIRAY_RUN_STORAGE="2Gi")
    seen.update(tuners(kairay, namespace))
    assert {each["metadata"]["uid"] for each in objects(kairay, namespace, "rayjobs")} <= jobs, "no other job"
    configure(kairay)
    assert not seen, "neither the edit's undoing nor the upgrade asks for a GPU"


def test_a_push_secret_that_is_missing_is_named_and_the_job_goes_on_when_it_is_made(
    kairay: Cluster, namespace: str, apply: Apply, kubectl: Kubectl
) -> None:
    provide(kairay, namespace)
    kubectl("-n", namespace, "delete", "secret", "push")
    apply(short_tuning(kairay, namespace, "changing"))
    told = eventually(
        "the secret is named", lambda: message_of(kairay, namespace, "changing", "JobStarted"),
        lambda text: "Secret" in text, seconds=90,
    )  # fmt: skip
    assert (
        f"there is no Secret push in namespace {namespace}; create it: kubectl -n {namespace} create" in told
    )
    assert reason_of(kairay, namespace, "changing", "JobStarted") == "ReferenceMissing"
    provide(kairay, namespace)
    # The kubelet tries its mounts at most every two minutes.
    eventually(
        "the job starts", lambda: condition(kairay, namespace, "changing", "JobStarted"),
        lambda verdict: verdict == "True", seconds=240,
    )  # fmt: skip
    assert "Secret" not in status(kairay, namespace, "changing")["message"]


def test_the_users_own_pod_answers_behind_port_80_and_leaves_nothing(
    kairay: Cluster, namespace: str, apply: Apply, kubectl: Kubectl
) -> None:
    apply(TEMPLATE.format(image=kairay.image, command=json.dumps(["python", "-c", PROGRAM])))
    eventually(
        "it answers", lambda: condition(kairay, namespace, "my-own", "WorkspaceReady"),
        lambda verdict: verdict == "True", seconds=120,
    )  # fmt: skip
    assert ask(kairay, namespace, "my-own", "own", path="/") == "mine"
    kubectl("-n", namespace, "delete", "workspace", "my-own")
    eventually("all is gone", lambda: leftovers(kairay, namespace), lambda found: not found, seconds=120)


def test_an_exposed_service_asks_for_a_key_inside_the_cluster_too(
    kairay: Cluster, namespace: str, apply: Apply
) -> None:
    apply(INFERENCE)
    eventually(
        "it answers", lambda: condition(kairay, namespace, "exposed", "WorkspaceReady"),
        lambda verdict: verdict == "True", seconds=240,
    )  # fmt: skip
    service = kairay.api.get(f"/api/v1/namespaces/{namespace}/services/exposed")
    assert service["spec"]["type"] == "LoadBalancer"
    secret = kairay.api.get(f"/api/v1/namespaces/{namespace}/secrets/exposed-api-keys")
    key = base64.b64decode(next(iter(secret["data"].values()))).decode()
    assert "401" in ask(kairay, namespace, "exposed", "without", path="/v1/models")
    assert "401" in ask(kairay, namespace, "exposed", "wrong", path="/v1/models", key="sk-wrong")
    assert ask(kairay, namespace, "exposed", "right", path="/v1/models", key=key) == "smollm2-135m-instruct"


def tuners(cluster: Cluster, namespace: str) -> list[str]:
    """Worker pods of a tuning job."""
    found = workers(cluster, namespace)
    return [pod["metadata"]["name"] for pod in found if "kairay.dev/revision" in pod["metadata"]["labels"]]
