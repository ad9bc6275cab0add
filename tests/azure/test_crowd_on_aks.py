"""Two hundred Workspaces over twenty shapes of nodes: few calls, none refused, and nobody waits for ever."""

from __future__ import annotations

import random

import pytest

from crowd_stage import Crowd
from simulator import Cloud, Simulator

HOUR = 3600.0
ALL = range(200)
MOST_WAIT, MOST_WAIT_IN_WAVES = 200.0, 600.0
"""Virtual seconds: a machine's GPUs are there 180 s after the call for it, which may have to wait until its pool has
been made (240 s), has grown (180 s) or has lost machines (60 s)."""


@pytest.fixture
def azure() -> Simulator:
    """With quota for all, and unchecked: what is said to Azure is checked elsewhere, once for each kind of call."""
    simulator = Simulator(Cloud())
    simulator.arm.checks = False
    simulator.cloud.quota.ample = 10**6
    return simulator


def test_ten_workspaces_applied_together_are_one_write(azure: Simulator) -> None:
    with azure:
        crowd = Crowd(azure, 200)
        crowd.need(range(0, 200, 20))
        crowd.play(lambda: len(crowd.waited) == 10, within=MOST_WAIT)
        assert len({group.name for group in crowd.groups}) == 20
        (pool,) = [pool for name, pool in azure.cloud.pools.items() if name != "system"]
        assert (crowd.calls["PUT pool"], len(pool.machines)) == (1, 10)


def test_ten_workspaces_applied_over_two_seconds_are_one_write(azure: Simulator) -> None:
    with azure:
        crowd = Crowd(azure, 200)
        steps = [(0.2 * each, lambda each=each: crowd.need([20 * each])) for each in range(10)]
        crowd.play(lambda: len(crowd.waited) == 10, within=MOST_WAIT, then=steps)
        assert crowd.calls["PUT pool"] == 1


def test_two_hundred_at_once_are_twenty_writes_and_all_goes_when_they_end(azure: Simulator) -> None:
    with azure:
        crowd = Crowd(azure)
        crowd.need(ALL)
        crowd.play(lambda: len(crowd.waited) == 200, within=MOST_WAIT)
        assert crowd.calls["PUT pool"] == 20
        crowd.end(ALL)
        crowd.play(lambda: crowd.machines == 0, within=HOUR)
        assert crowd.calls["POST deleteMachines"] == 20
        crowd.play(lambda: list(azure.cloud.pools) == ["system"], within=2 * HOUR)
        assert crowd.calls["DELETE pool"] == 20
        assert crowd.refused() == []


def test_waves_of_work_are_never_throttled_and_nobody_starves(azure: Simulator) -> None:
    """Each Workspace's pod comes and goes at a moment of its own, some when their pool is being changed."""
    with azure:
        crowd, chance = Crowd(azure), random.Random(1)
        steps = []
        for number in ALL:
            comes = chance.choice((0.0, 600.0, 1200.0)) + chance.uniform(0, 180)
            steps.append((comes, lambda number=number: crowd.need([number])))
            steps.append((comes + chance.uniform(900, 1500), lambda number=number: crowd.end([number])))
        crowd.play(lambda: crowd.machines == 0, within=3 * HOUR, then=steps)
        crowd.play(lambda: list(azure.cloud.pools) == ["system"], within=2 * HOUR)
        assert crowd.refused() == []
        assert len(crowd.waited) == 200
        assert max(crowd.waited.values()) <= MOST_WAIT_IN_WAVES
        assert crowd.calls["PUT pool"] < 200


def test_something_that_changes_ten_times_a_second_does_not_lead_to_throttled_calls(azure: Simulator) -> None:
    with azure:
        crowd = Crowd(azure, 20)
        steps = [(0.1 * each, lambda each=each: crowd.need([each % 20])) for each in range(0, 2000, 2)]
        steps += [(0.1 * each, lambda each=each: crowd.end([(each - 1) % 20])) for each in range(1, 2000, 2)]
        crowd.play(lambda: crowd.machines == 0, within=3 * HOUR, then=steps)
        assert crowd.refused() == []
