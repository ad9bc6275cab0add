"""What was weighed lately is kept, and never given for another question."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from kairay.plan_candidates import weigh_all
from kairay.plan_demand import Demand
from kairay.plan_quota import Quota
from kairay.plan_serving import ReplicaBounds
from kairay.presets import TuningMethod, find_preset
from kairay.skus import load_skus

A100, V100 = "Standard_NC24ads_A100_v4", "Standard_NC6s_v3"
TODAY = date(2026, 11, 25)
DEMAND = Demand(
    preset=find_preset("phi-3-mini-128k-instruct"), tuning=None, method=TuningMethod.QLORA, workers=None,
    bounds=ReplicaBounds(min_replicas=1, max_replicas=1, idle_seconds=600), max_usd_per_hour=None,
)  # fmt: skip
SIZES = [load_skus()[name] for name in (A100, V100)]


def test_the_same_question_is_weighed_once() -> None:
    assert weigh_all(replace(DEMAND), SIZES, today=TODAY) is weigh_all(DEMAND, list(SIZES), today=TODAY)


def test_other_prices_days_bounds_and_wishes_are_other_questions() -> None:
    first = weigh_all(DEMAND, SIZES, today=TODAY)
    dearer = weigh_all(DEMAND, [replace(each, usd_per_hour=99.0) for each in SIZES], today=TODAY)
    earlier = weigh_all(DEMAND, SIZES, today=date(2020, 1, 1))
    bounds = ReplicaBounds(min_replicas=1, max_replicas=3, idle_seconds=600)
    more = weigh_all(replace(DEMAND, bounds=bounds), SIZES, today=TODAY)
    assert [each[0].usd_per_hour for each in (first, dearer, more)] == [3.673, 99.0, 11.019]
    assert earlier[1].reason != first[1].reason


def test_quota_is_looked_at_anew() -> None:
    none, plenty = (Quota.of({SIZES[0].quota_family or "": cores}) for cores in (0, 96))
    fits = [weigh_all(replace(DEMAND, quota=each), SIZES, today=TODAY)[0].fits for each in (none, plenty)]
    assert fits == [False, True]
