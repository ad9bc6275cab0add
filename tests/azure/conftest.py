"""A simulator per test; one that saw a request or gave an answer outside AKS's description fails the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator import Simulator


@pytest.fixture
def azure() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator
        assert simulator.arm.violations == []
