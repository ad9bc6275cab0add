"""kubectl apply a Workspace: the walk-through on real Ray pods, a real registry and a real small model."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from installed import controllers, kill_controllers, leader, push_secret, scale
from onebox.cluster import Cluster
from onebox.kairay import install, uninstall
from polling import eventually
from ray_manifests import Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900, func_only=True)]

ROOT = Path(__file__).resolve().parents[2]
QUESTION, ANSWER = "What is cytology", "The study of cells."
"""A row of the training data."""
NAME = "small-model"
KILLS = int(os.environ.get("KAIRAY_KILLS", "3"))
"""Of the controller, in one walk-through; `make soak` has ten."""
Kubectl = Callable[..., str]
KINDS = ("rayjobs.ray.io", "rayservices.ray.io", "rayclusters.ray.io", "pods", "services", "configmaps",
         "persistentvolumeclaims", "networkpolicies.networking.k8s.io")  # fmt: skip

TUNING = """
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {{name: small-model}}
resource:
  instanceType: Standard_NC4as_T4_v3
  labelSelector: {{matchLabels: {{app: small-model}}}}
tuning:
  preset: {{name: smollm2-135m-instruct}}
  method: qlora
  input: {{volumeSource: {{configMap: {{name: questions}}}}}}
  output: {{image: "{registry}/team/{repository}:0.0.1", imagePushSecret: push}}
"""
INFERENCE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {{name: base-and-more}}
resource:
  instanceType: Standard_NC4as_T4_v3
  labelSelector: {{matchLabels: {{app: small-model}}}}
inference:
  preset: {{name: smollm2-135m-instruct}}
  adapters:
  - source: {{name: words, image: "{registry}/team/{repository}:0.0.1", imagePullSecrets: [push]}}
"""


