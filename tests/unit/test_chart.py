"""The Helm chart without helm: its copies are the originals', and no setting of the controller is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kairay import __version__
from kairay.crd.install import COPIED, copy_of

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "kuberay" / "chart"
CLOSED = ("ray", "models", "nodes", "aks", "karpenter", "tuning", "inference", "serviceAccount")


@pytest.mark.parametrize(("copy", "source"), COPIED.items())
def test_a_copy_is_its_original(copy: str, source: str) -> None:
    text = (ROOT / source).read_text("utf-8")
    assert (ROOT / copy).read_text("utf-8") == copy_of(source, text), "run `make crd`"
    assert list(yaml.safe_load_all(copy_of(source, text))) == list(yaml.safe_load_all(text))


def test_the_chart_has_the_version_of_kairay() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_every_setting_of_the_controller_has_a_value() -> None:
    files = sorted((ROOT / "platform" / "kairay").rglob("*settings.py"))
    known = set(re.findall(r'"(KAIRAY_[A-Z_]+)"', "".join(path.read_text("utf-8") for path in files)))
    assert {"KAIRAY_RAY_IMAGE", "KAIRAY_NODES_PROVIDER", "KAIRAY_AKS_CLUSTER"} <= known
    template = (CHART / "templates" / "_settings.tpl").read_text("utf-8")
    assert set(re.findall(r'"(KAIRAY_\w+)"', template)) == known


def test_every_value_is_in_the_schema_and_every_object_of_it_is_closed() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert set(schema["properties"]) == {*values, "global"}
    for name, part in schema["properties"].items():
        if "properties" in part:
            assert part["additionalProperties"] is False, name
            assert set(part["properties"]) == set(values[name]), name
    assert schema["additionalProperties"] is False


def test_every_value_is_used_by_a_template() -> None:
    text = "".join(path.read_text("utf-8") for path in sorted((CHART / "templates").iterdir()))
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    named = [f".Values.{name}" for name in values]
    named += [
        f".Values.{name}.{key}" for name in CLOSED for key in values[name]
    ]  # fmt: skip
    assert [name for name in named if not re.search(rf"{re.escape(name)}\b", text)] == []
