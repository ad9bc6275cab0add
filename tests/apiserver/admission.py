"""Workspaces to try on the API server, and what it says of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bare import BareApiServer, eventually
from onebox.api import ApiError, Manifest

PATH = "/apis/kaito.sh/v1beta1/namespaces/default/workspaces"
Change = Callable[[Manifest], object]


def tuning(*changes: Change) -> Manifest:
    return changed({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine"},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "mine"}},
        },
        "tuning": {
            "preset": {"name": "phi-3-mini-128k-instruct"}, "method": "qlora",
            "input": {"urls": ["https://example.com/a.parquet"]},
            "output": {"image": "registry.example/team/a:1", "imagePushSecret": "push"},
        },
    }, *changes)  # fmt: skip


def inference(*changes: Change) -> Manifest:
    base = tuning()
    del base["tuning"]
    base["inference"] = {
        "preset": {"name": "phi-3-mini-128k-instruct"},
        "adapters": [{"source": {"name": "law", "image": "registry.example/law:1"}, "strength": "0.5"}],
    }
    return changed(base, *changes)


def changed(manifest: Manifest, *changes: Change) -> Manifest:
    found = copy.deepcopy(manifest)
    for change in changes:
        change(found)
    return found


def put(path: str, value: Any) -> Change:
    """Set the field at a dotted path; None removes it."""

    def change(manifest: Manifest) -> None:
        *parents, last = path.split(".")
        found: Any = manifest
        for part in parents:
            found = found[int(part)] if part.isdigit() else found.setdefault(part, {})
        if value is None:
            found.pop(last, None)
        else:
            found[last] = value

    return change


unknown_preset = put("inference.preset.name", "phi-33")
unknown_size = put("resource.instanceType", "Standard_invalid")
NO_SOURCE = put("inference.adapters.0.source.image", None)


def too_large(manifest: Manifest) -> None:
    """A preset whose weights no eight machines of the size hold."""
    manifest["inference"]["preset"]["name"] = "deepseek-v3-0324"
    manifest["resource"]["instanceType"] = "Standard_NC4as_T4_v3"


def refusal(server: BareApiServer, manifest: Manifest, before: Manifest | None = None) -> str:
    """Why the API server refuses it (or the edit from `before`); empty when it takes it. Nothing stays."""
    path = f"{PATH}/{manifest['metadata']['name']}"
    try:
        if before is not None:
            server.api.apply(before)
        server.api.apply(manifest)
    except ApiError as error:
        return error.message
    finally:
        server.api.delete(path)
        eventually("it is gone", lambda: server.api.find(path) is None)
    return ""
