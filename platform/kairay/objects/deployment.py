"""The Deployment that runs a Workspace's own pod template: no preset, no autoscaling, the container as it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kairay.errors import InputError
from kairay.objects.metadata import WORKSPACE_LABEL, Manifest, Owner
from kairay.objects.service import HTTP_PORT


def template_deployment(
    owner: Owner, template: Mapping[str, Any], node_labels: Mapping[str, str]
) -> Manifest:
    """`template` is a PodTemplateSpec; its own node selector wins over the Workspace's labels."""
    spec = dict(template.get("spec") or {})
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **owner.labels}
    spec["nodeSelector"] = {**node_labels, **(spec.get("nodeSelector") or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(owner.name),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {WORKSPACE_LABEL: owner.name}},
            "template": {"metadata": metadata, "spec": spec},
        },
    }


def template_service(owner: Owner, template: Mapping[str, Any], *, load_balancer: bool) -> Manifest:
    """Port 80 to the first port that the template's containers name; InputError when they name none."""
    containers = (template.get("spec") or {}).get("containers") or []
    ports = [port for container in containers for port in container.get("ports") or []]
    if not ports:
        raise InputError(
            "inference.template: no container has a port; give the one that answers, such as ports:"
            " [{containerPort: 8080}]"
        )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.name),
        "spec": {
            "type": "LoadBalancer" if load_balancer else "ClusterIP",
            "selector": {WORKSPACE_LABEL: owner.name},
            "ports": [
                {
                    "name": "http",
                    "port": HTTP_PORT,
                    "protocol": "TCP",
                    "targetPort": ports[0]["containerPort"],
                }
            ],
        },
    }
