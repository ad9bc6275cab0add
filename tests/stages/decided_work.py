"""A Workspace, what stands of it, and one pass of the controller's decision over both."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kairay.controller.decide import Decision, World, decide
from kairay.controller.held import refuse
from kairay.controller.observed import Observed
from kairay.controller.settings import Settings
from kairay.errors import InputError
from kairay.kube.objects import Manifest, key_of
from kairay.nodes.existing import NodeView
from kairay.presets import find_preset
from kairay.ray.job_word import JobWord
from kairay.skus import load_skus
from kairay.workspace import parse_workspace

UID = "6d1f6c9e-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WORLD = World(settings=Settings(), skus=load_skus(), controller_namespace="kairay-system", now=NOW)
OWNERS = [{"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "name": "my-tuning", "uid": UID}]


def tuning(**changes: Any) -> Manifest:
    spec = {
        "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
        "input": {"urls": ["https://example.com/a.jsonl"]},
        "output": {"image": "registry.example/team/adapter:1", "imagePushSecret": "push"},
    }  # fmt: skip
    return workspace(tuning={**spec, **changes})


def inference(**changes: Any) -> Manifest:
    return workspace(inference={"preset": {"name": "phi-3-mini-128k-instruct"}, **changes})


def workspace(**parts: Any) -> Manifest:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": "my-tuning", "namespace": "team", "uid": UID, "generation": 1},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "my-tuning"}},
        },
        **parts,
    }  # fmt: skip


def node(**changes: Any) -> NodeView:
    labels = {"app": "my-tuning", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}
    plain = NodeView(name="gpu-1", labels=labels, ready=True, gpus=1, cpus=24, memory=220 * 2**30)
    return replace(plain, **changes)


def step(manifest: Manifest, *live: Manifest, world: World = WORLD, **seen: Any) -> Decision:
    """One pass; the nodes are there unless said otherwise."""
    found = {key_of(each): each for each in live}
    observed = Observed(workspace=manifest, live=found, **{"nodes": (node(),), **model_of(manifest), **seen})
    try:
        return decide(parse_workspace(manifest), observed, world)
    except InputError as error:
        return refuse(observed, error, world)


def model_of(manifest: Manifest) -> dict[str, Any]:
    """What a look at the catalogue gives."""
    work = manifest.get("inference") or manifest["tuning"]
    try:
        return {"preset": find_preset(work["preset"]["name"])} if "preset" in work else {}
    except InputError as error:
        return {"model_problem": error}


def after(manifest: Manifest, decision: Decision) -> Manifest:
    """The Workspace once the decision's status was written."""
    return {**manifest, "status": json.loads(json.dumps(decision.status))}


def kinds(decision: Decision) -> list[str]:
    return sorted(each["kind"] for each in decision.objects)


def drawn(decision: Decision, kind: str) -> Manifest:
    return next(each for each in decision.objects if each["kind"] == kind)


def made(manifest: Manifest, **status: Any) -> Manifest:
    """An object as it stands in the cluster after we applied it."""
    metadata = {
        **manifest["metadata"],
        "ownerReferences": OWNERS,
        "uid": f"uid-{manifest['metadata']['name']}",
    }
    return {**manifest, "metadata": metadata, "status": status}


def condition(decision: Decision, kind: str) -> tuple[str, str]:
    found = next(each for each in decision.status["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


def tuned(manifest: Manifest) -> Manifest:
    """A tuning Workspace whose job has succeeded, with its status."""
    job = made(drawn(step(manifest), "RayJob"), jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    word = JobWord(result={"outcome": "Succeeded", "adapter": {"digest": "sha256:" + "a" * 64}, "steps": 50})
    return after(manifest, step(after(manifest, step(manifest)), job, result=word))
