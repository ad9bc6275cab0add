"""What may still be had of a size: Azure's usage counters and its restrictions, remembered for ten minutes.

Nine of ten failures to get a GPU machine are quota, so it pays to look before asking. What cannot be looked up is
unknown, and unknown never stands in the way: the create call itself is the judge.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kairay.nodes.interface import Offer, Quota, RefusedError
from kairay.skus import Sku, find_sku

REMEMBERED: Final = 600.0
"""Seconds; usage counters lag behind by some minutes anyway."""
USAGES_VERSION, SKUS_VERSION = "2024-07-01", "2021-07-01"
_SPOT, _REGION = "lowprioritycores", "cores"
_NO_LOCATION = "Location"

_log = logging.getLogger(__name__)
Fetch = Callable[[str], Awaitable[list[dict[str, Any]]]]
"""From a path below the endpoint to all its values; raises RefusedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One counter."""

    name: str
    """As the portal shows it."""
    used: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What a region's lists say; empty where they could not be read."""

    usages: Mapping[str, Usage] = field(default_factory=dict)
    """By the counter's name in lower case."""
    sizes: Mapping[str, ListedSize] = field(default_factory=dict)
    """By the size's name in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSize:
    """A size as the region lists it."""

    family: str
    restriction: str | None
    """Why it cannot be had in the region at all, in Azure's words."""


def quota_of(offer: Offer, market: Market, skus: Mapping[str, Sku]) -> Quota | None:
    """The counter that allows fewest nodes of the offer; None where nothing is known."""
    sku, listed = find_sku(offer.instance_type, skus), market.sizes.get(offer.instance_type.casefold())
    restriction = listed.restriction if listed else None
    family = (listed.family if listed else None) or (sku.quota_family if sku else None) or ""
    names = (_SPOT,) if offer.spot else (family.casefold(), _REGION)
    usages = [usage for name in names if (usage := market.usages.get(name)) is not None]
    cores = sku.cores if sku else 0
    if not cores or not usages:
        if restriction is None:
            return None
        return Quota(
            name=family, used=0, limit=0, family=family, per_node=max(1, cores), restriction=restriction
        )
    tightest = min(usages, key=lambda usage: usage.limit - usage.used)
    return Quota(
        name=tightest.name, used=tightest.used, limit=tightest.limit, family=family, per_node=cores,
        restriction=restriction,
    )  # fmt: skip


def read_usages(values: Iterable[Mapping[str, Any]]) -> dict[str, Usage]:
    """`/usages` by counter."""
    return {
        str(each["name"]["value"]).casefold(): Usage(
            name=str(each["name"].get("localizedValue") or each["name"]["value"]),
            used=int(each["currentValue"]),
            limit=int(each["limit"]),
        )
        for each in values
    }


def read_sizes(values: Iterable[Mapping[str, Any]], location: str) -> dict[str, ListedSize]:
    """`/skus` of one region, machine sizes only.

    Restrictions of single zones are no obstacle: our pools name no zone.
    """
    return {
        str(each["name"]).casefold(): ListedSize(
            family=str(each.get("family") or ""), restriction=_restriction(each, location)
        )
        for each in values
        if each.get("resourceType") == "virtualMachines"
    }


def _restriction(size: Mapping[str, Any], location: str) -> str | None:
    for each in size.get("restrictions") or ():
        places = [str(place).casefold() for place in each.get("values") or ()]
        if each.get("type") == _NO_LOCATION and location.casefold() in places:
            return str(each.get("reasonCode") or "restricted")
    return None


class Quotas:
    """The region's lists, asked at most every ten minutes, failures included."""

    def __init__(self, subscription: str, fetch: Fetch, now: Callable[[], float]) -> None:
        self._paths = f"/subscriptions/{subscription}/providers/Microsoft.Compute"
        self._fetch, self._now = fetch, now
        self._market, self._until = Market(), float("-inf")

    async def of(
        self, offers: Iterable[Offer], location: Callable[[], Awaitable[str]], skus: Mapping[str, Sku]
    ) -> dict[Offer, Quota]:
        """What is known of the offers; without any Azure is not asked, so that the figures are of when they count."""
        wanted = tuple(offers)
        if wanted and self._now() >= self._until:
            self._market, self._until = await self._look(location), self._now() + REMEMBERED
        found = ((offer, quota_of(offer, self._market, skus)) for offer in wanted)
        return {offer: quota for offer, quota in found if quota is not None}

    async def _look(self, location: Callable[[], Awaitable[str]]) -> Market:
        """Each list by itself, so that a missing permission for one leaves the other."""
        try:
            region = await location()
        except RefusedError as error:
            _log.warning("quota is unknown: %s", error)
            return Market()
        usages = await self._values(f"/locations/{region}/usages?api-version={USAGES_VERSION}")
        sizes = await self._values(f"/skus?api-version={SKUS_VERSION}&$filter=location eq '{region}'")
        return Market(usages=read_usages(usages), sizes=read_sizes(sizes, region))

    async def _values(self, path: str) -> list[dict[str, Any]]:
        try:
            return await self._fetch(self._paths + path)
        except RefusedError as error:
            _log.warning("quota is unknown: %s", error)
            return []
