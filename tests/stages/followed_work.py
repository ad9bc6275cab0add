"""A service or a tuning that runs, what a later release may say of it, and what its user may edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from controller_stage import Stage
from kairay.errors import InputError, TransientError
from kairay.kube.objects import RAY_SERVICE, SERVICE, WORKSPACE, Key, Manifest
from kairay.presets import Preset, find_preset
from kairay.skus import load_skus
from kairay.workspace import Workspace

SIZE = "Standard_NC24ads_A100_v4"
INFERENCE = {"preset": {"name": "phi-3-mini-128k-instruct"}, "config": "own"}
TUNING = {
    **INFERENCE, "method": "qlora", "input": {"urls": ["https://example.com/a.jsonl"]},
    "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
}  # fmt: skip
CONFIG = "vllm: {max-num-seqs: 8}"
TRAINING_CONFIG = "training_config: {TrainingArguments: {max_length: 1024}}"
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "endTime": "2026-11-24T11:00:00Z"}
PLANNED_ANEW = "kept as it was planned; planned anew it would be refused: "
MOVED = "kept as it was planned; planned anew it would move from "

NO_LONGER = "resource.labelSelector: no longer"


class OtherModels:
    """What a later release, or the hub of today, says of any model."""

    def __init__(self, say: Callable[[Preset], Preset]) -> None:
        self._say = say

    async def preset(self, name: str, now: datetime) -> Preset:
        return self._say(find_preset(name))


def gone(preset: Preset) -> Preset:
    raise InputError(f"{preset.name}: the hub knows no such model")


def smaller_gpus(stage: Stage) -> None:
    """As if the estimate had grown."""
    stage.skus = {**load_skus(), SIZE: replace(load_skus()[SIZE], bytes_per_gpu=2**30)}


def all_smaller(stage: Stage) -> None:
    stage.skus = {name: replace(size, bytes_per_gpu=2**30) for name, size in load_skus().items()}


def larger_model(stage: Stage) -> None:
    stage.models = OtherModels(
        lambda preset: replace(preset, model=replace(preset.model, weight_bytes=2**40, parameters=2**39))
    )


def model_is_gone(stage: Stage) -> None:
    stage.models = OtherModels(gone)


def away(preset: Preset) -> Preset:
    raise TransientError("the hub cannot be reached", reason="HubUnreachable")


def hub_away(stage: Stage) -> None:
    """To a new process, which knows no facts."""
    stage.models = OtherModels(away)
    stage.restart()


def without_answer(stage: Stage, count: int = 1) -> None:
    """Passes while the hub is away."""
    for _ in range(count):
        with pytest.raises(TransientError, match="hub"):
            stage.passes()


def no_longer(manifest: Manifest) -> Workspace:
    """In place of `parse_workspace`: a release that cannot read what is written."""
    raise InputError(NO_LONGER)


LATER: list[Callable[[Stage], None]] = [smaller_gpus, all_smaller, larger_model, model_is_gone]


def write_config(stage: Stage, text: str, key: str = "inference_config.yaml") -> None:
    stage.cluster.put({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "team"},
        "data": {key: text},
    })  # fmt: skip


def answer(stage: Stage, cluster: str = "mine-abcde") -> None:
    """The operator's word: the service is up."""
    stage.cluster.set_status(Key(RAY_SERVICE, "team", "mine"), {
        "activeServiceStatus": {
            "rayClusterName": cluster, "applicationStatuses": {"mine": {"status": "RUNNING"}},
        },
        "conditions": [{"type": "Ready", "status": "True"}],
    })  # fmt: skip


def serving(stage: Stage, **inference: Any) -> Manifest:
    """A service that answers."""
    write_config(stage, CONFIG)
    stage.put(inference={**INFERENCE, **inference})
    stage.passes(2)
    answer(stage)
    stage.passes(3)
    assert stage.status()["state"] == "Ready"
    return stage.cluster.all(RAY_SERVICE)[0]


def edit(stage: Stage, **parts: Any) -> None:
    """The Workspace as its user writes it anew."""
    found = stage.cluster.find(WORKSPACE, "team", "mine")
    assert found is not None
    stage.cluster.put({**found, **parts})


def conditions(stage: Stage) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in stage.status()["conditions"]}


def follows(stage: Stage) -> str | None:
    front = stage.cluster.find(SERVICE, "team", "mine")
    assert front is not None
    return str(front["spec"]["selector"]["ray.io/cluster"])


def front_type(stage: Stage) -> str:
    front = stage.cluster.find(SERVICE, "team", "mine")
    assert front is not None
    return str(front["spec"]["type"])


def chosen_is_too_small(stage: Stage) -> str:
    """In a later release, and another size is not; the name of the size that was chosen."""
    chosen = str(stage.status()["plan"]["instanceType"])
    stage.skus = {**load_skus(), chosen: replace(load_skus()[chosen], bytes_per_gpu=2**30)}
    stage.restart()
    return chosen


def larger_context(stage: Stage) -> None:
    write_config(stage, "vllm: {max-model-len: 4096, max-num-seqs: 9}")


def cheaper(stage: Stage) -> None:
    edit(stage, resource={"labelSelector": {"matchLabels": {"app": "mine"}}, "maxHourlyCostUSD": 100})


def annotate(stage: Stage, name: str, value: str) -> None:
    found = stage.cluster.find(WORKSPACE, "team", "mine")
    assert found is not None
    edit(stage, metadata={**found["metadata"], "annotations": {name: value}})


def exposed(stage: Stage) -> None:
    annotate(stage, "kaito.sh/enablelb", "True")


def undo(stage: Stage) -> None:
    write_config(stage, CONFIG)
    found = stage.cluster.find(WORKSPACE, "team", "mine")
    assert found is not None
    metadata = {key: value for key, value in found["metadata"].items() if key != "annotations"}
    edit(stage, metadata=metadata, resource={"labelSelector": {"matchLabels": {"app": "mine"}}})


def tuned(stage: Stage) -> Manifest:
    """A tuning that has ended, whose adapter is served."""
    write_config(stage, TRAINING_CONFIG, "training_config.yaml")
    stage.put(tuning=TUNING)
    stage.passes(2)
    stage.end_job(**DONE)
    stage.passes(2)
    answer(stage)
    stage.passes(3)
    assert stage.status()["state"] == "Ready"
    return stage.cluster.all(RAY_SERVICE)[0]
