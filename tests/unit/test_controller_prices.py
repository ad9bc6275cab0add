"""The operator's prices on a cluster: read at the start, judged by in every plan, seen by `kairay doctor`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from doctor_scenes import whole
from kairay.cluster.checks_prices import check_prices, skus_for_plan
from kairay.cluster.findings import Finding, Status, Unseen
from kairay.controller.__main__ import main
from kairay.controller.app import read_prices
from kairay.controller.blueprint import draw_blueprint
from kairay.controller.decide import Decision, World, decide
from kairay.controller.held import refuse
from kairay.controller.observed import Observed
from kairay.controller.settings import NodeSettings, Provider, Settings, describe, read_settings
from kairay.errors import InputError
from kairay.kube.objects import Manifest
from kairay.presets import find_preset
from kairay.prices import MOUNTED, PRICES_MAP, VARIABLE, Price, with_prices
from kairay.skus import load_skus
from kairay.workspace import parse_workspace

ROOT = Path(__file__).resolve().parents[2]
A100 = "Standard_NC24ads_A100_v4"
AKS = Settings(nodes=NodeSettings(provider=Provider.AKS))
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HEAD = "name,usd_per_hour,spot_usd_per_hour,price_region,price_as_of\n"
TWICE = f"{HEAD}Standard_ND96asr_v4,27,,eastus,\nStandard_ND96asr_A100_v4,9,,eastus,\n"
OWN = f"{HEAD}{A100},2.00,0.50,westeurope,2026-11-20\n"


def workspace(**resource: Any) -> Manifest:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": "chat", "namespace": "team", "uid": "1", "generation": 1},
        "resource": {"instanceType": A100, "labelSelector": {"matchLabels": {"app": "chat"}}, **resource},
        "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
    }  # fmt: skip


def decided(manifest: Manifest, price: Price | None, settings: Settings = AKS) -> Decision:
    """A pass at this price of the A100; None: at the shipped one."""
    skus = load_skus() if price is None else with_prices(load_skus(), {A100: price}, "prices.csv")
    seen = Observed(workspace=manifest, preset=find_preset("phi-3-mini-128k-instruct"))
    world = World(settings=settings, skus=skus, controller_namespace="kairay-system", now=NOW)
    try:
        return decide(parse_workspace(manifest), seen, world)
    except InputError as error:
        return refuse(seen, error, world)


def offers(price: Price, **resource: Any) -> list[str]:
    """What is asked for, the first first."""
    written = parse_workspace(workspace(**resource))
    skus = with_prices(load_skus(), {A100: price}, "prices.csv")
    preset = find_preset("phi-3-mini-128k-instruct")
    drawn = draw_blueprint(written, preset, nodes=(), skus=skus, settings=AKS, today=date(2026, 11, 28))
    assert drawn.group is not None
    return [str(each) for each in drawn.group.offers]


def test_the_shipped_prices_hold_where_no_file_is_named(tmp_path: Path) -> None:
    assert read_settings({}).prices is None
    assert read_prices(Settings()) is load_skus()
    file = tmp_path / "prices.csv"
    file.write_text(OWN)
    settings = read_settings({VARIABLE: str(file)})
    assert read_prices(settings)[A100].usd_per_hour == 2.0
    assert describe(settings)["prices"] == str(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"name,usd_per_hour\n{A100},cheap\n", "prices.csv:2: 'cheap' is no price; write US dollars"),
        ("name,usd_per_hour\nStandard_NC24_A100,1\n", "Standard_NC24_A100 is not a known size; near it: "),
        (
            f"{HEAD}{A100},1,,eastus,\n{A100.lower()},2,,westus,\n",
            "prices.csv:3: .* in line 2 already, written",
        ),
        (
            TWICE,
            "prices.csv:3: Standard_ND96asr_A100_v4 has a price in line 2 already, written Standard_ND96asr_v4",
        ),
        (None, "prices.csv: there is no such price file; write one with"),
    ],
)
def test_a_controller_with_a_broken_file_does_not_start_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:  # fmt: skip
    file = tmp_path / "prices.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=rf"^KAIRAY_PRICES \(Helm: prices\): .*{said}"):
        read_prices(Settings(prices=file))
    monkeypatch.setenv(VARIABLE, str(file))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nobody is asked"))
    assert main() == InputError.exit_code
    assert "KAIRAY_PRICES (Helm: prices)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("price", "most", "holds"),
    [
        (None, 3.0, False),
        (Price(usd_per_hour=2.0), 3.0, True),
        (Price(usd_per_hour=4.5), 4.0, False),
        (None, 4.0, True),
        (Price(usd_per_hour=None), 4.0, False),
    ],
)
def test_a_limit_is_judged_by_the_operators_price(price: Price | None, most: float, holds: bool) -> None:
    decision = decided(workspace(maxHourlyCostUSD=most), price)
    reasons = {each["type"]: each["reason"] for each in decision.status["conditions"]}
    assert (reasons["ResourceReady"] != "CannotBePlanned") is holds
    assert bool(decision.objects) is holds


def test_status_says_the_price_with_its_region_and_day() -> None:
    plan = decided(
        workspace(), Price(usd_per_hour=2.0, region="westeurope", as_of="2026-11-20")
    ).status["plan"]  # fmt: skip
    told = {key: plan[key] for key in ("hourlyCostUSD", "priceRegion", "priceAsOf")}
    assert told == {"hourlyCostUSD": 2.0, "priceRegion": "westeurope", "priceAsOf": "2026-11-20"}
    shipped = load_skus()[A100]
    plan = decided(workspace(), None).status["plan"]
    assert (plan["priceRegion"], plan["priceAsOf"]) == (shipped.price_region, shipped.price_as_of)
    plan = decided(workspace(), Price(usd_per_hour=None)).status["plan"]
    assert {"hourlyCostUSD", "priceRegion", "priceAsOf"} & set(plan) == set()


def test_machines_on_demand_stand_in_for_spot_ones_only_within_the_limit() -> None:
    price = Price(usd_per_hour=2.0, spot_usd_per_hour=0.5)
    both = [f"{A100} (spot)", A100]
    assert offers(price, spot=True) == both
    assert offers(price, spot=True, maxHourlyCostUSD=2) == both
    assert offers(price, spot=True, maxHourlyCostUSD=1) == both[:1]
    assert offers(replace(price, usd_per_hour=None), spot=True, maxHourlyCostUSD=1) == both[:1]


def test_the_file_is_mounted_where_the_chart_says_it_is() -> None:
    text = (ROOT / "kuberay" / "install" / "controller.yaml").read_text("utf-8")
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    volume = next(each for each in pod["volumes"] if each["name"] == "prices")
    mount = next(each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "prices")
    assert volume["configMap"] == {"name": PRICES_MAP, "optional": True}
    assert mount["mountPath"] == str(MOUNTED.parent)
    templates = ROOT / "kuberay" / "chart" / "templates"
    assert f'"KAIRAY_PRICES" (ternary "{MOUNTED}"' in (templates / "_settings.tpl").read_text("utf-8")
    prices = (templates / "prices.yaml").read_text("utf-8")
    assert f"name: {PRICES_MAP}\n" in prices
    assert f"  {MOUNTED.name}: " in prices


# -- kairay doctor ---------------------------------------------------------------------------------------------------


def found(named: str = str(MOUNTED), **changes: Any) -> Finding:
    return check_prices(whole(settings={VARIABLE: named}, **changes))


def test_doctor_says_whose_prices_hold() -> None:
    shipped = check_prices(whole())
    assert shipped.status is Status.OK
    assert "the shipped list, " in shipped.sentence
    own = found(prices=OWN)
    assert own.status is Status.OK
    assert "the operator's for 1 size, westeurope, as of 2026-11-20" in own.sentence
    assert skus_for_plan(whole(settings={VARIABLE: str(MOUNTED)}, prices=OWN))[A100].usd_per_hour == 2.0


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"prices": None}, Status.MISSING, "create configmap kairay-prices --from-file=prices.csv"),
        ({"prices": f"{HEAD}{A100},x,,,\n"}, Status.MISSING, "ConfigMap kairay-prices in kairay-system, prices.csv:2"),
        ({"prices": TWICE}, Status.MISSING, "prices.csv:3: Standard_ND96asr_A100_v4 has a price in line 2 already"),
        ({"prices": Unseen(why="configmaps is forbidden")}, Status.WARNING, "not seen: configmaps is forbidden"),
        ({"named": "/data/mine.csv"}, Status.WARNING, "the controller's pod alone"),
        ({"named": "", "prices": OWN}, Status.WARNING, f"set KAIRAY_PRICES={MOUNTED}"),
    ],
)  # fmt: skip
def test_doctor_says_why_a_file_does_not_hold(changes: dict[str, Any], status: Status, said: str) -> None:
    finding = found(**changes)
    assert finding.status is status
    assert said in finding.sentence
    seen = whole(settings={VARIABLE: changes.get("named", str(MOUNTED))}, prices=changes.get("prices"))
    assert skus_for_plan(seen) is load_skus()
