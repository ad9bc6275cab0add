"""An option of the engine that nobody has is asked about; vLLM's own that change no plan are left to it."""

from __future__ import annotations

import pytest
import yaml

from kairay.plan_config import read_serving
from kairay.plan_wish_words import wish_warnings
from kairay.plan_wishes import ServingWishes
from kairay.presets import find_preset
from kairay.workspace import parse_documents

SOURCE = "ConfigMap mine"
(WORKSPACE,) = parse_documents(
    """apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: w}
resource: {labelSelector: {matchLabels: {a: b}}}
inference: {preset: {name: phi-4}, config: mine}
""",
    "w.yaml",
).workspaces


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("kv-cache-dtpe", "kv-cache-dtype"),
        ("kv_cache_dtpe", "kv-cache-dtype"),
        ("max-model-length", "max-model-len"),
        ("gpu-memory-utilisation", "gpu-memory-utilization"),
        ("tensor-paralel-size", "tensor-parallel-size"),
    ],
)
def test_an_option_that_is_near_a_known_one_is_asked_about(written: str, meant: str) -> None:
    wishes = read_serving(yaml.safe_dump({"vllm": {written: 1}}), SOURCE)
    assert wishes.notes == (f"vllm.{written} is not a setting that a plan knows; did you mean {meant}?",)
    told = wish_warnings(WORKSPACE, wishes, find_preset("phi-4"), local=False)
    assert [*told] == [f"{SOURCE}: {wishes.notes[0]}"]


@pytest.mark.parametrize(
    "name",
    [
        "data-parallel-size-local", "data-parallel-rank", "max-cpu-loras", "enable-lora-bias", "mamba-cache-dtype",
        "prefill-context-parallel-size", "max-num-partial-prefills", "kv-cache-metrics", "quantization-config",
        "enable-expert-parallel", "tool-call-parser",
    ],
)  # fmt: skip
def test_an_option_of_vllm_that_changes_no_plan_is_none_of_its_business(name: str) -> None:
    assert read_serving(yaml.safe_dump({"vllm": {name: 1}}), SOURCE) == ServingWishes(source=SOURCE)
