"""Prices of machine sizes from a file, in place of those of the shipped tables.

A file is CSV with `name` and `usd_per_hour`, and where they are known `spot_usd_per_hour`, `price_region` and
`price_as_of`. A size with an empty price has none; a size that the file does not name keeps the table's.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from kairay.errors import InputError
from kairay.skus import Sku, find_sku, folded_name, load_skus, nearest_skus

VARIABLE: Final = "KAIRAY_PRICES"
"""Names a price file, for the commands and for the controller."""
PRICES_MAP: Final = "kairay-prices"
"""The ConfigMap in the controller's namespace with the operator's prices."""
MOUNTED: Final = PurePosixPath("/etc/kairay/prices/prices.csv")
"""Where its pod has that ConfigMap's `prices.csv`."""

_COLUMNS = ("name", "usd_per_hour", "spot_usd_per_hour", "price_region", "price_as_of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a machine costs an hour, in US dollars; None where it cannot be had that way, or nobody says it."""

    usd_per_hour: float | None
    spot_usd_per_hour: float | None = None
    region: str | None = None
    as_of: str | None = None
    """ISO date."""


def priced_skus(path: Path | None) -> Mapping[str, Sku]:
    """Every size with the prices of a file, or with the tables' own; InputError when the file is not one."""
    if path is None:
        return load_skus()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such price file; write one with `kairay prices refresh`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return with_prices(load_skus(), parse_prices(text, str(path)), str(path))


def with_prices(skus: Mapping[str, Sku], prices: Mapping[str, Price], source: str) -> Mapping[str, Sku]:
    """The sizes with these prices; InputError for a price of a size that nobody knows."""
    priced = dict(skus)
    for name, price in prices.items():
        sku = find_sku(name, skus)
        if sku is None:
            near = nearest_skus(name, skus, date.max)
            raise InputError(
                f"{source}: {name} is not a known size" + (f"; near it: {', '.join(near)}" if near else "")
            )
        priced[sku.name] = replace(
            sku,
            usd_per_hour=price.usd_per_hour,
            spot_usd_per_hour=price.spot_usd_per_hour,
            price_region=price.region,
            price_as_of=price.as_of,
        )
    return MappingProxyType(priced)


def parse_prices(text: str, source: str) -> dict[str, Price]:
    """Prices by size; InputError names the line that cannot be read, or both lines of a size that has two."""
    rows = csv.DictReader(io.StringIO(text))
    columns = set(rows.fieldnames or ())
    if not {"name", "usd_per_hour"} <= columns <= set(_COLUMNS):
        raise InputError(
            f"{source}: the first line names the columns: {','.join(_COLUMNS)} (the first two at least)"
        )
    prices: dict[str, Price] = {}
    lines: dict[str, tuple[int, str]] = {}
    try:
        for row in rows:
            where = f"{source}:{rows.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where}: as many values as the first line has columns, please")
            name = row["name"].strip()
            line, former = lines.setdefault(folded_name(name), (rows.line_num, name))
            if line != rows.line_num:
                written = "" if former == name else f", written {former},"
                raise InputError(
                    f"{where}: {name} has a price in line {line} already{written} and each size has one; keep one"
                    " of the two lines"
                )
            prices[name] = Price(
                usd_per_hour=_dollars(row["usd_per_hour"], where),
                spot_usd_per_hour=_dollars(row.get("spot_usd_per_hour", ""), where),
                region=row.get("price_region") or None,
                as_of=_day(row.get("price_as_of", ""), where),
            )
    except csv.Error as error:
        raise InputError(f"{source}:{rows.line_num}: not CSV: {error}") from error
    return prices


def format_prices(prices: Mapping[str, Price]) -> str:
    """A price file, in the order of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_row(name, prices[name]) for name in sorted(prices))
    return text.getvalue()


def _row(name: str, price: Price) -> Iterable[object]:
    values = (name, price.usd_per_hour, price.spot_usd_per_hour, price.region, price.as_of)
    return ["" if value is None else value for value in values]


def _dollars(written: str, where: str) -> float | None:
    if not written.strip():
        return None
    try:
        amount = float(written)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise InputError(
            f"{where}: {written!r} is no price; write US dollars an hour, such as 3.673, or nothing"
        )
    return amount


def _day(written: str, where: str) -> str | None:
    try:
        return date.fromisoformat(written).isoformat() if written else None
    except ValueError as error:
        raise InputError(f"{where}: {written!r} is no date; write it as 2026-06-18") from error
