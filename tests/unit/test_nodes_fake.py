"""The cloud in memory keeps the contract that providers keep."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kairay.nodes.fake import Delays, FakeProvider
from kairay.nodes.interface import (
    GroupNode,
    Offer,
    Pool,
    PoolSpec,
    PoolState,
    Quota,
    Refusal,
    RefusalKind,
    RefusedError,
)
from node_world import START, done, group_of

A100 = Offer(instance_type="Standard_NC24ads_A100_v4")
SPEC = PoolSpec(name="kwpool", group=group_of(A100, gpus=2), offer=A100)
DELAYS = Delays(pool=100, join=60, gpus=30, removal=20)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def skip(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> FakeProvider:
    return FakeProvider(clock, delays=DELAYS)


def pool_of(provider: FakeProvider) -> Pool:
    (pool,) = done(provider.pools())
    return pool


def refused(work: object) -> RefusalKind:
    with pytest.raises(RefusedError) as caught:
        done(work)  # type: ignore[arg-type]  # a coroutine
    return caught.value.refusal.kind


def test_a_pool_is_busy_until_its_machines_are_there(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 2))
    assert (pool_of(provider).count, pool_of(provider).state) == (2, PoolState.BUSY)
    assert pool_of(provider).phase == "Creating"
    clock.skip(100)
    assert pool_of(provider).state is PoolState.READY


def test_machines_join_later_and_get_their_gpus_still_later(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 2))
    assert provider.nodes() == ()
    assert sum(provider.machines().values()) == 2
    clock.skip(60)
    assert [node.gpus for node in provider.nodes()] == [0, 0]
    clock.skip(30)
    assert [node.gpus for node in provider.nodes()] == [2, 2]


def test_whoever_wants_to_know_is_told_once_of_every_node_that_joins(clock: Clock) -> None:
    told: list[GroupNode] = []
    provider = FakeProvider(clock, delays=DELAYS, joins=told.append)
    done(provider.ensure(SPEC, 2))
    for _ in range(5):
        clock.skip(30)
        provider.advance()
    assert [node.name for node in told] == ["kwpool-000000", "kwpool-000001"]


def test_the_next_event_is_the_next_thing_that_happens(clock: Clock, provider: FakeProvider) -> None:
    assert provider.next_event() is None
    done(provider.ensure(SPEC, 1))
    times = []
    while (when := provider.next_event()) is not None:
        times.append((when - START).total_seconds())
        clock.now = when
        provider.advance()
    assert times == [60, 90, 100]


def test_a_pool_that_is_there_already_is_a_conflict(provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 1))
    assert refused(provider.ensure(SPEC, 1)) is RefusalKind.CONFLICT


def test_a_busy_pool_is_not_written(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 1))
    assert refused(provider.scale(pool_of(provider), 2)) is RefusalKind.BUSY
    clock.skip(100)
    done(provider.scale(pool_of(provider), 2))


def test_a_pool_that_was_changed_since_it_was_read_is_a_conflict(
    clock: Clock, provider: FakeProvider
) -> None:
    done(provider.ensure(SPEC, 1))
    clock.skip(100)
    read = pool_of(provider)
    provider.change("kwpool", count=3)
    assert refused(provider.scale(read, 2)) is RefusalKind.CONFLICT


def test_a_count_is_never_lowered_by_scaling(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 2))
    clock.skip(100)
    assert refused(provider.scale(pool_of(provider), 1)) is RefusalKind.INVALID


def test_where_an_autoscaler_decides_scaling_raises_the_upper_bound_only(
    clock: Clock, provider: FakeProvider
) -> None:
    done(provider.ensure(SPEC, 1))
    clock.skip(100)
    provider.change("kwpool", bounds=(0, 2))
    done(provider.scale(pool_of(provider), 4))
    assert (pool_of(provider).bounds, pool_of(provider).count) == ((0, 4), 1)


def test_exactly_the_named_nodes_go_and_the_count_with_them(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 3))
    clock.skip(100)
    done(provider.remove(pool_of(provider), ["kwpool-000001", "gone-already"]))
    assert pool_of(provider).count == 2
    clock.skip(20)
    assert [node.name for node in provider.nodes()] == ["kwpool-000000", "kwpool-000002"]


def test_deleting_what_is_absent_is_fine(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 0))
    clock.skip(100)
    read = pool_of(provider)
    done(provider.delete(read))
    clock.skip(20)
    assert done(provider.pools()) == ()
    done(provider.delete(read))
    assert refused(provider.scale(read, 1)) is RefusalKind.GONE


def test_somebody_else_s_pool_is_not_written(provider: FakeProvider) -> None:
    other = Pool(name="system", group=None, offer=A100, count=1, state=PoolState.READY, phase="Succeeded")
    provider.put_foreign(other)
    assert refused(provider.scale(other, 2)) is RefusalKind.DENIED


def test_a_refusal_can_be_ordered_for_one_call_and_offer(provider: FakeProvider) -> None:
    refusal = Refusal(kind=RefusalKind.POLICY, code="RequestDisallowedByPolicy", message="no")
    provider.refuse_next("ensure", refusal, offer=Offer(instance_type="another"))
    done(provider.ensure(SPEC, 1))
    provider.refuse_next("pools", refusal)
    assert refused(provider.pools()) is RefusalKind.POLICY
    assert len(done(provider.pools())) == 1


def test_an_operation_can_fail_after_some_machines_came(clock: Clock, provider: FakeProvider) -> None:
    refusal = Refusal(kind=RefusalKind.CAPACITY, code="AllocationFailed", message="no more")
    provider.fail_next(A100, refusal, come=1)
    done(provider.ensure(SPEC, 3))
    clock.skip(100)
    failed = pool_of(provider)
    assert (failed.state, failed.refusal, failed.count) == (PoolState.FAILED, refusal, 3)
    assert len(provider.nodes()) == 1
    done(provider.scale(failed, 3))
    assert pool_of(provider).refusal is None


def test_capacity_limits_what_comes(clock: Clock, provider: FakeProvider) -> None:
    provider.capacity[A100] = 1
    done(provider.ensure(SPEC, 2))
    clock.skip(100)
    failed = pool_of(provider)
    assert failed.refusal is not None
    assert failed.refusal.kind is RefusalKind.CAPACITY
    assert len(provider.nodes()) == 1


def test_evicted_machines_go_at_once_and_the_count_stays(clock: Clock, provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 2))
    clock.skip(100)
    provider.evict("kwpool-000000")
    assert len(provider.nodes()) == 1
    assert pool_of(provider).count == 2


def test_only_quotas_that_are_known_are_told(provider: FakeProvider) -> None:
    quota = Quota(name="A100", used=0, limit=48, per_node=24)
    provider.quotas[A100] = quota
    assert done(provider.quota([A100, Offer(instance_type="another")])) == {A100: quota}
    assert quota.nodes == 2


def test_calls_are_counted(provider: FakeProvider) -> None:
    done(provider.ensure(SPEC, 1))
    done(provider.pools())
    assert (provider.calls["ensure"], provider.calls["pools"], provider.calls["scale"]) == (1, 1, 0)
