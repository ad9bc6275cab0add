"""A week of tuning jobs and services on GPU nodes: what is paid for, what is used, and how long pods wait.

`make simulate-nodes`. Kairay's own decisions (kairay.nodes.scaling) run against the cloud in memory
(kairay.nodes.fake) on a clock that jumps from event to event. They are compared with a node pool whose autoscaler waits
ten minutes before it removes an idle node, and with nodes that belong to one Workspace while it exists. All of them get
the same work and the same machines' start times, drawn from one seed.

Assumptions, all of them in `Week`:
* A machine of a GPU size takes 3 to 10 minutes until its GPUs can be used (AKS users report 5 to 11 minutes for A100
  sizes). A removed one is paid for one more minute.
* Jobs come as a Poisson process, most of them in working hours, and last as a log-normal law says: many short ones, few
  very long ones, on one GPU mostly. That is the shape of the public traces of GPU clusters (Philly 2019, Helios 2021);
  the values are ours, since a tuning job is shorter than a training from nothing.
* Services scale to zero ten minutes after their last request. Some follow the working day, some are used now and then.
* Prices are those of presets/skus/azure.csv, on demand.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "nodes"))

from kairay.nodes.actions import ScalingSettings  # noqa: E402  after its folder is on the path
from kairay.nodes.fake import Delays  # noqa: E402
from kairay.nodes.groups import Sharing, group_name, tenant_of  # noqa: E402
from kairay.nodes.interface import NodeGroup, Offer  # noqa: E402
from kairay.skus import load_skus  # noqa: E402
from node_world import START, World  # noqa: E402

MONDAY = datetime(2026, 11, 23, tzinfo=START.tzinfo)
HOUR = 3600.0
DAY = 24 * HOUR
SIZES = {
    1: "Standard_NC24ads_A100_v4",
    2: "Standard_NC48ads_A100_v4",
    4: "Standard_NC96ads_A100_v4",
    8: "Standard_ND96amsr_A100_v4",
}
"""One worker pod fills a node of its size, as the planner chooses it; services of one GPU share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """What happens, as laws."""

    seed: int = 7
    days: int = 7
    namespaces: int = 6
    jobs_per_weekday: float = 60
    weekend_share: float = 0.2
    gpus: tuple[tuple[int, float], ...] = ((1, 0.75), (2, 0.12), (4, 0.10), (8, 0.03))
    job_median_minutes: float = 25
    job_sigma: float = 1.3
    day_services: int = 6
    """Follow the working day, with one replica at its edges and `peak` at noon."""
    peak: int = 4
    session_services: int = 12
    sessions_per_day: float = 5
    session_median_minutes: float = 12
    serving_idle_minutes: float = 10
    start_minutes: tuple[float, float] = (3, 10)
    removal_minutes: float = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A pod that is needed from `start` on: for `seconds` once it runs (a job), or until `end` (a replica)."""

    start: float
    namespace: str
    workspace: str
    gpus: int
    seconds: float | None = None
    end: float | None = None


@dataclass(slots=True)
class Result:
    """What one way of getting nodes came to."""

    name: str
    paid: float = 0.0
    """GPU-hours."""
    used: float = 0.0
    dollars: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Seconds from a pod's start to its place."""
    machines: int = 0
    writes: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=Week().seed)
    parser.add_argument("--days", type=int, default=Week().days)
    parser.add_argument(
        "--jobs", type=float, default=Week().jobs_per_weekday, help="tuning jobs of a weekday"
    )
    parser.add_argument("--idle", type=float, default=120, help="seconds that Kairay keeps an idle node")
    options = parser.parse_args()
    week = replace(Week(), seed=options.seed, days=options.days, jobs_per_weekday=options.jobs)
    work = sorted(draw_work(week), key=lambda each: (each.start, each.workspace))
    began = time.monotonic()
    results = [
        simulate("Kairay, shared in a namespace", week, work, idle=options.idle),
        simulate("Kairay, shared in the cluster", week, work, idle=options.idle, sharing=Sharing.CLUSTER),
        simulate("Kairay, a Workspace's own pools", week, work, idle=options.idle, sharing=Sharing.WORKSPACE),
        simulate("pool autoscaler, 10 min idle", week, work, idle=600),
        own_nodes("a node per Workspace, deleted at once", week, work, until=lambda end: end),
        own_nodes("a node per Workspace, kept until the evening", week, work, until=evening),
        own_nodes("a node per Workspace, kept", week, work, until=lambda end: week.days * DAY),
    ]
    report(week, work, results, time.monotonic() - began)


# -- what happens ------------------------------------------------------------------------------------------------------


def draw_work(week: Week) -> Iterator[Work]:
    """A week's pods; the same for the same seed."""
    chance = random.Random(week.seed)
    yield from _jobs(week, chance)
    for number in range(week.day_services):
        yield from _daily(week, number)
    for number in range(week.session_services):
        yield from _sessions(week, chance, number)


