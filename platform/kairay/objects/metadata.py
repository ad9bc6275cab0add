"""Metadata of what a Workspace owns: its labels, and the owner by which Kubernetes removes it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

MANAGED_BY, KAIRAY = "app.kubernetes.io/managed-by", "kairay"
WORKSPACE_LABEL = "kairay.dev/workspace"
REVISION_LABEL = "kairay.dev/revision"
APPLIED = "kairay.dev/applied"
"""Annotation: hash of what was applied, so that what is there already is not written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The Workspace that owns an object."""

    api_version: str
    name: str
    namespace: str
    uid: str

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that it owns."""
        return {MANAGED_BY: KAIRAY, WORKSPACE_LABEL: self.name}

    @property
    def reference(self) -> Manifest:
        """The owner reference."""
        return {
            "apiVersion": self.api_version,
            "kind": "Workspace",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def metadata(self, name: str, labels: Mapping[str, str] | None = None) -> Manifest:
        """Metadata of an owned object."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": dict(sorted({**self.labels, **(labels or {})}.items())),
            "ownerReferences": [self.reference],
        }
