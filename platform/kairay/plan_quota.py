"""Azure's quota in a plan: how many cores of a family are free, and whether the machines stay within it.

What is not known refuses nothing: a size whose family no table names, or a family that the answer lacks, is
taken with a warning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kairay.errors import InputError
from kairay.skus import Sku

_REGION, _SPOT = "cores", "lowprioritycores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Free cores by family, as one region has them now; `Quota.of` spells the names alike."""

    free: Mapping[str, int]

    @classmethod
    def of(cls, free: Mapping[str, int]) -> Quota:
        """From Azure's names, which differ in case and spaces from place to place."""
        return cls(free=MappingProxyType({_key(name): cores for name, cores in sorted(free.items())}))

    def known(self, sku: Sku, *, spot: bool) -> bool:
        """The cores of this size are counted here."""
        return self._family(sku, spot=spot) in self.free

    def shortfall(self, sku: Sku, nodes: int, *, spot: bool) -> str:
        """Why `nodes` machines are more than there may be; empty when they are not, or when it is not known."""
        wanted = nodes * sku.cores
        limits = [(self._family(sku, spot=spot), "spot machines" if spot else sku.quota_family or "")]
        limits += [] if spot else [(_REGION, "the region")]
        for family, name in limits:
            if (free := self.free.get(family)) is not None and wanted > free:
                return f"{wanted} cores of quota are needed, {free} of {name} are free"
        return ""

    def _family(self, sku: Sku, *, spot: bool) -> str:
        return _SPOT if spot else _key(sku.quota_family or "")


def parse_usages(text: str, source: str) -> Quota:
    """Quota from what `az vm list-usage --location REGION -o json` prints, or from the same call of Azure's API;
    InputError when it is neither."""
    try:
        written = json.loads(text)
        rows = written["value"] if isinstance(written, dict) else written
        return Quota.of({row["name"]["value"]: _free(row) for row in rows})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{source}: not a list of usages; write it with: az vm list-usage --location REGION -o json"
        ) from error


def _free(row: Mapping[str, Any]) -> int:
    return max(0, int(row["limit"]) - int(row["currentValue"]))


def _key(name: str) -> str:
    return name.replace(" ", "").casefold()
