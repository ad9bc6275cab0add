"""Workspaces as documents that tests change by dotted paths, and what is said of those that are wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kairay.errors import InputError
from kairay.workspace import Workspace, parse_documents

SELECTOR = {"labelSelector": {"matchLabels": {"app": "m"}}}
TUNING: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "m"},
    "resource": SELECTOR,
    "tuning": {
        "preset": {"name": "phi-3-mini-128k-instruct"},
        "method": "qlora",
        "input": {"urls": ["https://example.com/a.parquet"]},
        "output": {"image": "contoso.azurecr.io/m:1", "imagePushSecret": "push"},
    },
}
INFERENCE: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1alpha1",
    "kind": "Workspace",
    "metadata": {"name": "m"},
    "resource": SELECTOR,
    "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
}
GONE = object()


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with values set by dotted path; GONE removes one."""
    document = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return document


def parse(document: dict[str, Any]) -> Workspace:
    # JSON is YAML.
    return parse_documents(json.dumps(document), "w.yaml").workspaces[0]


def fault_of_text(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_documents(text, "w.yaml")
    return caught.value.message
