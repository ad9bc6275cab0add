"""Who reaches a Workspace's Ray pods: its own pods everything, its namespace the model, two controllers what they
ask. Pure.

Egress is left open: jobs fetch data and weights from wherever the user says, which no list of ours could name, and
pods hold no Kubernetes rights to misuse. A node always reaches its own pods (probes), whatever a policy says, and
so does everybody on a cluster whose network enforces no policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kairay.objects.metadata import Manifest
from kairay.ray.pods import DASHBOARD_PORT, METRICS_PORT, SERVE_PORT

AGENT_PORT = 52365
"""The dashboard's agent, which the operator of older RayServices asks for a node's health."""

CONTROLLER_LABELS = {"app.kubernetes.io/name": "kairay-controller"}

OPERATOR_LABELS = (
    {"app.kubernetes.io/name": "kuberay-operator"},
    {"app.kubernetes.io/component": "kuberay-operator", "app.kubernetes.io/name": "kuberay"},
)
"""KubeRay's operator as its chart labels it, and as its own manifests do. It runs in a namespace that we do not know;
the name `kuberay` alone would do for every Ray pod in the cluster, which carries it too."""


def network_policy(
    workspace_name: str,
    namespace: str,
    controller_namespace: str,
    owner: Mapping[str, Any],
    exposed: bool,
) -> Manifest:
    """`owner` is an owner reference; `exposed` opens the model's port to everybody (API keys then guard it)."""
    pods = {"matchLabels": {"kairay.dev/workspace": workspace_name}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": workspace_name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "kairay", "kairay.dev/workspace": workspace_name},
            "ownerReferences": [dict(owner)],
        },
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": pods}]},
                # No `from` at all: behind a load balancer a request comes from any address.
                {**({} if exposed else {"from": [{"podSelector": {}}]}), "ports": _ports(SERVE_PORT)},
                {"from": [_controller(controller_namespace)], "ports": _ports(DASHBOARD_PORT, METRICS_PORT)},
                {
                    "from": [
                        {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(labels)}}
                        for labels in OPERATOR_LABELS
                    ],
                    "ports": _ports(SERVE_PORT, DASHBOARD_PORT, AGENT_PORT),
                },
            ],
        },
    }


def _controller(namespace: str) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(CONTROLLER_LABELS)},
    }


def _ports(*numbers: int) -> list[Manifest]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]
