"""The CustomResourceDefinition. Pure."""

from __future__ import annotations

from typing import Any

from kairay.crd.schema import workspace_schema

GROUP, KIND, PLURAL = "kaito.sh", "Workspace", "workspaces"
STORED, SERVED = "v1beta1", ("v1beta1", "v1alpha1")


def definition() -> dict[str, Any]:
    """Both versions have the same schema, so that nothing is converted."""
    schema = workspace_schema()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND, "listKind": "WorkspaceList", "plural": PLURAL, "singular": "workspace",
                "shortNames": ["wk", "wks"],
            },
            "conversion": {"strategy": "None"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == STORED,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": schema},
                }
                for version in SERVED
            ],
        },
    }  # fmt: skip


def _columns() -> list[dict[str, Any]]:
    return [
        _column("Instance", ".resource.instanceType"),
        _condition("ResourceReady"),
        _condition("InferenceReady"),
        _condition("WorkspaceReady"),
        _column("State", ".status.state"),
        _column("Progress", ".status.tuning.progressPercent", kind="integer"),
        _column("Age", ".metadata.creationTimestamp", kind="date"),
        _condition("JobStarted", priority=1),
        _column("Nodes", ".status.workerNodes", priority=1),
        _column("URL", ".status.inference.url", priority=1),
        _column("Message", ".status.message", priority=1),
    ]


def _condition(kind: str, *, priority: int = 0) -> dict[str, Any]:
    return _column(kind, f'.status.conditions[?(@.type=="{kind}")].status', priority=priority)


def _column(name: str, path: str, *, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": priority} if priority else column
