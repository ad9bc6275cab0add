"""The prices that the controller plans with, as far as they can be seen from here. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kairay.cluster.findings import Finding, Unseen, missing, ok, unseen, warning
from kairay.cluster.observed import Observed
from kairay.errors import InputError
from kairay.prices import MOUNTED, PRICES_MAP, VARIABLE, parse_prices, with_prices
from kairay.skus import Sku, load_skus

_NAME: Final = "prices"


def controller_skus(seen: Observed) -> Mapping[str, Sku] | Unseen:
    """Every size at the controller's prices; InputError where it does not start with them."""
    named = _named(seen)
    if not named:
        return load_skus()
    if named != str(MOUNTED) and not seen.in_pod:
        return Unseen(why=f"{VARIABLE}={named} names a file that is in the controller's pod alone")
    if isinstance(seen.prices, Unseen):
        return seen.prices
    source = named if seen.in_pod else f"ConfigMap {PRICES_MAP} in {seen.namespace}, {MOUNTED.name}"
    if seen.prices is None:
        raise InputError(
            f"{source}: is not there, though {VARIABLE} names it; give Helm's `prices` the text of a price file, or"
            f" kubectl -n {seen.namespace} create configmap {PRICES_MAP} --from-file={MOUNTED.name}"
        )
    return with_prices(load_skus(), parse_prices(seen.prices, source), source)


def skus_for_plan(seen: Observed) -> Mapping[str, Sku]:
    """The same for a plan that is made all the same; `check_prices` says where these are the shipped ones instead."""
    try:
        found = controller_skus(seen)
    except InputError:
        return load_skus()
    return load_skus() if isinstance(found, Unseen) else found


def check_prices(seen: Observed) -> Finding:
    """Whose prices it plans with, of which day and region."""
    try:
        skus = controller_skus(seen)
    except InputError as error:
        return missing(_NAME, f"the controller does not start with them: {error.message}")
    if isinstance(skus, Unseen):
        return unseen(_NAME, skus)
    if not _named(seen) and isinstance(seen.prices, str):
        return warning(
            _NAME,
            f"ConfigMap {PRICES_MAP} in {seen.namespace} is not used; set {VARIABLE}={MOUNTED} in the controller's"
            " ConfigMap and restart it",
        )
    shipped = load_skus()
    own = [sku for name, sku in skus.items() if sku is not shipped[name]]
    if own:
        count = f"{len(own)} size{'s' if len(own) > 1 else ''}"
        return ok(_NAME, f"the operator's for {count}{_dated(own)}, the shipped ones for the rest")
    priced = [sku for sku in shipped.values() if sku.usd_per_hour is not None]
    return ok(_NAME, f"the shipped list{_dated(priced)}; Helm's `prices` takes yours")


def _named(seen: Observed) -> str:
    return seen.settings.get(VARIABLE, "").strip()


def _dated(skus: list[Sku]) -> str:
    """`, eastus, westus3, as of 2026-06-18`; what is not written is left out."""
    regions = sorted({sku.price_region for sku in skus if sku.price_region})
    days = sorted({sku.price_as_of for sku in skus if sku.price_as_of})
    parts = [*regions, *([f"as of {' to '.join(sorted({days[0], days[-1]}))}"] if days else [])]
    return "".join(f", {part}" for part in parts)
