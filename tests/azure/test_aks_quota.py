"""What the provider knows of quota before it asks for a machine; what it cannot know stands in nobody's way."""

from __future__ import annotations

import asyncio

import pytest

from aks_scenario import A100, FAMILY, H100, provider_of, run
from kairay.nodes.aks import AksProvider
from kairay.nodes.interface import Offer, Quota
from simulator import Fault, Simulator

ON_DEMAND, SPOT, OTHER = (
    Offer(instance_type=A100),
    Offer(instance_type=A100, spot=True),
    Offer(instance_type=H100),
)


def quota(azure: Simulator, *offers: Offer) -> dict[Offer, Quota]:
    return dict(run(azure, lambda provider: provider.quota(offers)))


def test_a_size_has_what_its_family_has_left(azure: Simulator) -> None:
    azure.cloud.quota.limits[FAMILY] = 100
    azure.cloud.quota.others[FAMILY] = 50
    found = quota(azure, ON_DEMAND)[ON_DEMAND]
    assert found == Quota(name=f"{FAMILY} vCPUs", used=50, limit=100, family=FAMILY, per_node=24)
    assert found.nodes == 2


def test_machines_of_the_cluster_count(azure: Simulator) -> None:
    azure.cloud.quota.limits[FAMILY] = 100
    azure.cloud.add_foreign("theirs", {"vmSize": A100, "count": 3})
    assert quota(azure, ON_DEMAND)[ON_DEMAND].nodes == 1


def test_a_region_with_less_left_than_the_family_decides(azure: Simulator) -> None:
    azure.cloud.quota.limits |= {FAMILY: 1000, "cores": 40}
    found = quota(azure, ON_DEMAND)[ON_DEMAND]
    assert (found.name, found.nodes) == ("Total Regional vCPUs", 1)


def test_spot_machines_have_a_quota_of_their_own(azure: Simulator) -> None:
    azure.cloud.quota.limits |= {FAMILY: 0, "lowPriorityCores": 48}
    found = quota(azure, ON_DEMAND, SPOT)
    assert (found[SPOT].name, found[SPOT].nodes, found[ON_DEMAND].nodes) == (
        "Total Regional Spot vCPUs",
        2,
        0,
    )


def test_a_size_that_the_region_does_not_sell_is_said(azure: Simulator) -> None:
    azure.cloud.restricted[H100] = "NotAvailableForSubscription"
    found = quota(azure, OTHER, ON_DEMAND)
    assert (found[OTHER].restriction, found[OTHER].nodes) == ("NotAvailableForSubscription", 0)
    assert found[ON_DEMAND].restriction is None


def test_a_size_that_nobody_knows_is_unknown(azure: Simulator) -> None:
    assert quota(azure, Offer(instance_type="Standard_Nonsense")) == {}


def test_lists_are_asked_once_in_ten_minutes(azure: Simulator) -> None:
    async def scenario(provider: AksProvider) -> None:
        for _ in range(5):
            await provider.quota([ON_DEMAND])
            azure.advance(119)
        assert azure.arm.calls == {"GET cluster": 1, "GET usages": 1, "GET skus": 1}
        azure.advance(10)
        azure.cloud.quota.limits[FAMILY] = 24
        assert (await provider.quota([ON_DEMAND]))[ON_DEMAND].nodes == 1

    run(azure, scenario)
    assert azure.arm.calls == {"GET cluster": 1, "GET usages": 2, "GET skus": 2}


def test_while_nobody_waits_nothing_is_asked_so_that_what_has_gone_is_not_counted_later(
    azure: Simulator,
) -> None:
    azure.cloud.quota.limits[FAMILY] = 24

    async def scenario(provider: AksProvider) -> None:
        azure.cloud.quota.others[FAMILY] = 24
        assert await provider.quota([]) == {}
        azure.cloud.quota.others[FAMILY] = 0
        assert (await provider.quota([ON_DEMAND]))[ON_DEMAND].nodes == 1

    run(azure, scenario)
    assert azure.arm.calls["GET usages"] == 1


@pytest.mark.parametrize("call", ["GET usages", "GET cluster"])
def test_what_may_not_be_asked_is_unknown_and_not_asked_at_every_pass(azure: Simulator, call: str) -> None:
    azure.cloud.faults.append(Fault(code="AuthorizationFailed", status=403, call=call))

    async def scenario(provider: AksProvider) -> None:
        assert await provider.quota([ON_DEMAND]) == {}
        assert await provider.quota([ON_DEMAND]) == {}

    run(azure, scenario)
    assert azure.arm.calls[call] == 1


def test_without_the_list_of_sizes_the_shipped_table_names_the_family(azure: Simulator) -> None:
    azure.cloud.quota.limits[FAMILY] = 48
    azure.cloud.faults.append(Fault(code="AuthorizationFailed", status=403, call="GET skus"))
    assert quota(azure, ON_DEMAND)[ON_DEMAND].nodes == 2


def test_a_known_location_needs_no_look_at_the_cluster(azure: Simulator) -> None:
    async def inside() -> None:
        async with provider_of(azure, location="eastus") as provider:
            await provider.quota([ON_DEMAND])

    asyncio.run(inside())
    assert azure.arm.calls == {"GET usages": 1, "GET skus": 1}
