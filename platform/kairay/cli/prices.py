"""`kairay prices`: what machines cost, and where the figures come from."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kairay.cli.output import OutputFormat, output_option, print_data, print_table
from kairay.local.state_folder import StateFolder
from kairay.prices import VARIABLE, format_prices, priced_skus
from kairay.skus import Sku, SkuKind

Command = TypeVar("Command", bound=Callable[..., Any])

URL_VARIABLE = "KAIRAY_PRICES_URL"


def prices_option(command: Command) -> Command:
    """The `--prices` flag, the same for every command that plans."""
    return click.option(
        "--prices", type=click.Path(path_type=Path),
        help=f"Price file; default: ${VARIABLE}, else what `kairay prices refresh` wrote, else the shipped table.",
    )(command)  # fmt: skip


def price_file(given: Path | None) -> Path | None:
    """The price file to use; None: the shipped table."""
    if given is not None:
        return given
    if named := os.environ.get(VARIABLE):
        return Path(named)
    refreshed = _refreshed()
    return refreshed if refreshed.exists() else None


@click.group("prices")
def command() -> None:
    """Show what machines cost, or fetch Azure's prices of today."""


@command.command("show")
@prices_option
@output_option
def show(prices: Path | None, output: str) -> None:
    """List every size that has a price, cheapest first, with the region and the day it is from."""
    path = price_file(prices)
    skus = [sku for sku in priced_skus(path).values() if sku.usd_per_hour is not None]
    skus.sort(key=lambda sku: (sku.usd_per_hour, sku.name))
    if output != OutputFormat.TABLE:
        print_data([_as_data(sku) for sku in skus], output)
        return
    heads = ("SIZE", "HARDWARE", "$/HOUR", "$ SPOT", "REGION", "AS OF")
    print_table(heads, [_as_row(sku) for sku in skus])
    click.echo(f"from {path or 'the shipped table'}", err=True)


@command.command("refresh")
@click.option("--region", default="eastus", show_default=True, help="Azure region, as Azure spells it.")
@click.option(
    "-f", "--file", "path", type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; default: where `kairay plan` looks for it.",
)  # fmt: skip
@click.option("--url", envvar=URL_VARIABLE, help=f"Another price list of the same form (${URL_VARIABLE}).")
def refresh(region: str, path: Path | None, url: str | None) -> None:
    """Fetch the prices of Azure's sizes in a region from Azure's public price list; needs no account."""
    from kairay.prices_azure import RETAIL_PRICES, fetch_prices

    today = datetime.datetime.now(datetime.UTC).date()
    names = [
        sku.name for sku in priced_skus(None).values() if sku.kind is SkuKind.AZURE and not sku.retired(today)
    ]
    prices = fetch_prices(names, region=_region(region), today=today, url=url or RETAIL_PRICES)
    if not any(price.usd_per_hour for price in prices.values()):
        raise click.UsageError(f"Azure's list has no GPU machines in {region}; is the region spelled so?")
    target = path or _refreshed()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(format_prices(prices), "utf-8")
    found = sum(price.usd_per_hour is not None for price in prices.values())
    spot = sum(price.spot_usd_per_hour is not None for price in prices.values())
    click.echo(f"{found} of {len(names)} sizes have a price in {region}, {spot} as spot machines: {target}")


def _refreshed() -> Path:
    return StateFolder.default().root / "prices.csv"


def _region(written: str) -> str:
    """A name that goes into the list's filter: letters and digits only, as Azure's are."""
    if not written.isascii() or not written.isalnum():
        raise click.UsageError(f"--region {written!r}: give the name without spaces, such as westeurope")
    return written.lower()


def _as_row(sku: Sku) -> tuple[str, ...]:
    spot = "" if sku.spot_usd_per_hour is None else f"{sku.spot_usd_per_hour:.3f}"
    return (
        sku.name, sku.hardware, f"{sku.usd_per_hour:.3f}", spot, sku.price_region or "-", sku.price_as_of or "-",
    )  # fmt: skip


def _as_data(sku: Sku) -> dict[str, Any]:
    return {
        "instanceType": sku.name,
        "cloud": str(sku.kind),
        "hardware": sku.hardware,
        "usdPerHour": sku.usd_per_hour,
        "spotUsdPerHour": sku.spot_usd_per_hour,
        "priceRegion": sku.price_region,
        "priceAsOf": sku.price_as_of,
    }