@pytest.fixture(scope="module")
def kairay(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with Kairay on it."""
    install(cluster, print)
    yield cluster
    uninstall(cluster)


@pytest.fixture
def apply(kairay: Cluster, namespace: str, kubectl: Kubectl, tmp_path: Path) -> Callable[[str], str]:
    """`kubectl apply` a text into the test's namespace."""

    def run(text: str) -> str:
        file = tmp_path / "workspace.yaml"
        file.write_text(text, "utf-8")
        return kubectl("-n", namespace, "apply", "-f", str(file))

    return run


def test_the_walk_through_survives_kills_of_the_controller(
    kairay: Cluster, namespace: str, kubectl: Kubectl, apply: Callable[[str], str], tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed of the kills: {seed}")
    moments = sorted(random.Random(seed).uniform(0, 150) for _ in range(KILLS))
    provide(kairay, namespace)
    apply(TUNING.format(registry=kairay.private_registry, repository=namespace))

    started, jobs = time.monotonic(), set[str]()
    while condition(kairay, namespace, NAME, "WorkspaceReady") != "True":
        assert time.monotonic() - started < 480, status(kairay, namespace, NAME)
        jobs |= {each["metadata"]["uid"] for each in objects(kairay, namespace, "rayjobs")}
        if moments and time.monotonic() - started > moments[0]:
            moments.pop(0)
            kill_controllers(kairay)
        time.sleep(1)
    assert len(jobs) == 1, "one job for one revision, whoever was killed"
    told = status(kairay, namespace, NAME)
    assert told["tuning"]["outcome"] == "Succeeded"
    assert condition(kairay, namespace, NAME, "InferenceReady") == "True"
    assert "small-model" in kubectl("-n", namespace, "get", "workspace", NAME)
    ports = kubectl("-n", namespace, "get", "svc", NAME)
    assert "80/TCP,29500/TCP" in ports

    adapter = pulled(kairay, told["tuning"]["adapter"], tmp_path)
    assert adapter["peft_type"] == "LORA"

    # Zero replicas by now or soon: the request is held until one is there.
    assert ask(kairay, namespace, NAME, "first") == ANSWER
    eventually(
        "the replica has gone", lambda: workers(kairay, namespace), lambda found: not found, seconds=180
    )
    reason = eventually(
        "status says so",
        lambda: reason_of(kairay, namespace, NAME, "InferenceReady"),
        lambda r: r == "ScaledToZero",
    )
    assert reason == "ScaledToZero"
    assert ask(kairay, namespace, NAME, "again") == ANSWER

    # Nothing is tuned again by forgetting: the job deleted, the status wiped.
    job = objects(kairay, namespace, "rayjobs")[0]["metadata"]["name"]
    kubectl("-n", namespace, "delete", "rayjob", job)
    kubectl("-n", namespace, "patch", "workspace", NAME, "--subresource=status", "--type=json",
            "-p", '[{"op": "remove", "path": "/status"}]')  # fmt: skip
    eventually(
        "the outcome is known again", lambda: status(kairay, namespace, NAME).get("tuning", {}).get("outcome"),
        lambda outcome: outcome == "Succeeded", seconds=180,
    )  # fmt: skip
    tuners = [pod for pod in workers(kairay, namespace) if "kairay.dev/revision" in pod["metadata"]["labels"]]
    assert not tuners, "a revision whose adapter is there asks for no GPU"

    # Both names of one model, from the adapter in the registry; then nothing is left of either Workspace.
    kubectl("-n", namespace, "delete", "workspace", NAME)
    eventually("all is gone", lambda: leftovers(kairay, namespace), lambda found: not found, seconds=180)
    apply(INFERENCE.format(registry=kairay.private_registry, repository=namespace))
    eventually(
        "it answers", lambda: condition(kairay, namespace, "base-and-more", "WorkspaceReady"),
        lambda verdict: verdict == "True", seconds=240,
    )  # fmt: skip
    models = ask(kairay, namespace, "base-and-more", "models", path="/v1/models")
    assert models == "smollm2-135m-instruct words"
    assert ask(kairay, namespace, "base-and-more", "adapter", model="words") == ANSWER
    kubectl("-n", namespace, "delete", "workspace", "base-and-more")
    eventually("all is gone", lambda: leftovers(kairay, namespace), lambda found: not found, seconds=180)


def test_a_data_error_ends_the_job_before_any_gpu_pod_exists(
    kairay: Cluster, namespace: str, apply: Callable[[str], str]
) -> None:
    provide(kairay, namespace, rows='{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    apply(TUNING.format(registry=kairay.private_registry, repository=namespace))
    seen: list[Manifest] = []

    def failed() -> str:
        seen.extend(workers(kairay, namespace))
        return reason_of(kairay, namespace, NAME, "WorkspaceSucceeded")

    eventually("the job has failed", failed, lambda reason: reason == "InvalidData", seconds=180)
    assert not seen
    message = status(kairay, namespace, NAME)["message"]
    assert "train.jsonl:2" in message


def test_the_walk_throughs_own_file_is_accepted_and_its_retired_size_explained(
    kairay: Cluster, namespace: str, apply: Callable[[str], str]
) -> None:
    apply((ROOT / "examples" / "tuning-phi-3.yaml").read_text("utf-8"))
    told = eventually("a status", lambda: status(kairay, namespace, "workspace-tuning-phi-3"))
    assert "retired by Azure on 2025-09-30" in told["message"]
    assert "Standard_NC4as_T4_v3 ($0.53 per hour)" in told["message"]
    assert not objects(kairay, namespace, "rayjobs")


def test_a_second_controller_takes_over_within_twenty_seconds(kairay: Cluster) -> None:
    scale(kairay, 2)
    first = eventually("somebody leads", lambda: leader(kairay))
    pod = first.partition("_")[0]
    started = time.monotonic()
    kairay.api.delete(f"/api/v1/namespaces/kairay-system/pods/{pod}", grace_seconds=0)
    second = eventually(
        "another leads", lambda: leader(kairay), lambda who: who not in ("", first), seconds=30
    )
    print(f"{second} took over after {time.monotonic() - started:.1f} s")
    assert time.monotonic() - started <= 20
    scale(kairay, 1)
    assert len(controllers(kairay)) == 1


def provide(cluster: Cluster, namespace: str, rows: str | None = None) -> None:
    """The data and the push secret."""
    text = rows if rows is not None else (ROOT / "examples" / "quickstart" / "train.jsonl").read_text("utf-8")
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "questions"},
        "data": {"train.jsonl": text},
    }
    cluster.api.apply(data, namespace)
    cluster.api.apply(push_secret(cluster, "push"), namespace)


def status(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    path = f"/apis/kaito.sh/v1beta1/namespaces/{namespace}/workspaces/{name}"
    found: dict[str, Any] = cluster.api.get(path).get("status") or {}
    return found


def condition(cluster: Cluster, namespace: str, name: str, kind: str) -> str:
    return _condition(cluster, namespace, name, kind).get("status", "")


def reason_of(cluster: Cluster, namespace: str, name: str, kind: str) -> str:
    return _condition(cluster, namespace, name, kind).get("reason", "")


def _condition(cluster: Cluster, namespace: str, name: str, kind: str) -> dict[str, str]:
    found = status(cluster, namespace, name).get("conditions", [])
    return next((each for each in found if each["type"] == kind), {})


def objects(cluster: Cluster, namespace: str, plural: str) -> list[Manifest]:
    root = "/apis/ray.io/v1" if plural.startswith("ray") else "/api/v1"
    return cluster.api.items(f"{root}/namespaces/{namespace}/{plural}")


def workers(cluster: Cluster, namespace: str) -> list[Manifest]:
    path = f"/api/v1/namespaces/{namespace}/pods"
    return cluster.api.items(path, labelSelector="kairay.dev/role=worker")


def leftovers(cluster: Cluster, namespace: str) -> list[str]:
    """Everything in the namespace that carries our label."""
    found = []
    for kind in KINDS:
        plural, _, group = kind.partition(".")
        version = {"": "/api/v1", "ray.io": "/apis/ray.io/v1"}.get(group, f"/apis/{group}/v1")
        path = f"{version}/namespaces/{namespace}/{plural}"
        items = cluster.api.items(path, labelSelector="kairay.dev/workspace")
        found += [f"{plural}/{each['metadata']['name']}" for each in items]
    return found


def pulled(cluster: Cluster, adapter: dict[str, str], folder: Path) -> dict[str, Any]:
    """The adapter's configuration, as anybody with the login gets it from the registry."""
    repository = adapter["image"].rpartition(":")[0]
    script = (
        "import sys; from pathlib import Path; "
        "from kairay.registry.artifact import Credentials, RemoteOptions, pull; "
        "host, reference, user, password, folder = sys.argv[1:]; "
        "pull(reference, Path(folder), credentials=Credentials(username=user, password=password), "
        "options=RemoteOptions(insecure_hosts=frozenset({host}))); "
        "from peft import PeftConfig; print(PeftConfig.from_pretrained(folder).peft_type.value)"
    )
    command = [
        str(ROOT / ".venv" / "bin" / "python"), "-c", script, cluster.private_registry,
        f"{repository}@{adapter['digest']}", cluster.registry_user, cluster.registry_password, str(folder / "a"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "a" / "adapter_config.json").read_text("utf-8"))
    assert done.stdout.strip() == "LORA"
    return found


def ask(
    cluster: Cluster, namespace: str, service: str, pod: str, *, path: str = "/chat", model: str | None = None
) -> str:
    """What a pod of the namespace gets from the Service's port 80."""
    body: dict[str, Any] | None = {"prompt": QUESTION} if path == "/chat" else None
    if model is not None:
        path, body = "/v1/chat/completions", {
            "model": model, "temperature": 0, "max_tokens": 32, "messages": [{"role": "user", "content": QUESTION}],
        }  # fmt: skip
    program = (
        "import json, sys, time, urllib.error, urllib.request as u\n"
        "url, body = sys.argv[1], json.loads(sys.argv[2])\n"
        "data = None if body is None else json.dumps(body).encode()\n"
        "request = u.Request(url, data, {'Content-Type': 'application/json'})\n"
        "for attempt in range(10):\n"  # kube-proxy may be a second behind the Service
        "    try:\n"
        "        print(u.urlopen(request, timeout=150).read().decode())\n"
        "        break\n"
        "    except urllib.error.URLError as error:\n"
        "        if attempt == 9 or not isinstance(error.reason, ConnectionRefusedError): raise\n"
        "        time.sleep(0.5)\n"
    )
    url = f"http://{service}{path}"
    manifest = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"client-{pod}"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": cluster.image, "command": ["python", "-c", program, url, json.dumps(body)],
        }]},
    }  # fmt: skip
    cluster.api.apply(manifest, namespace)
    place = f"/api/v1/namespaces/{namespace}/pods/client-{pod}"
    ended = eventually(
        "the client ends", lambda: cluster.api.get(place)["status"].get("phase"),
        lambda phase: phase in ("Succeeded", "Failed"), seconds=200,
    )  # fmt: skip
    said = cluster.api.text(f"{place}/log")
    assert ended == "Succeeded", said
    answer = json.loads(said)
    if "Result" in answer:
        return str(answer["Result"])
    if "data" in answer:
        return " ".join(sorted(each["id"] for each in answer["data"]))
    return str(answer["choices"][0]["message"]["content"])