def _jobs(week: Week, chance: random.Random) -> Iterator[Work]:
    sizes, shares = zip(*week.gpus, strict=True)
    most = week.jobs_per_weekday / (9 * HOUR)
    at, number = 0.0, 0
    while (at := at + chance.expovariate(most)) < week.days * DAY:
        if chance.random() > _busyness(at) * (1 if _weekday(at) else week.weekend_share):
            continue
        number += 1
        minutes = week.job_median_minutes * math.exp(chance.gauss(0, week.job_sigma))
        yield Work(
            start=at, namespace=f"team-{chance.randrange(week.namespaces)}", workspace=f"tune-{number}",
            gpus=chance.choices(sizes, shares)[0], seconds=60 * min(max(minutes, 3), 24 * 60),
        )  # fmt: skip


def _daily(week: Week, number: int) -> Iterator[Work]:
    """Replicas of a service that follows the working day: replica n runs while the load needs more than n."""
    team, name = f"team-{number % week.namespaces}", f"serve-day-{number}"
    for day in range(week.days):
        peak = week.peak if _weekday(day * DAY) else 1
        for replica in range(peak):
            steps = [step for step in range(24 * 12) if peak * _busyness(step * 300.0) > replica + 0.05]
            if steps:
                start, end = day * DAY + steps[0] * 300.0, day * DAY + steps[-1] * 300.0
                idle = 60 * week.serving_idle_minutes
                yield Work(
                    start=start + 17.0 * number, namespace=team, workspace=name, gpus=1, end=end + idle
                )


def _sessions(week: Week, chance: random.Random, number: int) -> Iterator[Work]:
    """A service that somebody uses now and then; sessions closer than the idle time are one."""
    team, name = f"team-{number % week.namespaces}", f"serve-now-{number}"
    at, end = 0.0, -1.0
    start = 0.0
    while (at := at + chance.expovariate(week.sessions_per_day / (9 * HOUR))) < week.days * DAY:
        if chance.random() > _busyness(at) * (1 if _weekday(at) else week.weekend_share):
            continue
        length = 60 * week.session_median_minutes * math.exp(chance.gauss(0, 0.7))
        if at > end and end > 0:
            yield Work(start=start, namespace=team, workspace=name, gpus=1, end=end)
        start = at if at > end else start
        end = max(end, at + length + 60 * week.serving_idle_minutes)
    if end > 0:
        yield Work(start=start, namespace=team, workspace=name, gpus=1, end=min(end, week.days * DAY))


def _busyness(at: float) -> float:
    """0.06 at night, 1 from ten to four, in between on slopes."""
    hour = at % DAY / HOUR
    return max(0.06, min(1.0, (hour - 7) / 3, (20 - hour) / 4))


def _weekday(at: float) -> bool:
    return at // DAY % 7 < 5


def evening(end: float) -> float:
    """People clean up at seven in the evening of the day on which the work ended, or of the next."""
    today = end // DAY * DAY + 19 * HOUR
    return today if end <= today else today + DAY


# -- Kairay, and a pool autoscaler -----------------------------------------------------------------------------------


def simulate(
    name: str, week: Week, work: list[Work], *, idle: float, sharing: Sharing = Sharing.NAMESPACE
) -> Result:
    """Drive decide_nodes through the week."""
    chance = random.Random(week.seed + 1)
    world = World(settings=ScalingSettings(idle_seconds=idle, busy_seconds=600), careful=False,
                  delays=lambda: _delays(week, chance))  # fmt: skip
    world.now = MONDAY
    _Run(world, week, work, sharing).play(result := Result(name))
    return result


class _Run:
    """One simulation: events in a heap, passes whenever one happens or scaling asks for it."""

    def __init__(self, world: World, week: Week, work: list[Work], sharing: Sharing) -> None:
        self.world, self.week, self.work, self.sharing = world, week, work, sharing
        self.prices = _prices()
        self.groups: dict[str, NodeGroup] = {}
        self.ends: list[tuple[float, str]] = []
        self.begun: dict[str, tuple[Work, float]] = {}
        """Pods that wait, with their start."""

    def play(self, result: Result) -> None:
        """Until the week is over; what still runs then is counted until then."""
        world, end, index = self.world, self.week.days * DAY, 0
        while (at := self._next(index)) < end:
            self._pay(result, at)
            world.now = MONDAY + timedelta(seconds=at)
            while index < len(self.work) and self.work[index].start <= at:
                self._begin(self.work[index])
                index += 1
            while self.ends and self.ends[0][0] <= at:
                world.pods.pop(heapq.heappop(self.ends)[1], None)
            wanted = {pod.group for pod in world.pods.values()}
            world.groups = {name: group for name, group in self.groups.items() if name in wanted}
            world.look()
            world.schedule()
            self._place(result, at)
        self._pay(result, end)
        result.writes = len(world.provider.log)
        result.machines = sum(world.provider.made.values())

    def _next(self, index: int) -> float:
        times = [self._seconds(when) for when in (self.world.provider.next_event(), self._again()) if when]
        times += [self.work[index].start] if index < len(self.work) else []
        times += [self.ends[0][0]] if self.ends else []
        return min(times, default=math.inf)

    def _again(self) -> datetime | None:
        last = self.world.last
        return last.again if last is not None and last.again and last.again > self.world.now else None

    def _seconds(self, when: datetime) -> float:
        return (when - MONDAY).total_seconds()

    def _begin(self, work: Work) -> None:
        offer = Offer(instance_type=SIZES[work.gpus])
        tenant = tenant_of(self.sharing, work.namespace, work.workspace)
        group = NodeGroup(
            name=group_name(tenant=tenant, primary=offer), offers=(offer,), tenant=tenant,
            gpus_per_node={offer.instance_type: work.gpus},
        )  # fmt: skip
        self.groups[group.name] = group
        (key,) = self.world.need(work.workspace, work.gpus, group=group, namespace=work.namespace)
        self.begun[key] = (work, work.start)

    def _place(self, result: Result, at: float) -> None:
        for key in [key for key in self.begun if key in self.world.pods and self.world.pods[key].node]:
            work, start = self.begun.pop(key)
            end = at + work.seconds if work.seconds is not None else max(at, work.end or at)
            result.waits.append(at - start)
            result.used += work.gpus * (min(end, self.week.days * DAY) - at) / HOUR
            heapq.heappush(self.ends, (end, key))
        for key in [key for key, (work, _) in self.begun.items() if work.end is not None and work.end <= at]:
            del self.begun[key]
            self.world.pods.pop(key, None)

    def _pay(self, result: Result, until: float) -> None:
        hours = (until - self._seconds(self.world.now)) / HOUR
        for offer, count in self.world.provider.machines().items():
            result.paid += count * _gpus(offer) * hours
            result.dollars += count * self.prices[offer] * hours


