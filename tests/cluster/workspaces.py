"""Workspaces on the one-machine cluster, as tests handle them: what they need, became, and answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from installed import push_secret
from onebox.cluster import Cluster
from polling import eventually
from ray_manifests import Manifest

ROOT = Path(__file__).resolve().parents[2]
QUESTION, ANSWER = "What is cytology", "The study of cells."
"""A row of the training data."""
KINDS = ("rayjobs.ray.io", "rayservices.ray.io", "rayclusters.ray.io", "pods", "services", "configmaps",
         "persistentvolumeclaims", "deployments.apps", "networkpolicies.networking.k8s.io", "secrets")  # fmt: skip
"""Of everything that a Workspace may own."""


def provide(cluster: Cluster, namespace: str, rows: str | None = None, name: str = "questions") -> None:
    """The data, as a ConfigMap of this name, the push secret, and the config `few-steps` of a short tuning."""
    text = rows if rows is not None else (ROOT / "examples" / "quickstart" / "train.jsonl").read_text("utf-8")
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"train.jsonl": text},
    }
    cluster.api.apply(data, namespace)
    short = "training_config: {TrainingArguments: {max_steps: 4}}\n"
    config = {**data, "metadata": {"name": "few-steps"}, "data": {"training_config.yaml": short}}
    cluster.api.apply(config, namespace)
    cluster.api.apply(push_secret(cluster, "push"), namespace)


def short_tuning(cluster: Cluster, namespace: str, name: str, *, data: str = "questions") -> str:
    """A Workspace that tunes for a few steps on what `provide` has put there, and is not served."""
    return f"""
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {{name: {name}}}
resource:
  instanceType: Standard_NC4as_T4_v3
  labelSelector: {{matchLabels: {{app: small-model}}}}
tuning:
  preset: {{name: smollm2-135m-instruct}}
  method: lora
  config: few-steps
  serve: false
  input: {{volumeSource: {{configMap: {{name: {data}}}}}}}
  output: {{image: "{cluster.private_registry}/team/{namespace}:0.0.1", imagePushSecret: push}}
"""


def status(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    path = f"/apis/kaito.sh/v1beta1/namespaces/{namespace}/workspaces/{name}"
    found: dict[str, Any] = cluster.api.get(path).get("status") or {}
    return found


def condition(cluster: Cluster, namespace: str, name: str, kind: str) -> str:
    return _condition(cluster, namespace, name, kind).get("status", "")


def reason_of(cluster: Cluster, namespace: str, name: str, kind: str) -> str:
    return _condition(cluster, namespace, name, kind).get("reason", "")


def message_of(cluster: Cluster, namespace: str, name: str, kind: str) -> str:
    """A condition's sentence."""
    return _condition(cluster, namespace, name, kind).get("message", "")


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
    cluster: Cluster, namespace: str, service: str, pod: str, *, path: str = "/chat", model: str | None = None,
    key: str | None = None,
) -> str:  # fmt: skip
    """What a pod of the namespace gets from the Service's port 80: the answer, or `HTTP <status>`."""
    body: dict[str, Any] | None = {"prompt": QUESTION} if path == "/chat" else None
    if model is not None:
        path, body = "/v1/chat/completions", {
            "model": model, "temperature": 0, "max_tokens": 32, "messages": [{"role": "user", "content": QUESTION}],
        }  # fmt: skip
    program = (
        "import json, socket, sys, time, urllib.error, urllib.request as u\n"
        "from urllib.parse import urlsplit\n"
        "url, body, headers = sys.argv[1], *map(json.loads, sys.argv[2:])\n"
        "data = None if body is None else json.dumps(body).encode()\n"
        "request = u.Request(url, data, {'Content-Type': 'application/json', **headers})\n"
        "for attempt in range(10):\n"  # kube-proxy may be a second behind the Service
        "    try:\n"
        "        socket.create_connection((urlsplit(url).hostname, 80), timeout=5).close()\n"
        "        print(u.urlopen(request, timeout=150).read().decode())\n"
        "        break\n"
        "    except urllib.error.HTTPError as error:\n"
        "        print(json.dumps({'Result': f'HTTP {error.code}'}))\n"
        "        break\n"
        "    except OSError as error:\n"  # a URLError is one too
        "        reason = getattr(error, 'reason', error)\n"
        "        if attempt == 9 or not isinstance(reason, (ConnectionRefusedError, TimeoutError)): raise\n"
        "        time.sleep(0.5)\n"
    )
    url = f"http://{service}{path}"
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    manifest = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"client-{pod}"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": cluster.image, "command": ["python", "-c", program, url,
                        json.dumps(body), json.dumps(headers)],
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
