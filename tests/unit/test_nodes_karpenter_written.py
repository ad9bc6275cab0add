"""NodePools as Kairay writes them, against Karpenter's own schemas, and the node classes that they refer to."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kairay.errors import InputError
from kairay.kube.objects import Manifest
from kairay.nodes.interface import Offer, PoolSpec, RefusalKind, RefusedError
from kairay.nodes.karpenter_pools import write_pool
from kairay.nodes.karpenter_settings import KarpenterSettings, read_karpenter_settings
from kairay.skus import find_sku, load_skus
from karpenter_stage import A100, H100, SPOT, spec

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "karpenter"
VERSIONS = ("1.0.8", "1.15.0")
GRACE = Offer(instance_type="Standard_ND128isr_NDR_GB200_v6")


def drawn(
    spec: PoolSpec, count: int = 3, idle: float = 120.0, settings: KarpenterSettings | None = None
) -> Manifest:
    size = find_sku(spec.offer.instance_type, load_skus())
    return write_pool(spec, count, size, settings or KarpenterSettings(), idle)


@cache
def schema(version: str) -> dict[str, Any]:
    """Karpenter's own, with every object closed: what it does not list would be dropped without a word."""
    definition = yaml.safe_load((GOLDEN / f"nodepools-{version}.yaml").read_text("utf-8"))
    found = next(each for each in definition["spec"]["versions"] if each["name"] == "v1")
    closed = json.loads(json.dumps(found["schema"]["openAPIV3Schema"]), object_hook=_close)
    del closed["properties"]["metadata"]
    return closed | {"additionalProperties": True}


def _close(node: dict[str, Any]) -> dict[str, Any]:
    node.pop("format", None)
    if "properties" in node and node.get("type") == "object":
        node["additionalProperties"] = False
    return node


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "wanted",
    [
        spec(),
        spec(SPOT),
        spec(GRACE),
        spec(H100, labels={}, tenant=""),
        spec(A100, labels={"topology.kubernetes.io/zone": "eastus-1"}, image_family="azurelinux"),
    ],
)
def test_every_node_pool_is_one_that_karpenter_knows(wanted: PoolSpec, version: str) -> None:
    jsonschema.Draft202012Validator(schema(version)).validate(drawn(wanted))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schema_check_notices_a_field_that_would_be_dropped(version: str) -> None:
    body = drawn(spec())
    body["spec"]["template"]["spec"]["taint"] = []
    with pytest.raises(jsonschema.ValidationError, match="taint"):
        jsonschema.Draft202012Validator(schema(version)).validate(body)


def test_a_node_pool_is_written_as_a_whole() -> None:
    assert drawn(spec()) == {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {
            "name": "kwpool",
            "labels": {"kairay.dev/pool": "abc123def0", "kairay.dev/managed-by": "kairay"},
            "annotations": {"kairay.dev/gpus-per-node": "2", "kairay.dev/tenant": "team"},
        },
        "spec": {
            "template": {
                "metadata": {
                    "labels": {
                        "app": "tuning",
                        "kairay.dev/pool": "abc123def0",
                        "kairay.dev/managed-by": "kairay",
                    }
                },
                "spec": {
                    "nodeClassRef": {
                        "group": "karpenter.azure.com",
                        "kind": "AKSNodeClass",
                        "name": "default",
                    },
                    "requirements": [
                        {
                            "key": "node.kubernetes.io/instance-type",
                            "operator": "In",
                            "values": ["Standard_NC48ads_A100_v4"],
                        },
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
                        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                    ],
                    "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
                    "expireAfter": "Never",
                },
            },
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "120s",
                "budgets": [{"nodes": "0", "reasons": ["Drifted", "Underutilized"]}],
            },
            "limits": {"nvidia.com/gpu": "6"},
            "weight": 100,
        },
    }


def requirement(body: Manifest, key: str) -> list[str]:
    found = body["spec"]["template"]["spec"]["requirements"]
    return next(each["values"] for each in found if each["key"] == key)


def test_spot_and_arm_machines_are_asked_for_as_such() -> None:
    assert requirement(drawn(spec(SPOT)), "karpenter.sh/capacity-type") == ["spot"]
    assert requirement(drawn(spec(GRACE)), "kubernetes.io/arch") == ["arm64"]


def test_the_groups_first_offer_is_tried_first() -> None:
    weights = [drawn(spec(offer))["spec"]["weight"] for offer in (A100, SPOT, H100, GRACE)]
    assert weights == sorted(weights, reverse=True)
    assert len(set(weights)) == len(weights)


def test_a_limit_of_no_nodes_brings_none() -> None:
    assert drawn(spec(), count=0)["spec"]["limits"] == {"nvidia.com/gpu": "0"}


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ({"node.kubernetes.io/instance-type": A100.instance_type}, {}),
        ({"kubernetes.io/arch": "amd64", "karpenter.sh/nodepool": "kwpool"}, {}),
        ({"topology.kubernetes.io/zone": "eastus-1"}, {"topology.kubernetes.io/zone": "eastus-1"}),
        ({"team.example/app": "x"}, {"team.example/app": "x"}),
    ],
)
def test_labels_that_nodes_get_anyway_are_left_to_karpenter(
    labels: dict[str, str], kept: dict[str, str]
) -> None:
    found = drawn(spec(labels=labels))["spec"]["template"]["metadata"]["labels"]
    assert {key: value for key, value in found.items() if not key.startswith("kairay.dev/")} == kept


@pytest.mark.parametrize(
    "label",
    [
        "kubernetes.io/hostname",
        "node.kubernetes.io/instance-type",
        "karpenter.sh/capacity-type",
        "kubernetes.azure.com/mode",
        "feature.node.kubernetes.io/pci",
        "sub.k8s.io/x",
    ],
)
def test_a_label_that_no_new_node_can_carry_is_refused_by_name(label: str) -> None:
    with pytest.raises(RefusedError, match=f"{label}=other.*resource.labelSelector") as caught:
        drawn(spec(labels={label: "other"}))
    assert caught.value.refusal.kind is RefusalKind.INVALID


def test_the_node_class_is_aks_own_unless_the_environment_says_otherwise() -> None:
    assert read_karpenter_settings({"KAIRAY_KARPENTER_NODE_CLASS_NAME": " "}) == KarpenterSettings()
    aws = read_karpenter_settings(
        {
            "KAIRAY_KARPENTER_NODE_CLASS_GROUP": "karpenter.k8s.aws",
            "KAIRAY_KARPENTER_NODE_CLASS_KIND": "EC2NodeClass",
            "KAIRAY_KARPENTER_NODE_CLASS_NAME": "gpu",
        }
    )
    body = drawn(spec(), settings=aws)
    assert body["spec"]["template"]["spec"]["nodeClassRef"] == {
        "group": "karpenter.k8s.aws",
        "kind": "EC2NodeClass",
        "name": "gpu",
    }


def test_an_image_family_may_have_a_node_class_of_its_own() -> None:
    settings = read_karpenter_settings({"KAIRAY_KARPENTER_NODE_CLASS_AZURELINUX": "mariner"})
    names = [settings.node_class_of(family) for family in ("AzureLinux", "ubuntu", None)]
    assert names == ["mariner", "default", "default"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("NAME", "Default!"), ("GROUP", "karpenter azure"), ("KIND", "aksNodeClass"), ("UBUNTU", "a/b")],
)
def test_a_name_that_kubernetes_would_refuse_is_named(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"KAIRAY_KARPENTER_NODE_CLASS_{name}"):
        read_karpenter_settings({f"KAIRAY_KARPENTER_NODE_CLASS_{name}": value})
