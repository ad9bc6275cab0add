"""The queue: each key once in line, one worker at a time, later and later after failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kairay.controller.queue import LONGEST_WAIT, WorkQueue

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def make() -> WorkQueue[str]:
    return WorkQueue(lambda: 0.5)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_key_that_is_in_line_is_not_added_again(skip_time: Run) -> None:
    async def scenario() -> None:
        queue = make()
        for key in ("a", "b", "a"):
            queue.add(key)
        assert len(queue) == 2
        assert [await queue.take(), await queue.take()] == ["a", "b"]

    skip_time(scenario())


def test_a_key_at_work_comes_once_more_after_it_and_never_beside_it(skip_time: Run) -> None:
    async def scenario() -> None:
        queue = make()
        queue.add("a")
        await queue.take()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.take() == "a"
        queue.done("a")
        assert len(queue) == 0

    skip_time(scenario())


def test_many_workers_never_hold_one_key_at_the_same_time(skip_time: Run) -> None:
    async def scenario() -> tuple[int, int]:
        queue, held, passes = make(), set[str](), 0

        async def work() -> None:
            nonlocal passes
            while True:
                key = await queue.take()
                assert key not in held
                held.add(key)
                await asyncio.sleep(1)
                held.remove(key)
                passes += 1
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(8)]
        for _ in range(50):
            for key in "abc":
                queue.add(key)
            await asyncio.sleep(0.3)
        await asyncio.sleep(5)
        for worker in workers:
            worker.cancel()
            assert not worker.done()
        return passes, len(held)

    passes, held = skip_time(scenario())
    assert held == 0
    assert 45 <= passes <= 51  # 15 s, 3 keys, a second each


def test_of_two_times_the_earlier_counts(skip_time: Run) -> None:
    async def scenario() -> None:
        queue = make()
        queue.add_after("a", 60)
        queue.add_after("a", 10)
        queue.add_after("a", 30)
        assert await queue.take() == "a"
        assert now() == pytest.approx(10)

    skip_time(scenario())


def test_failures_wait_longer_and_longer_until_one_pass_is_well(skip_time: Run) -> None:
    async def scenario() -> list[float]:
        queue, waits = make(), []
        queue.add("a")
        for _ in range(5):
            before = now()
            await queue.take()
            waits.append(now() - before)
            queue.failed("a")
        await queue.take()
        queue.done("a")
        queue.add("a")
        await queue.take()
        return [*waits, queue.failed("a")]

    assert skip_time(scenario()) == pytest.approx([0, 0.5, 1, 2, 4, 0.5])


def test_a_key_may_fail_for_weeks(skip_time: Run) -> None:
    async def scenario() -> float:
        queue, wait = make(), 0.0
        queue.add("a")
        for _ in range(2000):
            wait = queue.failed(await queue.take())
        return wait

    assert skip_time(scenario()) == LONGEST_WAIT


def test_a_server_that_names_a_time_is_not_asked_earlier(skip_time: Run) -> None:
    async def scenario() -> float:
        queue: WorkQueue[str] = WorkQueue(lambda: 0.0)
        queue.add("a")
        return queue.failed(await queue.take(), least=7.0)

    assert skip_time(scenario()) == 7.0


def test_news_of_a_failed_key_need_not_wait(skip_time: Run) -> None:
    async def scenario() -> float:
        queue = make()
        queue.add("a")
        queue.failed(await queue.take(), least=100)
        queue.add("a")
        await queue.take()
        return now()

    assert skip_time(scenario()) == 0
