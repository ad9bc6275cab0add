"""Which of Karpenter's node classes our pools refer to, read from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from kairay.errors import InputError

GROUP, KIND = "KAIRAY_KARPENTER_NODE_CLASS_GROUP", "KAIRAY_KARPENTER_NODE_CLASS_KIND"
NAME = "KAIRAY_KARPENTER_NODE_CLASS_NAME"
FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ubuntu": "KAIRAY_KARPENTER_NODE_CLASS_UBUNTU",
        "azurelinux": "KAIRAY_KARPENTER_NODE_CLASS_AZURELINUX",
    }
)
"""KAITO's image families; each may have a node class of its own, named by the variable."""

_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_KIND_NAME: Final = re.compile(r"[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class KarpenterSettings:
    """The node class, which holds what only the cloud knows: image, subnet, disk. Kairay never writes one."""

    node_class_group: str = "karpenter.azure.com"
    """Its API group: `karpenter.k8s.aws` on AWS."""
    node_class_kind: str = "AKSNodeClass"
    """`EC2NodeClass` on AWS."""
    node_class_name: str = "default"
    """The one that AKS makes with node auto-provisioning."""
    family_node_classes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names by image family; a family that is missing uses `node_class_name`."""

    def node_class_of(self, family: str | None) -> str:
        """The name of the node class for an image family; None: the default."""
        return self.family_node_classes.get((family or "").lower(), self.node_class_name)


def read_karpenter_settings(environment: Mapping[str, str]) -> KarpenterSettings:
    """Settings from `KAIRAY_KARPENTER_NODE_CLASS_*`; an empty or missing one leaves the default.

    InputError names a value that Kubernetes would refuse.
    """
    default = KarpenterSettings()
    families = {family: _read(environment, variable) for family, variable in FAMILIES.items()}
    return KarpenterSettings(
        node_class_group=_read(environment, GROUP) or default.node_class_group,
        node_class_kind=_read(environment, KIND, _KIND_NAME, "AKSNodeClass") or default.node_class_kind,
        node_class_name=_read(environment, NAME) or default.node_class_name,
        family_node_classes=MappingProxyType({each: name for each, name in families.items() if name}),
    )


def _read(
    environment: Mapping[str, str],
    name: str,
    pattern: re.Pattern[str] = _DNS_NAME,
    example: str = "karpenter.azure.com",
) -> str:
    value = environment.get(name, "").strip()
    if value and not pattern.fullmatch(value):
        raise InputError(f"{name}={value!r} is no name that Kubernetes takes; write one such as {example}")
    return value
