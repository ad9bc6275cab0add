"""RayJob, RayService and what they need: golden files, and the operator's own schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from kairay.controller.blueprint import Blueprint, draw_blueprint
from kairay.controller.record import TuningRecord
from kairay.controller.serving import draw_service
from kairay.controller.settings import Settings
from kairay.controller.tuning import draw_job
from kairay.errors import InputError
from kairay.kube.objects import Manifest
from kairay.nodes.existing import NodeView
from kairay.objects.metadata import Owner
from kairay.presets import find_preset
from kairay.ray.raycluster import RayImage
from kairay.skus import load_skus
from kairay.workspace import Workspace, parse_documents

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TODAY = date(2026, 11, 24)
SETTINGS = Settings(image=RayImage(name="registry.example/ray:1", ray_version="2.60.0"))
OWNER = Owner(
    api_version="kaito.sh/v1beta1",
    name="my-tuning",
    namespace="team",
    uid="6d1f6c9e-0000-4000-8000-000000000001",
)

TUNING = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: my-tuning, namespace: team}
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector: {matchLabels: {app: my-tuning}}
tuning:
  preset: {name: phi-3-mini-128k-instruct, presetOptions: {modelAccessSecret: hub}}
  method: qlora
  input: {urls: ["https://example.com/train.jsonl"]}
  output: {image: "registry.example/team/adapter:1", imagePushSecret: push}
"""
INFERENCE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: my-tuning, namespace: team}
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector: {matchLabels: {app: my-tuning}}
inference:
  preset: {name: phi-3-mini-128k-instruct}
  adapters:
  - source: {name: law, image: "registry.example/team/law:1", imagePullSecrets: [pull]}
  - source: {name: tax, volumeSource: {persistentVolumeClaim: {claimName: tax}}}
"""


def parse(text: str) -> Workspace:
    return parse_documents(text, "test.yaml").workspaces[0]


def blueprint(
    workspace: Workspace, nodes: tuple[NodeView, ...] = (), settings: Settings = SETTINGS
) -> Blueprint:
    spec = workspace.tuning or workspace.inference
    assert spec is not None
    assert spec.preset is not None
    preset = find_preset(spec.preset.name)
    return draw_blueprint(workspace, preset, nodes=nodes, skus=load_skus(), settings=settings, today=TODAY)


def job_objects(text: str = TUNING, settings: Settings = SETTINGS) -> tuple[Manifest, ...]:
    workspace = parse(text)
    record = TuningRecord(revision="0a1b2c")
    return draw_job(workspace, OWNER, blueprint(workspace, settings=settings), record, None, settings)


def service_object(text: str = INFERENCE, settings: Settings = SETTINGS) -> Manifest:
    workspace = parse(text)
    return draw_service(
        workspace, OWNER, blueprint(workspace, settings=settings), settings,
        tuned=None, config_text=None, exposed=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "drawn"), [("tuning-objects", job_objects), ("ray-service", service_object)]
)
def test_the_manifests_are_the_golden_ones(name: str, drawn: Any) -> None:
    # By way of JSON: equal parts are written out, not as YAML's aliases.
    objects = json.loads(json.dumps(each if isinstance(each := drawn(), tuple) else (each,)))
    text = yaml.safe_dump_all(objects, sort_keys=True)
    assert text == (GOLDEN / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize("drawn", [job_objects, service_object])
def test_the_same_input_gives_the_same_bytes(drawn: Any) -> None:
    assert json.dumps(drawn()) == json.dumps(drawn())


def test_every_field_is_one_that_the_operator_knows() -> None:
    job = job_objects()[-1]
    assert not list(unknown(job["spec"], schema("rayjobs"), "RayJob"))
    assert not list(unknown(service_object()["spec"], schema("rayservices"), "RayService"))


def test_the_schema_check_notices_a_field_that_would_be_dropped() -> None:
    job = job_objects()[-1]
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["tempalte"] = {}
    assert list(unknown(job["spec"], schema("rayjobs"), "RayJob")) == [
        "RayJob.rayClusterSpec.headGroupSpec.tempalte"
    ]


def test_user_code_finds_no_kubernetes_token() -> None:
    for spec in (job_objects()[-1]["spec"]["rayClusterSpec"], service_object()["spec"]["rayClusterConfig"]):
        templates = [spec["headGroupSpec"]["template"], *(g["template"] for g in spec["workerGroupSpecs"])]
        for template in templates:
            assert template["spec"]["automountServiceAccountToken"] is False
            for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
                assert not [m for m in container["volumeMounts"] if "serviceaccount" in m["mountPath"]]


def test_no_pod_runs_as_root_or_writes_to_its_image() -> None:
    for spec in (job_objects()[-1]["spec"]["rayClusterSpec"], service_object()["spec"]["rayClusterConfig"]):
        for template in [
            spec["headGroupSpec"]["template"],
            *(g["template"] for g in spec["workerGroupSpecs"]),
        ]:
            assert template["spec"]["securityContext"]["runAsNonRoot"] is True
            for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert container["resources"]["requests"]
                assert container["resources"]["limits"]


def test_tokens_and_the_autoscaler_are_written_out() -> None:
    spec = job_objects()[-1]["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["workerGroupSpecs"][0]["rayStartParams"]["num-gpus"] == "1"
    assert json.loads(json.loads(spec["workerGroupSpecs"][0]["rayStartParams"]["resources"])) == {
        "kairay_tuner": 1
    }


def test_the_push_secret_is_the_heads_and_checkpoints_are_the_workers() -> None:
    spec = job_objects()[-1]["spec"]["rayClusterSpec"]
    head = spec["headGroupSpec"]["template"]["spec"]
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]
    assert {"secret": {"secretName": "push"}, "name": "login-0"} in head["volumes"]
    assert {"persistentVolumeClaim": {"claimName": "my-tuning-run"}, "name": "run"} in worker["volumes"]
    assert not [volume for volume in head["volumes"] if "persistentVolumeClaim" in volume]


def test_without_run_storage_there_is_no_claim() -> None:
    objects = job_objects(settings=replace(SETTINGS, run_storage=0))
    assert [each["kind"] for each in objects] == ["ConfigMap", "RayJob"]


def test_a_relative_host_path_is_refused_with_what_to_write() -> None:
    text = TUNING.replace(
        'urls: ["https://example.com/train.jsonl"]', "volumeSource: {hostPath: {path: ./data}}"
    )
    with pytest.raises(InputError, match=r"tuning\.input\.volumeSource\.hostPath\.path.*absolute path"):
        job_objects(text)


def schema(plural: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / "kuberay" / f"{plural}-1.6.0.json").read_text("utf-8"))
    return found


def unknown(value: Any, known: dict[str, Any], path: str) -> Iterator[str]:
    """Paths that the API server would prune, or whose type it would refuse."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if known.get("x-kubernetes-int-or-string"):
        return
    if "type" in known and not isinstance(value, kinds.get(known["type"], object)):
        yield f"{path}: not of type {known['type']}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown(item, known["items"], f"{path}[{index}]")
    elif isinstance(value, dict) and not known.get("x-kubernetes-preserve-unknown-fields"):
        for key, item in value.items():
            inner = known.get("properties", {}).get(key, known.get("additionalProperties"))
            if inner is None:
                yield f"{path}.{key}"
            elif isinstance(inner, dict):
                yield from unknown(item, inner, f"{path}.{key}")
