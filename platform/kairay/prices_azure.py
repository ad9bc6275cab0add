"""Azure's public price list: what sizes cost in a region now. Needs no account.

Asked for a few sizes at a time (a filter has to fit into an address). Of the answer count Linux machines that
are paid by the hour; Windows, Cloud Services and the old low-priority machines do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import requests

from kairay.errors import KairayError, TransientError
from kairay.prices import Price

RETAIL_PRICES = "https://prices.azure.com/api/retail/prices"
_VERSION = "2023-01-01-preview"
_SIZES_AT_ONCE = 12
_MOST_PAGES = 20
_TIMEOUT = (10.0, 60.0)
_OTHERS = ("windows", "cloud services", "cloudservices")


def fetch_prices(
    names: Sequence[str], *, region: str, today: date, url: str = RETAIL_PRICES
) -> dict[str, Price]:
    """The price of each of these sizes in a region; a size that is not offered there has none.

    TransientError when the list cannot be reached or asks to wait, KairayError when it answers something else.
    """
    ordinary: dict[str, float] = {}
    spot: dict[str, float] = {}
    with requests.Session() as session:
        for first in range(0, len(names), _SIZES_AT_ONCE):
            for item in _items(session, url, names[first : first + _SIZES_AT_ONCE], region):
                if (found := _price(item)) is not None:
                    name, amount, is_spot = found
                    kept = spot if is_spot else ordinary
                    # Two meters of one size differ by a rebate that not everyone gets: the dearer counts.
                    kept[name] = max(amount, kept.get(name, 0.0))
    return {
        name: Price(
            usd_per_hour=ordinary.get(name),
            spot_usd_per_hour=spot.get(name),
            region=region,
            as_of=today.isoformat(),
        )
        for name in names
    }


def _items(
    session: requests.Session, url: str, names: Iterable[str], region: str
) -> Iterator[dict[str, Any]]:
    sizes = " or ".join(f"armSkuName eq '{name}'" for name in names)
    parameters: dict[str, str] | None = {
        "api-version": _VERSION,
        "currencyCode": "USD",
        "$filter": f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}'"
        f" and priceType eq 'Consumption' and ({sizes})",
    }
    page = url
    for _ in range(_MOST_PAGES):
        answer = _get(session, page, parameters)
        items, following = answer.get("Items"), answer.get("NextPageLink")
        if not isinstance(items, list):
            raise KairayError(f"{url} answers without prices; is it Azure's price list?")
        yield from items
        if not following:
            return
        if urlsplit(following).hostname != urlsplit(url).hostname:
            raise KairayError(f"{url} sends us on to another host, {following}; not followed")
        # The list gives its own port or scheme in the link; where we asked is where we go on.
        page = urlsplit(url)._replace(query=urlsplit(following).query).geturl()
        parameters = None


def _get(session: requests.Session, url: str, parameters: dict[str, str] | None) -> dict[str, Any]:
    try:
        answer = session.get(url, params=parameters, timeout=_TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        raise TransientError(
            f"{url} cannot be reached ({type(error).__name__}); try again, or give prices with --prices"
        ) from error
    if answer.status_code == requests.codes.too_many_requests or answer.status_code >= 500:
        raise TransientError(f"{url} answers {answer.status_code}; try again in a minute", retry_after=60.0)
    if answer.status_code != requests.codes.ok:
        raise KairayError(f"{url} answers {answer.status_code} {answer.reason}; check --url and --region")
    try:
        written = answer.json()
    except requests.JSONDecodeError as error:
        raise KairayError(f"{url} answers something that is not JSON; is it Azure's price list?") from error
    return written if isinstance(written, dict) else {}


def _price(item: dict[str, Any]) -> tuple[str, float, bool] | None:
    """Size, dollars an hour, and whether as a spot machine; None for what does not count."""
    product, sku = str(item.get("productName", "")).casefold(), str(item.get("skuName", "")).casefold()
    amount = item.get("retailPrice")
    if (
        any(word in product for word in _OTHERS)
        or "low priority" in sku
        or item.get("unitOfMeasure") != "1 Hour"
    ):
        return None
    if not isinstance(amount, int | float) or amount <= 0:
        return None
    return str(item.get("armSkuName", "")), float(amount), sku.endswith("spot")
