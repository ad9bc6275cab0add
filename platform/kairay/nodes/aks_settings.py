"""Which AKS cluster the pools belong to, read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from kairay.errors import InputError

PUBLIC_CLOUD: Final = "https://management.azure.com"
SUBSCRIPTION, GROUP, CLUSTER = "KAIRAY_AKS_SUBSCRIPTION", "KAIRAY_AKS_RESOURCE_GROUP", "KAIRAY_AKS_CLUSTER"
LOCATION, SUBNET, ENDPOINT = "KAIRAY_AKS_LOCATION", "KAIRAY_AKS_SUBNET", "KAIRAY_AKS_ENDPOINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class AksSettings:
    """One cluster, as Azure Resource Manager names it."""

    subscription: str
    """The subscription's id."""
    resource_group: str
    """The group that the cluster itself is in, not the one of its nodes (`MC_…`)."""
    cluster: str
    location: str | None = None
    """The region; None: the cluster's own, read from it."""
    subnet: str | None = None
    """ARM id of the subnet for new nodes; None: that of the cluster's system pool."""
    endpoint: str = PUBLIC_CLOUD
    """Azure Resource Manager; another one for a sovereign cloud, or a simulator at a plain http address."""

    @property
    def plain(self) -> bool:
        """The endpoint is asked by plain HTTP; no token is ever sent there."""
        return urlsplit(self.endpoint).scheme == "http"


def read_aks_settings(environment: Mapping[str, str]) -> AksSettings | None:
    """Settings from `KAIRAY_AKS_*`; None where none of the three names is given.

    InputError names what is missing, or an endpoint that is no address.
    """
    given = {name: environment.get(name, "").strip() for name in (SUBSCRIPTION, GROUP, CLUSTER)}
    if not any(given.values()):
        return None
    if missing := [name for name, value in given.items() if not value]:
        raise InputError(
            f"AKS node pools need {' and '.join(missing)} too; set all three of {', '.join(given)}"
        )
    endpoint = environment.get(ENDPOINT, "").strip().rstrip("/") or PUBLIC_CLOUD
    if urlsplit(endpoint).scheme not in ("https", "http") or not urlsplit(endpoint).hostname:
        raise InputError(f"{ENDPOINT}={endpoint!r} is no address; give one such as {PUBLIC_CLOUD}")
    return AksSettings(
        subscription=given[SUBSCRIPTION],
        resource_group=given[GROUP],
        cluster=given[CLUSTER],
        location=environment.get(LOCATION, "").strip() or None,
        subnet=environment.get(SUBNET, "").strip() or None,
        endpoint=endpoint,
    )
