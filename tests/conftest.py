"""Shared by every test: a private home for state and caches, and skips that KAIRAY_REQUIRE turns into failures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A run in the background of a script inherits an ignored SIGINT and would hand it on to every program under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


def required(capability: str) -> bool:
    """Whether KAIRAY_REQUIRE says that this machine must have it."""
    return capability in os.environ.get("KAIRAY_REQUIRE", "").split(",")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A skip is a failure where the capability is required."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    names = {mark.name for mark in item.iter_markers()}
    kinds = names & {"registry", "vllm", "gpu"} or names & {"local", "cluster"}
    needed = sorted(kind for kind in kinds if required(kind))
    if report.skipped and needed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped although KAIRAY_REQUIRE names {needed}: {report.longrepr}"
        )


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State of its own for each test; the model cache stays shared, since converting costs 11 s."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.delenv("KAIRAY_STATE_DIR", raising=False)
    return home
