"""What runs in the cluster from the start: DNS, the KubeRay operator, two registries, claims."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

import yaml

from onebox.api import Api
from onebox.layout import (
    BASE_IMAGE,
    DNS_IP,
    PRIVATE_REGISTRY_IP,
    REGISTRY_IP,
    REGISTRY_PORT,
    SYSTEM_NAMESPACE,
    Layout,
)

REGISTRY_USER, REGISTRY_PASSWORD = "tester", "test-password"
_HTPASSWD = f"{REGISTRY_USER}:$2y$05$DFzzRjX8jUjnRHZZ621vp.bpsC22SyXDJqsyZC58YuVtITP9Vvxce"
"""bcrypt of REGISTRY_PASSWORD."""
OPERATOR_NAMESPACE = "ray-system"
_MANIFESTS = Path(__file__).with_name("manifests")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEPLOYMENTS = (
    ("kube-system", "coredns"),
    (OPERATOR_NAMESPACE, "kuberay-operator"),
    (SYSTEM_NAMESPACE, "registry"),
    (SYSTEM_NAMESPACE, "private-registry"),
)
"""(namespace, name) of what must be available before the cluster is up."""
STORAGE_DEPLOYMENT = ("local-path-storage", "local-path-provisioner")


def apply(api: Api, layout: Layout, tools: Path) -> None:
    """DNS, registries and the operator with its CRDs."""
    api.apply_all(_filled("coredns", layout, tools))
    _apply_operator(api, tools)
    api.apply_all(_filled("registries", layout, tools))


def apply_storage(api: Api, layout: Layout, tools: Path) -> None:
    """The default storage class and its provisioner."""
    api.apply_all(_filled("storage", layout, tools))


def unavailable(api: Api, wanted: tuple[tuple[str, str], ...]) -> list[str]:
    """Names of the deployments that have no available pod yet."""
    missing = []
    for namespace, name in wanted:
        found = api.find(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        if not found or not found.get("status", {}).get("availableReplicas"):
            missing.append(f"{namespace}/{name}")
    return missing


def _filled(name: str, layout: Layout, tools: Path) -> str:
    return Template((_MANIFESTS / f"{name}.yaml").read_text()).substitute(
        BASE_IMAGE=BASE_IMAGE,
        DNS_IP=DNS_IP,
        HTPASSWD=_HTPASSWD,
        PRIVATE_REGISTRY_IP=PRIVATE_REGISTRY_IP,
        REGISTRY_IP=REGISTRY_IP,
        REGISTRY_PORT=REGISTRY_PORT,
        SYSTEM_NAMESPACE=SYSTEM_NAMESPACE,
        TOOLS=tools,
        VOLUMES=layout.state / "volumes",
    )


def _apply_operator(api: Api, tools: Path) -> None:
    """From the operator's own configuration folder; only the namespace, the image and the probes' patience are ours."""
    config = tools / "kuberay"
    for path in sorted((config / "crd" / "bases").glob("*.yaml")):
        # About one MB of schema each: handed over as they are.
        group, _, plural = path.stem.partition("_")
        api.apply_text(f"{_CRDS}/{plural}.{group}", path.read_text())
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}})
    for folder in ("rbac", "manager"):
        resources = yaml.safe_load((config / folder / "kustomization.yaml").read_text().split("\n---")[0])[
            "resources"
        ]
        for name in resources:
            for manifest in yaml.safe_load_all((config / folder / name).read_text()):
                api.apply(_operator_object(manifest, tools), OPERATOR_NAMESPACE)


def _operator_object(manifest: dict[str, Any], tools: Path) -> dict[str, Any]:
    manifest["metadata"].pop("namespace", None)
    for subject in manifest.get("subjects", []):
        subject["namespace"] = OPERATOR_NAMESPACE
    if manifest["kind"] == "Deployment":
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container |= {
            "image": BASE_IMAGE,
            "command": [str(tools / "ray-operator")],
            "args": ["--enable-leader-election=false"],
        }
        container["resources"] = {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        }
        container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
        # Its pod may not run as root, and our image names no user.
        manifest["spec"]["template"]["spec"]["securityContext"] |= {"runAsUser": 65532, "runAsGroup": 65532}
    return manifest
