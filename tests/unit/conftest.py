"""`skip_time`: an event loop whose time jumps to the next timer, so that hours of back-off take milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits; what it was asked to wait for is added to `now`."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits and no timer runs")
        if not ready and timeout:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Selector) -> None:
        super().__init__(selector)
        self._clock = selector

    def time(self) -> float:
        return self._clock.now


class SkipTime:
    """Runs coroutines; `asyncio.get_running_loop().time` is their clock."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: _Loop(_Selector())) as runner:
            return runner.run(work)


@pytest.fixture
def skip_time() -> SkipTime:
    """As asyncio.run, in which no timer takes time."""
    return SkipTime()
