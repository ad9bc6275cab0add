"""One leader at a time, whatever happens to it or to the API server; minutes pass at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kairay.controller.leader import Elector, LeadershipLostError
from kairay.errors import KairayError, TransientError
from kairay.kube.errors import ConflictError
from kairay.kube.fake import FakeCluster
from kairay.kube.objects import LEASE, Key, Manifest

Run = Callable[[Coroutine[Any, Any, Any]], Any]
DOWN = TransientError("down")


def now() -> float:
    return asyncio.get_running_loop().time()


def candidate(cluster: FakeCluster, name: str) -> Elector:
    return Elector(cluster=cluster, namespace="ns", identity=name, now=now)


def holder(cluster: FakeCluster) -> str:
    lease = cluster.find(LEASE, "ns", "kairay-controller")
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


async def lead(elector: Elector) -> asyncio.Task[None]:
    await elector.win()
    return asyncio.create_task(elector.keep())


def test_the_first_leads_for_hours_and_the_second_waits(skip_time: Run) -> None:
    async def scenario() -> None:
        cluster = FakeCluster()
        leading = await lead(candidate(cluster, "one"))
        waiting = asyncio.create_task(candidate(cluster, "two").win())
        await asyncio.sleep(3600)
        assert not leading.done()
        assert not waiting.done()
        assert holder(cluster) == "one"
        assert cluster.writes <= 3600 / 5 + 1
        leading.cancel()
        waiting.cancel()

    skip_time(scenario())


def test_a_leader_that_crashes_is_followed_within_twenty_seconds(skip_time: Run) -> None:
    async def scenario() -> float:
        cluster = FakeCluster()
        leading = await lead(candidate(cluster, "one"))
        waiting = asyncio.create_task(candidate(cluster, "two").win())
        await asyncio.sleep(61)
        leading.cancel()
        crashed = now()
        await waiting
        assert holder(cluster) == "two"
        return now() - crashed

    assert 10 <= skip_time(scenario()) <= 20


def test_a_leader_that_stops_is_followed_at_the_next_look(skip_time: Run) -> None:
    async def scenario() -> float:
        cluster = FakeCluster()
        one = candidate(cluster, "one")
        leading = await lead(one)
        waiting = asyncio.create_task(candidate(cluster, "two").win())
        await asyncio.sleep(61)
        leading.cancel()
        await one.release()
        stopped = now()
        await waiting
        return now() - stopped

    assert skip_time(scenario()) <= 2


def test_a_release_that_fails_is_no_error_and_another_ones_lease_is_left_alone(skip_time: Run) -> None:
    async def scenario() -> None:
        cluster = FakeCluster()
        one, two = candidate(cluster, "one"), candidate(cluster, "two")
        await one.win()
        await two.release()
        assert holder(cluster) == "one"
        cluster.fail_next("replace", LEASE, DOWN)
        await one.release()
        assert holder(cluster) == "one"

    skip_time(scenario())


def test_a_short_outage_costs_no_leadership(skip_time: Run) -> None:
    async def scenario() -> None:
        cluster = FakeCluster()
        leading = await lead(candidate(cluster, "one"))
        cluster.fail_next("get", LEASE, DOWN, times=2)
        await asyncio.sleep(60)
        assert not leading.done()
        leading.cancel()

    skip_time(scenario())


def test_a_leader_that_cannot_renew_ends_before_another_may_begin(skip_time: Run) -> None:
    async def scenario() -> float:
        cluster = FakeCluster()
        leading = await lead(candidate(cluster, "one"))
        cluster.fail_next("get", LEASE, DOWN, times=1000)
        with pytest.raises(LeadershipLostError, match="down"):
            await leading
        return now()

    assert skip_time(scenario()) == pytest.approx(12)


class HangingCluster(FakeCluster):
    """One whose reads give no answer, as behind a network that loses every packet."""

    hangs = False

    async def get(self, key: Key) -> Manifest | None:
        if self.hangs:
            await asyncio.sleep(60)
        return await super().get(key)


def test_an_api_server_that_gives_no_answer_does_not_keep_a_leader_in_office(skip_time: Run) -> None:
    async def scenario() -> float:
        cluster = HangingCluster()
        leading = await lead(candidate(cluster, "one"))
        cluster.hangs = True
        with pytest.raises(LeadershipLostError, match="no answer"):
            await leading
        return now()

    assert skip_time(scenario()) == pytest.approx(12)


def test_of_two_that_take_an_expired_lease_one_gets_it(skip_time: Run) -> None:
    async def scenario() -> int:
        cluster = FakeCluster()
        await candidate(cluster, "gone").win()
        taking = [asyncio.create_task(candidate(cluster, name).win()) for name in ("one", "two")]
        await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(5)
        for task in taking:
            task.cancel()
        return sum(task.done() for task in taking)

    assert skip_time(scenario()) == 1


def test_losing_a_race_is_not_winning(skip_time: Run) -> None:
    async def scenario() -> float:
        cluster = FakeCluster()
        cluster.fail_next("create", LEASE, ConflictError("another was first"))
        await candidate(cluster, "one").win()
        return now()

    assert skip_time(scenario()) == pytest.approx(2)


def test_a_candidate_without_the_right_to_leases_says_so(skip_time: Run) -> None:
    cluster = FakeCluster()
    cluster.fail_next("get", LEASE, KairayError("may not get leases", reason="Forbidden"))
    with pytest.raises(KairayError, match="may not get leases"):
        skip_time(candidate(cluster, "one").win())
