"""The RayService that serves a Workspace: one application, edited in place; a new cluster only for new pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kairay.ray.pods import Manifest

DELETION_DELAY = 300
"""Seconds that a replaced cluster stays: answers under way end, and the Service has moved on."""


def ray_service(metadata: Manifest, cluster: Manifest, serve: Mapping[str, Any]) -> Manifest:
    """`serve` is the whole Serve config."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata,
        "spec": {
            "serveConfigV2": yaml.safe_dump(dict(serve), sort_keys=True, default_flow_style=False),
            "rayClusterConfig": cluster,
            "rayClusterDeletionDelaySeconds": DELETION_DELAY,
            "excludeHeadPodFromServeSvc": False,
            "upgradeStrategy": {"type": "NewCluster"},
        },
    }
