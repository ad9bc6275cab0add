"""Whatever goes wrong and in whatever order, in the end every pod has its node and no machine is left over."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kairay.nodes.actions import CordonNode, UncordonNode
from kairay.nodes.fake import Delays
from kairay.nodes.interface import Offer, Pool, PoolState, Refusal, RefusalKind
from kairay.nodes.remembered import Remembered
from node_world import World, group_of

A100, H100, T4 = (
    Offer(instance_type=f"Standard_{name}") for name in ("NC24ads_A100_v4", "NC40ads_H100_v5", "NC4as_T4_v3")
)
SPOT = replace(A100, spot=True)
KINDS = [kind for kind in RefusalKind if kind is not RefusalKind.AUTOSCALED]


class Chaos:
    """A world, and what may happen to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.groups = [
            group_of(SPOT, A100, H100, gpus=2),
            group_of(T4, A100, gpus=1, tenant="other"),
            group_of(H100, gpus=4, tenant="third"),
        ]
        self.world = World(*self.groups, delays=Delays(pool=200, join=180, gpus=40))
        self.foreign = Pool(
            name="system", group=None, offer=A100, count=2, state=PoolState.READY, phase="Succeeded"
        )
        self.world.provider.put_foreign(self.foreign)
        self.number = 0

    def happen(self) -> None:
        """One thing."""
        self.random.choice([
            self.work, self.work, self.work, self.work_ends, self.work_ends, self.refusal, self.failure,
            self.eviction, self.crash_before, self.crash_after, self.memory_lost, self.restart, self.pool_lost,
            self.trouble, self.capacity,
        ])()  # fmt: skip

    def work(self) -> None:
        self.number += 1
        group = self.random.choice(self.groups)
        most = max(group.gpus_per_node.values())
        gpus = [self.random.randint(1, most) for _ in range(self.random.randint(1, 4))]
        self.world.need(f"w{self.number}", *gpus, group=group)

    def work_ends(self) -> None:
        names = sorted({pod.workspace for pod in self.world.pods.values()})
        if names:
            self.world.end(self.random.choice(names))

    def refusal(self) -> None:
        call = self.random.choice(["ensure", "scale", "remove", "delete"])
        self.world.provider.refuse_next(call, self._refusal(), times=self.random.randint(1, 3))

    def failure(self) -> None:
        offer = self.random.choice([SPOT, A100, H100, T4])
        self.world.provider.fail_next(offer, self._refusal(), come=self.random.randint(0, 2))

    def eviction(self) -> None:
        spot = [
            node.name for node in self.world.nodes() if node.pool == self.world.pool(SPOT, self.groups[0])
        ]
        self.world.provider.evict(*self.random.sample(spot, min(len(spot), 2)))

    def crash_before(self) -> None:
        self.world.look(crash_before_actions=True)

    def crash_after(self) -> None:
        self.world.look(crash_after_actions=True)

    def memory_lost(self) -> None:
        self.world.memory = Remembered()

    def restart(self) -> None:
        self.world.memory = Remembered.from_json(self.world.memory.to_json())

    def pool_lost(self) -> None:
        names = [pool.name for pool in self.world.last_pools() if pool.group is not None]
        if names and self.random.random() < 0.3:
            self.world.provider.lose_pool(self.random.choice(names))

    def trouble(self) -> None:
        nodes = [node.name for node in self.world.nodes()]
        if nodes:
            self.world.trouble[self.random.choice(nodes)] = "a GPU is missing"

    def capacity(self) -> None:
        offer = self.random.choice([SPOT, A100, H100, T4])
        self.world.provider.capacity[offer] = self.random.randint(0, 4)

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.world.provider.capacity.clear()
        self.world.provider.calm()

    def _refusal(self) -> Refusal:
        kind = self.random.choice(KINDS)
        return Refusal(kind=kind, code=kind.value, message=f"{kind}", avoid_seconds=600, retry_after=30)


@pytest.mark.parametrize("seed", range(25))
def test_after_any_faults_pods_have_their_nodes_and_nothing_is_left_over(seed: int) -> None:
    chaos = Chaos(seed)
    world = chaos.world
    for _ in range(60):
        chaos.happen()
        world.pass_time(chaos.random.choice([0.5, 5, 60, 200]))
    chaos.calm()
    world.pass_time(2 * 3600)
    assert world.waiting() == [], (world.word(), world.last_pools())
    for name in {pod.workspace for pod in world.pods.values()}:
        world.end(name)
    world.pass_time(2 * 3600)
    assert sum(world.provider.machines().values()) == 0
    assert [pool for pool in world.last_pools() if pool.group is None] == [chaos.foreign]
    assert len(world.last_pools()) == 1


@pytest.mark.parametrize("seed", range(25))
def test_no_node_with_work_is_ever_removed_and_no_busy_pool_written(seed: int) -> None:
    chaos = Chaos(1000 + seed)
    world = chaos.world
    for _ in range(60):
        chaos.happen()
        world.pass_time(chaos.random.choice([0.5, 5, 60]))
    assert world.removed_at_work == []
    assert set(world.provider.mistakes) <= {RefusalKind.CONFLICT}
    opened = {action.node for action in world.did(UncordonNode)}
    assert opened <= {action.node for action in world.did(CordonNode)}
