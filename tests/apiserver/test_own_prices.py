"""The operator's prices: a real API server, the controller as a process, a limit that only they keep to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bare import BareApiServer, eventually
from kairay.kube.objects import RAY_SERVICE, WORKSPACE
from rights import TEAM, api_server_with_rights, controller

pytestmark = pytest.mark.cluster

SIZE = "Standard_NC24ads_A100_v4"


@pytest.fixture
def server() -> Iterator[BareApiServer]:
    with api_server_with_rights() as found:
        yield found


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
