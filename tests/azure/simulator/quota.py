"""Counters of vCPUs per family, for spot machines, and for the whole region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.errors import ArmError
from simulator.sizes import REGION, SPOT, family_and_cores


@dataclass(kw_only=True)
class QuotaBook:
    """Limits by counter; one that is not named is ample."""

    location: str
    limits: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    """Used by machines that are not the cluster's."""
    ample: int = 10_000

    def used(self, counter: str, machines: Mapping[tuple[str, bool], int]) -> int:
        """vCPUs; `machines` counts them by size and spot."""
        own = sum(
            count * family_and_cores(size)[1]
            for (size, spot), count in machines.items()
            if counter in _counters(size, spot)
        )
        return own + self.others.get(counter, 0)

    def check(self, size: str, spot: bool, more: int, machines: Mapping[tuple[str, bool], int]) -> None:
        """ArmError in Compute's words when `more` machines would exceed a counter."""
        wanted = more * family_and_cores(size)[1]
        for counter in _counters(size, spot):
            limit, used = self.limits.get(counter, self.ample), self.used(counter, machines)
            if used + wanted > limit:
                raise ArmError(400, *self._words(counter, limit, used, wanted))

    def usages(self, machines: Mapping[tuple[str, bool], int]) -> list[dict[str, Any]]:
        """The region's `/usages`."""
        counters = {SPOT, REGION, *self.limits, *self.others}
        counters |= {family_and_cores(size)[0] for size, _ in machines}
        return [
            {
                "unit": "Count",
                "currentValue": self.used(counter, machines),
                "limit": self.limits.get(counter, self.ample),
                "name": {"value": counter, "localizedValue": _TITLES.get(counter, f"{counter} vCPUs")},
            }
            for counter in sorted(counters)
        ]

    def _words(self, counter: str, limit: int, used: int, wanted: int) -> tuple[str, str]:
        title = {SPOT: "LowPriorityCores", REGION: "Total Regional Cores"}.get(counter, f"{counter} Cores")
        title = title if title.endswith("Cores") else f"{title} Cores"
        said = (
            f"Operation could not be completed as it results in exceeding approved {title} quota. Additional details - "
            f"Deployment Model: Resource Manager, Location: {self.location}, Current Limit: {limit}, Current Usage: "
            f"{used}, Additional Required: {wanted}, (Minimum) New Limit Required: {used + wanted}."
        )
        return "OperationNotAllowed", said


_TITLES = {SPOT: "Total Regional Spot vCPUs", REGION: "Total Regional vCPUs"}


def _counters(size: str, spot: bool) -> tuple[str, ...]:
    return (SPOT,) if spot else (family_and_cores(size)[0], REGION)
