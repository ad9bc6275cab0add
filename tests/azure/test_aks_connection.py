"""The connection to Azure, with its real SDK against the simulator: pages, throttling, addresses and logins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.core.pipeline.policies import SansIOHTTPPolicy

from aks_scenario import H100, made, ours, provider_of, refused, run, settings, spec
from kairay.errors import HostError
from kairay.nodes.aks import AksProvider
from kairay.nodes.interface import RefusalKind
from simulator import Fault, Simulator


def test_a_long_list_is_read_page_by_page(azure: Simulator) -> None:
    azure.arm.page = 3
    for number in range(7):
        azure.cloud.add_foreign(f"other{number}", {"vmSize": H100, "count": 0})
    assert len(run(azure, AksProvider.pools)) == 8
    assert azure.arm.calls == {"GET pools": 3}


def test_a_throttled_write_is_tried_once_and_says_when_to_try_again(azure: Simulator) -> None:
    made(azure)
    azure.arm.buckets.limits["PUT pool"] = (1.0, 1 / 600)

    async def scale(provider: AksProvider) -> None:
        pool = await ours(provider)
        await provider.scale(pool, pool.count + 1)

    run(azure, scale)
    azure.advance(180)
    refusal = refused(azure, scale)
    assert (refusal.kind, refusal.retry_after) == (RefusalKind.THROTTLED, 600 - 180)
    assert azure.arm.calls["PUT pool"] == 2
    azure.advance(refusal.retry_after)
    run(azure, scale)


def test_retry_after_is_honoured_to_the_second(azure: Simulator) -> None:
    azure.cloud.faults.append(
        Fault(code="TooManyRequests", status=429, retry_after=17, call="GET pools", times=1)
    )
    assert refused(azure, AksProvider.pools).retry_after == 17
    assert azure.arm.calls == {"GET pools": 1}


def test_an_unregistered_subscription_is_not_registered_by_surprise(azure: Simulator) -> None:
    text = "The subscription is not registered to use namespace 'Microsoft.Compute'. See https://aka.ms/rps-not-found"
    azure.cloud.faults.append(Fault(code="MissingSubscriptionRegistration", status=409, message=text))
    refusal = refused(azure, lambda provider: provider.ensure(spec(), 1))
    assert "az provider register -n Microsoft.Compute" in refusal.message
    assert azure.arm.calls == {"PUT pool": 1}


def test_no_answer_at_all_is_a_provider_that_cannot_be_reached(azure: Simulator) -> None:
    refusal = refused(azure, AksProvider.pools, endpoint="http://127.0.0.1:9")
    assert (refusal.kind, refusal.code) == (RefusalKind.UNAVAILABLE, "NoAnswer")
    assert refusal.retry_after > 0


def test_a_cluster_that_is_not_there_names_the_settings(azure: Simulator) -> None:
    refusal = refused(azure, AksProvider.pools, cluster="gone")
    assert refusal.kind is RefusalKind.INVALID
    assert "KAIRAY_AKS_CLUSTER" in refusal.message


def test_no_token_goes_to_a_plain_address(azure: Simulator) -> None:
    run(azure, AksProvider.pools)
    assert [entry["authorized"] for entry in azure.arm.log] == [False]


def test_without_a_login_an_https_endpoint_is_not_asked(azure: Simulator) -> None:
    with pytest.raises(HostError, match="not asked without a login"):
        provider_of(azure, endpoint="https://management.azure.com")


def test_another_authentication_can_stand_in(azure: Simulator) -> None:
    class Key(SansIOHTTPPolicy[Any, Any]):
        def on_request(self, request: Any) -> None:
            request.http_request.headers["Authorization"] = "Bearer local"

    async def inside() -> None:
        async with AksProvider(settings(azure), None, skus={}, authentication=Key()) as provider:
            await provider.pools()

    asyncio.run(inside())
    assert [entry["authorized"] for entry in azure.arm.log] == [True]
