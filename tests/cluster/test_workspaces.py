"""kubectl apply a Workspace: the walk-through on real Ray pods, a real registry and a real small model."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from fixture_types import Apply, Kubectl
from installed import controllers, kill_controllers, leader, scale
from onebox.cluster import Cluster
from polling import eventually
from ray_manifests import Manifest
from workspaces import (
    ANSWER,
    ROOT,
    ask,
    condition,
    leftovers,
    objects,
    provide,
    pulled,
    reason_of,
    status,
    workers,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900, func_only=True)]

NAME = "small-model"
KILLS = int(os.environ.get("KAIRAY_KILLS", "3"))
"""Of the controller, in one walk-through; `make soak` has ten."""

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


def test_the_walk_through_survives_kills_of_the_controller(
    kairay: Cluster, namespace: str, kubectl: Kubectl, apply: Apply, tmp_path: Path
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
    kairay: Cluster, namespace: str, apply: Apply
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
    kairay: Cluster, namespace: str, apply: Apply
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
