from __future__ import annotations

from typing import Any

import pytest

from kairay.errors import InputError
from kairay.workspace import revision
from workspace_documents import INFERENCE, TUNING, changed, parse

CONFIG = "training_config:\n  LoraConfig:\n    r: 8 # rank\n"

GOLDEN = [
    (TUNING, {}, None, "a32723"),
    (TUNING, {}, CONFIG, "62f06d"),
    (TUNING, {"tuning.workers": 2}, None, "568747"),
    (TUNING, {"tuning.output": {"volumeSource": {"hostPath": {"path": "/out"}}}}, None, "366ee2"),
    (TUNING, {"tuning.input": {"volumeSource": {"emptyDir": {}}}}, None, "c154a6"),
    (INFERENCE, {}, None, "3da382"),
    (
        INFERENCE,
        {"inference.adapters": [{"source": {"name": "a", "image": "r.io/a"}, "strength": "0.5"}]},
        None,
        "f116fc",
    ),
    (INFERENCE, {"inference": {"template": {"spec": {"containers": []}}}}, None, "930133"),
]


@pytest.mark.parametrize(("base", "changes", "config", "expected"), GOLDEN)
def test_a_revision_is_the_same_in_every_release(
    base: dict[str, Any], changes: dict[str, Any], config: str | None, expected: str
) -> None:
    assert revision(parse(changed(base, changes)), config) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"tuning.serve": False},
        {"tuning.config": "other-name"},
        {"tuning.method": "QLORA"},
        {"tuning.preset.accessMode": "public"},
        {"tuning.preset.presetOptions": {"modelAccessSecret": "hf", "imagePullSecrets": ["s"]}},
        {"tuning.input.imagePullSecrets": ["s"]},
        {"tuning.output.imagePushSecret": "other"},
        {"resource.maxHourlyCostUSD": 3, "resource.spot": True, "resource.instanceType": "x"},
        {"metadata.name": "other", "metadata.labels": {"a": "b"}},
        {"apiVersion": "kaito.sh/v1alpha1"},
    ],
)  # fmt: skip
def test_what_does_not_change_the_work_does_not_tune_again(changes: dict[str, Any]) -> None:
    assert revision(parse(changed(TUNING, changes)), CONFIG) == revision(parse(TUNING), CONFIG)


@pytest.mark.parametrize(
    "changes",
    [
        {"tuning.preset.name": "phi-3-mini-4k-instruct"},
        {"tuning.preset.presetOptions": {"image": "r.io/weights:1"}},
        {"tuning.method": "lora"},
        {"tuning.input.urls": ["https://example.com/b.parquet"]},
        {"tuning.input": {"image": "r.io/data:1"}},
        {"tuning.output.image": "contoso.azurecr.io/m:2"},
        {"tuning.workers": 1},
    ],
)
def test_an_edit_of_the_work_is_another_revision(changes: dict[str, Any]) -> None:
    assert revision(parse(changed(TUNING, changes))) != revision(parse(TUNING))


def test_of_a_config_the_values_count_not_the_layout() -> None:
    workspace = parse(TUNING)
    same = "{training_config: {LoraConfig: {r: 8}}}"
    assert revision(workspace, same) == revision(workspace, CONFIG)
    assert revision(workspace, same.replace("8", "16")) != revision(workspace, CONFIG)
    assert revision(workspace, "# nothing\n") == revision(workspace)
    with pytest.raises(InputError, match="config's content:1:"):
        revision(workspace, "a: b: c")