# -- nodes of one Workspace ------------------------------------------------------------------------------------------


def own_nodes(name: str, week: Week, work: list[Work], *, until: Callable[[float], float]) -> Result:
    """Every Workspace has its own nodes from its beginning until it is deleted.

    A service has as many as its peak needs for the whole week, since the way that is compared has no replicas that
    come and go; a job's node is paid from its start until `until(end of the job)`.
    """
    result, chance, prices, end = Result(name), random.Random(week.seed + 1), _prices(), week.days * DAY
    for each in work:
        if each.seconds is None:
            result.used += each.gpus * (min(each.end or end, end) - each.start) / HOUR
            continue
        wait = _ready(_delays(week, chance))
        done = each.start + wait + each.seconds
        hours = (min(max(until(done), done) + 60 * week.removal_minutes, end) - each.start) / HOUR
        result.waits.append(wait)
        result.used += each.gpus * max(0.0, min(done, end) - each.start - wait) / HOUR
        result.machines += 1
        _bill(result, prices, each.gpus, hours)
    for replicas in _peaks(work).values():
        result.machines += replicas
        _bill(result, prices, 1, replicas * end / HOUR)
    return result


def _bill(result: Result, prices: dict[Offer, float], gpus: int, hours: float) -> None:
    result.paid += gpus * hours
    result.dollars += prices[Offer(instance_type=SIZES[gpus])] * hours


def _peaks(work: list[Work]) -> dict[str, int]:
    """Most replicas of every service at once."""
    peaks: dict[str, int] = {}
    for name in {each.workspace for each in work if each.end is not None}:
        times = [
            (t, step)
            for each in work
            if each.workspace == name
            for t, step in ((each.start, 1), (each.end or 0, -1))
        ]
        now = 0
        for _, step in sorted(times):
            now += step
            peaks[name] = max(peaks.get(name, 0), now)
    return peaks


# -- what both share -------------------------------------------------------------------------------------------------


def _delays(week: Week, chance: random.Random) -> Delays:
    start = 60 * chance.uniform(*week.start_minutes)
    return Delays(pool=0.8 * start, join=0.75 * start, gpus=0.25 * start, removal=60 * week.removal_minutes)


def _ready(delays: Delays) -> float:
    return delays.join + delays.gpus


def _gpus(offer: Offer) -> int:
    return next(count for count, name in SIZES.items() if name == offer.instance_type)


def _prices() -> dict[Offer, float]:
    skus = load_skus()
    return {Offer(instance_type=name): skus[name].usd_per_hour or 0.0 for name in SIZES.values()}


def report(week: Week, work: list[Work], results: list[Result], seconds: float) -> None:
    """The table, in Markdown."""
    jobs = [each for each in work if each.seconds is not None]
    print(
        f"Seed {week.seed}, {week.days} days: {len(jobs)} tuning jobs, {len(_peaks(work))} services with "
        f"{len(work) - len(jobs)} replicas started; simulated in {seconds:.0f} s.\n"
    )
    print(
        "| nodes | GPU-hours paid | of them used | $ | wait, median | wait, 95 % | no wait | machines | writes |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for each in results:
        waits = sorted(each.waits)
        late = waits[int(0.95 * (len(waits) - 1))] / 60
        warm = sum(wait < 5 for wait in waits) / len(waits)
        print(
            f"| {each.name} | {each.paid:,.0f} | {each.used / each.paid:.0%} | {each.dollars:,.0f} | "
            f"{statistics.median(waits) / 60:.1f} min | {late:.1f} min | {warm:.0%} | {each.machines} | "
            f"{each.writes or '–'} |"
        )


if __name__ == "__main__":
    main()
