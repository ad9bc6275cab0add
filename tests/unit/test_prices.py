"""Prices: a file in place of the table, and Azure's public list behind a server of our own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from command_line import exit_code
from kairay.errors import InputError, KairayError, TransientError
from kairay.prices import Price, format_prices, parse_prices, priced_skus, with_prices
from kairay.prices_azure import fetch_prices
from kairay.skus import load_skus
from loopback import listening

A100, T4 = "Standard_NC24ads_A100_v4", "Standard_NC4as_T4_v3"
EIGHT, KAITOS_EIGHT = "Standard_ND96asr_v4", "Standard_ND96asr_A100_v4"
TODAY = date(2026, 11, 24)
Answer = Callable[[dict[str, list[str]], str], tuple[int, object]]


def test_a_file_replaces_prices_and_leaves_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "name,usd_per_hour,spot_usd_per_hour,price_region,price_as_of\n"
        f"{A100.lower()},2.5,0.6,westeurope,2026-11-20\n{T4},,,westeurope,2026-11-20\n"
    )
    skus = priced_skus(file)
    a100 = skus[A100]
    assert (a100.usd_per_hour, a100.spot_usd_per_hour, a100.price_region) == (2.5, 0.6, "westeurope")
    assert skus[T4].usd_per_hour is None
    assert skus["Standard_NC8as_T4_v3"] == load_skus()["Standard_NC8as_T4_v3"]


def test_a_price_file_is_written_as_it_is_read() -> None:
    prices = {
        T4: Price(usd_per_hour=0.5, spot_usd_per_hour=0.05, region="eastus", as_of="2026-11-24"),
        A100: Price(usd_per_hour=None),
    }
    text = format_prices(prices)
    assert parse_prices(text, "prices.csv") == prices
    assert text == format_prices(dict(reversed(prices.items())))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the first line names the columns"),
        ("name,price\nx,1\n", "the first line names the columns"),
        (f"name,usd_per_hour\n{A100},-1\n", r"prices\.csv:2: '-1' is no price"),
        (f"name,usd_per_hour\n{A100},nan\n", "is no price"),
        (f"name,usd_per_hour\n{A100},free\n", "is no price"),
        (f"name,usd_per_hour\n{A100}\n", "as many values"),
        (f"name,usd_per_hour\n{A100},1,2\n", "as many values"),
        (
            f"name,usd_per_hour\n{A100},1\n{T4},1\n{A100},2\n",
            rf"prices\.csv:4: {A100} has a price in line 2 already and each size has one; keep one of the two lines$",
        ),
        (
            f"name,usd_per_hour\n{A100},1\n{A100.upper()},2\n",
            rf"prices\.csv:3: {A100.upper()} has a price in line 2 already, written {A100}, and each",
        ),
        (
            f"name,usd_per_hour\n{EIGHT},27\n{T4},1\n{KAITOS_EIGHT},9\n",
            rf"prices\.csv:4: {KAITOS_EIGHT} has a price in line 2 already, written {EIGHT}, and each",
        ),
        (
            f"name,usd_per_hour\n{KAITOS_EIGHT.lower()},27\n{EIGHT.upper()},27\n",
            r"prices\.csv:3: .* has a price in line 2 already",
        ),
        (f"name,usd_per_hour,price_as_of\n{A100},1,june\n", "'june' is no date"),
    ],
)
def test_a_bad_price_file_is_told_where(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        parse_prices(text, "prices.csv")


@pytest.mark.parametrize("name", [EIGHT, EIGHT.upper(), KAITOS_EIGHT, KAITOS_EIGHT.lower()])
def test_a_size_has_its_price_by_whatever_name_of_it(name: str) -> None:
    prices = parse_prices(f"name,usd_per_hour\n{name},9.5\n", "prices.csv")
    assert with_prices(load_skus(), prices, "prices.csv")[EIGHT].usd_per_hour == 9.5


def test_a_price_of_an_unknown_size_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"prices\.csv: Standard_NC24ads_A100 is not a known size; near it: "
    ):
        with_prices(load_skus(), {"Standard_NC24ads_A100": Price(usd_per_hour=1)}, "prices.csv")


def test_a_missing_price_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kairay prices refresh"):
        priced_skus(tmp_path / "none.csv")


def test_azures_list_is_read_with_spot_prices_and_without_windows() -> None:
    rows = [
        item(A100, 3.6, "NC24ads A100 v4"),
        item(A100, 9.9, "NC24ads A100 v4", product="Virtual Machines NCads A100 v4 Series Windows"),
        item(A100, 0.7, "NC24ads A100 v4 Spot"),
        item(A100, 0.5, "NC24ads A100 v4 Low Priority"),
        item(A100, 5.0, "NC24ads A100 v4", product="NCads A100 v4 Series Cloud Services"),
        item(A100, 50.0, "NC24ads A100 v4", unit="1 Month"),
    ]
    with list_of(lambda query, host: (200, {"Items": rows})) as (url, asked):
        prices = fetch_prices([A100, T4], region="westeurope", today=TODAY, url=url)
    assert prices[A100] == Price(
        usd_per_hour=3.6, spot_usd_per_hour=0.7, region="westeurope", as_of="2026-11-24"
    )
    assert prices[T4].usd_per_hour is None
    (query,) = asked
    assert query["currencyCode"] == ["USD"]
    assert f"armSkuName eq '{A100}' or armSkuName eq '{T4}'" in query["$filter"][0]
    assert "armRegionName eq 'westeurope'" in query["$filter"][0]


def test_further_pages_are_read_and_many_sizes_are_asked_for_in_turns() -> None:
    names = [f"size-{number:02}" for number in range(30)]

    def answer(query: dict[str, list[str]], host: str) -> tuple[int, object]:
        if "page" in query:
            return 200, {"Items": [item("size-00", 2.0, "x")], "NextPageLink": None}
        return 200, {"Items": [], "NextPageLink": f"http://{host}/?page=2"}

    with list_of(answer) as (url, asked):
        assert fetch_prices(names, region="eastus", today=TODAY, url=url)["size-00"].usd_per_hour == 2.0
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (429, {}, TransientError, "answers 429; try again"),
        (503, {}, TransientError, "answers 503"),
        (404, {}, KairayError, "answers 404"),
        (302, {}, KairayError, "answers 302"),
        (200, {"rows": []}, KairayError, "answers without prices"),
        (200, [], KairayError, "answers without prices"),
        (200, "text", KairayError, "not JSON"),
        (200, {"Items": [], "NextPageLink": "http://elsewhere.example/"}, KairayError, "another host"),
    ],
)
def test_an_odd_answer_is_one_sentence(
    status: int, body: object, error: type[KairayError], words: str
) -> None:
    with list_of(lambda query, host: (status, body)) as (url, _), pytest.raises(error, match=words):
        fetch_prices([A100], region="eastus", today=TODAY, url=url)


def test_a_list_that_is_not_there_may_be_there_later() -> None:
    with list_of(lambda query, host: (200, {})) as (url, _):
        pass
    with pytest.raises(TransientError, match="cannot be reached"):
        fetch_prices([A100], region="eastus", today=TODAY, url=url)


def test_refreshed_prices_are_what_the_next_plan_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIRAY_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("KAIRAY_PRICES", raising=False)
    with list_of(lambda query, host: (200, {"Items": [item(T4, 0.4, "x"), item(T4, 0.04, "x Spot")]})) as (
        url,
        _,
    ):
        assert exit_code("prices", "refresh", "--region", "westeurope", "--url", url) == 0
    assert "sizes have a price in westeurope, 1 as spot machines" in capsys.readouterr().out
    assert exit_code("prices", "show", "-o", "json") == 0
    (t4,) = [each for each in json.loads(capsys.readouterr().out) if each["instanceType"] == T4]
    assert (t4["usdPerHour"], t4["spotUsdPerHour"], t4["priceRegion"]) == (0.4, 0.04, "westeurope")
    assert exit_code("prices", "show") == 0
    assert str(tmp_path / "prices.csv") in capsys.readouterr().err


@pytest.mark.parametrize("region", ["west europe", "eastus' or 1 eq 1", ""])
def test_a_region_is_one_word(region: str) -> None:
    assert exit_code("prices", "refresh", "--region", region, "--url", "http://127.0.0.1:9/") == 2


def test_a_region_without_machines_is_an_error_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIRAY_STATE_DIR", str(tmp_path))
    with list_of(lambda query, host: (200, {"Items": []})) as (url, _):
        assert exit_code("prices", "refresh", "--region", "moon", "--url", url) == 2
    assert list(tmp_path.iterdir()) == []


def item(
    size: str, price: float, sku: str, *, product: str = "Virtual Machines NC Series", unit: str = "1 Hour"
) -> dict[str, Any]:
    return {
        "armSkuName": size, "retailPrice": price, "skuName": sku, "productName": product, "unitOfMeasure": unit,
        "currencyCode": "USD", "type": "Consumption",
    }  # fmt: skip


@contextmanager
def list_of(answer: Answer) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """A price list on this machine, and the queries that it got."""
    asked: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            asked.append(query)
            status, body = answer(query, self.headers["Host"])
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as port:
        yield f"http://127.0.0.1:{port}/api/retail/prices", asked
