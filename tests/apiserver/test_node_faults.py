"""Everything that may go wrong with GPU nodes, on a real API server and a simulated AKS.

Each time: the Workspace says what is wrong, the controller is restarted while it is, the work gets its node as soon as
it can, and when the work is done no machine and no pool is left that somebody pays for.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bare import BareApiServer
from node_stage import Stage, open_stage, play
from node_trials import HOUR, MINUTE, NODES_READY, TRIALS, Trial
from simulator import Cloud, Simulator, Timings

pytestmark = pytest.mark.cluster
QUICK = Timings(create=100, scale=100, delete=45, delete_machines=40, register=50, gpus=25)


@pytest.fixture(scope="module")
def kinds(server: BareApiServer) -> BareApiServer:
    """With Ray's kinds beside ours."""
    server.install_kuberay_crds()
    return server


@pytest.fixture
def azure() -> Iterator[Simulator]:
    """A cluster whose machines come in two minutes."""
    with Simulator(Cloud(timings=QUICK)) as simulator:
        yield simulator
        assert simulator.arm.violations == []


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_a_fault_is_said_and_outlived(kinds: BareApiServer, azure: Simulator, trial: Trial) -> None:
    place = f"nodes-{TRIALS.index(trial)}"

    async def scenario() -> None:
        async with open_stage(kinds, azure, place, dict(trial.resource)) as stage:
            await _suffer(stage, trial)
            await _recover(stage, trial)
            await _leave(stage, trial)
            assert "crashed" not in stage.log.getvalue()

    play(scenario())


@pytest.mark.parametrize("answered", [False, True], ids=["about to call", "answered"])
@pytest.mark.parametrize("call", ["ensure", "remove", "delete"])
def test_a_controller_that_is_killed_at_a_call_leaves_nothing_behind(
    kinds: BareApiServer, azure: Simulator, call: str, answered: bool
) -> None:
    async def scenario() -> None:
        async with open_stage(kinds, azure, f"killed-{call}-{answered}".lower(), {}) as stage:
            stage.need()
            if call == "ensure":
                await stage.die_at(call, answered=answered, within=MINUTE)
            await stage.until("ready", lambda: stage.word()[0] == NODES_READY, 5 * MINUTE)
            stage.end()
            if call != "ensure":
                await stage.die_at(call, answered=answered, within=2 * HOUR, apart=5.0)
            await stage.until("no machines", lambda: not stage.machines, 20 * MINUTE)
            await stage.until("no pools", lambda: not stage.pools, 2 * HOUR, apart=5 * MINUTE)
            assert stage.calls == {"PUT pool": 1, "POST deleteMachines": 1, "DELETE pool": 1}

    play(scenario())


async def _suffer(stage: Stage, trial: Trial) -> None:
    """Until the Workspace says what is wrong, and for a while afterwards with a controller of its own."""
    if trial.when == "before":
        trial.breaks(stage)
    stage.need()
    if trial.when != "before":
        await stage.until("asked", lambda: stage.calls["PUT pool"] > 0, MINUTE)
    if trial.when == "ready":
        await stage.until("ready", lambda: stage.word()[0] == NODES_READY, 5 * MINUTE)
    if trial.when != "before":
        trial.breaks(stage)
    await stage.restart()
    known = len(stage.said) - 1
    await stage.until(
        f"{trial.reason}: {trial.says}",
        lambda: any(reason == trial.reason and trial.says in words for reason, words in stage.said[known:]),
        trial.within,
    )
    await stage.restart()
    known = len(stage.said)
    await stage.go_on(trial.lasts)
    told = [reason for reason, _ in stage.said[known:]]
    assert "NodesOnDemand" not in told, f"what is wrong is not forgotten in between; {stage.told()}"


async def _recover(stage: Stage, trial: Trial) -> None:
    """The work gets its node."""
    trial.mends(stage)
    await stage.restart()
    if trial.size is None:
        await stage.go_on(20 * MINUTE)
        assert stage.word()[0] == trial.reason
    else:
        size = trial.size
        await stage.until(
            f"a node of {size}",
            lambda: stage.word()[0] == NODES_READY and size in stage.machines.values(),
            trial.arrives,
        )
    assert stage.calls["PUT pool"] <= trial.puts, stage.told()


async def _leave(stage: Stage, trial: Trial) -> None:
    """The work ends, and all that was made for it goes."""
    stage.end()
    trial.ends(stage)
    await stage.until("no machines", lambda: not stage.machines, HOUR)
    await stage.until("no pools", lambda: not stage.pools, 3 * HOUR, apart=5 * MINUTE)
    assert stage.calls["PUT pool"] <= trial.puts, stage.told()
    assert stage.calls["POST deleteMachines"] <= trial.removals, stage.told()
    assert stage.calls["DELETE pool"] <= trial.deletions, stage.told()
