"""The operator's prices: a real API server, the controller as a process, a limit that only they keep to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bare import BareApiServer, NotBuiltError, bare_api_server, eventually
from kairay.crd.install import text_of
from kairay.kube.objects import RAY_SERVICE, WORKSPACE
from rights import NAMESPACE, controller, give

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
TEAM, SIZE = "team", "Standard_NC24ads_A100_v4"


@pytest.fixture
def server() -> Iterator[BareApiServer]:
    try:
        with bare_api_server() as found:
            found.install_kuberay_crds()
            found.api.apply_all(text_of("kuberay/install/crd.yaml"))
            found.wait_for_crds()
            for name in (NAMESPACE, TEAM):
                found.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            give(found, yaml.safe_load_all((ROOT / "kuberay/install/rbac.yaml").read_text("utf-8")))
            yield found
    except NotBuiltError as error:
        pytest.skip(str(error))


def test_a_limit_that_refuses_the_shipped_price_takes_the_operators_and_what_it_took_is_followed_without(
    server: BareApiServer, tmp_path: Path
) -> None:
    server.api.apply(workspace(), TEAM)
    with controller(server, tmp_path):
        eventually("it is refused", lambda: "is over resource.maxHourlyCostUSD 3" in message(server))
        assert server.api.find(RAY_SERVICE.path(TEAM, "chat")) is None
    file = tmp_path / "prices.csv"
    file.write_text(f"name,usd_per_hour,price_region,price_as_of\n{SIZE},2.10,westeurope,2026-11-20\n")
    with controller(server, tmp_path, KAIRAY_PRICES=str(file)):
        eventually("it is served", lambda: server.api.find(RAY_SERVICE.path(TEAM, "chat")))
        plan = eventually("the plan is told", lambda: status(server).get("plan"))
    assert (plan["hourlyCostUSD"], plan["priceRegion"], plan["priceAsOf"]) == (
        2.1,
        "westeurope",
        "2026-11-20",
    )
    made = server.api.get(RAY_SERVICE.path(TEAM, "chat"))
    with controller(server, tmp_path):
        eventually("it is followed", lambda: "planned anew it would be refused: " in message(server))
    assert server.api.get(RAY_SERVICE.path(TEAM, "chat")) == made


def workspace() -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "chat"},
        "resource": {
            "instanceType": SIZE, "labelSelector": {"matchLabels": {"app": "gpu"}}, "maxHourlyCostUSD": 3,
        },
        "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
    }  # fmt: skip


def message(server: BareApiServer) -> str:
    return str(status(server).get("message", ""))


def status(server: BareApiServer) -> dict[str, Any]:
    found: dict[str, Any] = server.api.get(WORKSPACE.path(TEAM, "chat")).get("status") or {}
    return found
