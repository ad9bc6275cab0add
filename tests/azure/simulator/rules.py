"""What AKS refuses of an agent pool before it begins anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from simulator.errors import ArmError

IMMUTABLE = (
    "vmSize", "type", "scaleSetPriority", "scaleSetEvictionPolicy", "spotMaxPrice", "osDiskSizeGB", "osDiskType",
    "osType", "gpuProfile", "gpuInstanceProfile", "availabilityZones", "vnetSubnetID", "podSubnetID", "maxPods",
)  # fmt: skip
MOST_POOLS = 100
_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_TAG = re.compile(r"[<>%&\\?/]")
_RESERVED = re.compile(r"(.*\.)?(kubernetes\.azure\.com|kubernetes\.io|k8s\.io)/")


def check_new(name: str, properties: Mapping[str, Any], pools: int) -> None:
    """A pool that is not there yet."""
    if not _NAME.fullmatch(name):
        raise ArmError(
            400, "InvalidParameter", f"The agent pool name {name} does not match ^[a-z][a-z0-9]{{0,11}}$."
        )
    if pools >= MOST_POOLS:
        raise ArmError(
            400, "InvalidParameter", "The maximum number of agent pools for the cluster, 100, is reached."
        )
    if not properties.get("vmSize"):
        raise ArmError(400, "InvalidParameter", "The value of parameter agentPoolProfile.vmSize is required.")
    if "gpuInstanceProfile" in properties and not re.search(r"_[AH][12]00_v|96asr_v4", properties["vmSize"]):
        raise ArmError(400, "InvalidParameter", f"GPUInstanceProfile is not for {properties['vmSize']}.")
    if properties.get("scaleSetPriority") != "Spot" and "spotMaxPrice" in properties:
        raise ArmError(400, "InvalidParameter", "spotMaxPrice is for the scale set priority Spot.")


def check_any(properties: Mapping[str, Any]) -> None:
    """A pool as it would be."""
    for key in properties.get("nodeLabels") or ():
        if _RESERVED.match(key):
            raise ArmError(
                400,
                "InvalidParameter",
                f"The label {key} is reserved: prefix kubernetes.azure.com or kubernetes.io.",
            )
    for key in properties.get("tags") or ():
        if _TAG.search(key):
            raise ArmError(400, "InvalidTagNameCharacters", f"The tag name '{key}' has reserved characters.")
    least = 0 if properties.get("mode") == "User" else 1
    if not least <= properties.get("count", 1) <= 1000:
        raise ArmError(400, "InvalidParameter", f"agentPoolProfile.count has to be {least} to 1000.")
    if properties.get("enableAutoScaling") and properties.get("minCount", 0) > properties.get("maxCount", 0):
        raise ArmError(400, "InvalidParameter", "minCount is greater than maxCount.")


def check_change(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """A change of a pool that is there."""
    for key in IMMUTABLE:
        if key in new and old.get(key) != new[key]:
            raise ArmError(
                400,
                "PropertyChangeNotAllowed",
                f"Changing property 'properties.{key}' is not allowed.",
            )
    if new.get("enableAutoScaling") and old.get("enableAutoScaling") and new["count"] != old["count"]:
        raise ArmError(
            400,
            "InvalidParameter",
            f"Cannot scale cluster autoscaler enabled node pool {name}.",
        )
