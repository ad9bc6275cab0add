"""The simulated week: reproducible, and its sums are possible."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "simulate_week.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_week", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate_week"] = module  # Its dataclasses look their module up.
    spec.loader.exec_module(module)
    return module


def test_a_simulated_day_is_the_same_for_the_same_seed_and_pays_for_what_is_used(script: ModuleType) -> None:
    week = replace(script.Week(), days=1, jobs_per_weekday=20, day_services=2, session_services=2)
    work = sorted(script.draw_work(week), key=lambda each: (each.start, each.workspace))
    one, other = (script.simulate("x", week, work, idle=120) for _ in range(2))
    assert one == other
    assert 0 < one.used <= one.paid


def test_nodes_that_are_kept_longer_cost_more(script: ModuleType) -> None:
    week = replace(script.Week(), days=1, jobs_per_weekday=20, day_services=1, session_services=1)
    work = sorted(script.draw_work(week), key=lambda each: (each.start, each.workspace))
    short = script.simulate("short", week, work, idle=120)
    long = script.simulate("long", week, work, idle=1800)
    kept = script.own_nodes("kept", week, work, until=lambda end: week.days * script.DAY)
    assert short.paid < long.paid < kept.paid


def test_another_seed_is_another_week(script: ModuleType) -> None:
    one, other = (list(script.draw_work(replace(script.Week(), seed=seed))) for seed in (1, 2))
    assert one != other
