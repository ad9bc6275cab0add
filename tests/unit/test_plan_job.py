"""What tuning costs: the arithmetic by hand, and how it ranks the sizes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_job import START_SECONDS, UTILISATION, TrainingData, active_parameters
from kairay.presets import TuningMethod, find_preset
from kairay.skus import MachineProbe, ProbedGpu, Sku, load_skus, local_machine
from kairay.workspace import Workspace, parse_documents

TODAY = date(2026, 11, 24)
A100, T4, H200 = "Standard_NC24ads_A100_v4", "Standard_NC4as_T4_v3", "Standard_ND96isr_H200_v5"
TUNING = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {{name: tune-it}}
resource: {{labelSelector: {{matchLabels: {{app: test}}}}{resource}}}
tuning:
  preset: {{name: {preset}}}
  method: qlora
  input: {{urls: ["https://example.com/data.jsonl"]}}
  output: {{image: "registry.example.com/adapters/test:1", imagePushSecret: push}}
"""


def test_the_cost_is_operations_over_the_rate_times_the_price() -> None:
    plan = planned(instance=A100, tokens=1_000_000, epochs=3)
    parameters = active_parameters(find_preset("llama-3.1-8b-instruct").model)
    per_second = 312e12 * UTILISATION[TuningMethod.QLORA] / (6 * parameters)
    job = plan.job
    assert job is not None
    assert job.tokens_per_second == pytest.approx(per_second, rel=1e-3)
    seconds = 3e6 / per_second + START_SECONDS
    assert job.hours == pytest.approx(seconds / 3600, abs=1e-3)
    assert job.usd == pytest.approx(3.673 * seconds / 3600, rel=1e-3)
    assert job.usd_per_million_tokens == pytest.approx(3.673 * 1e6 / per_second / 3600, rel=1e-3)


def test_a_preemption_costs_at_most_a_minute_of_work_and_another_start() -> None:
    large, small = planned(instance=A100, tokens=10**8).job, planned(instance=A100, tokens=10_000).job
    assert large is not None
    assert small is not None
    assert large.preemption_usd == pytest.approx((START_SECONDS + 60) * 3.673 / 3600, rel=1e-3)
    assert (small.preemption_usd or 0) < (large.preemption_usd or 0)


def test_without_data_sizes_are_ranked_by_the_price_of_tokens() -> None:
    plan = planned()
    assert plan.job is not None
    assert (plan.job.hours, plan.job.usd) == (None, None)
    fitting = [c for c in plan.candidates if c.fits and c.nodes == 1]
    costs = [c.cost for c in fitting if c.cost is not None]
    assert costs == sorted(costs)
    assert fitting[0].chosen


def test_a_small_job_takes_a_small_machine_and_a_large_one_the_cheapest_rate() -> None:
    small, large = planned("phi-3-mini-4k-instruct", tokens=1000), planned("mistral-7b", tokens=10**9)
    assert small.chosen is not None
    assert large.chosen is not None
    assert small.chosen.sku.name == T4
    rates = {c.sku.name: c.job.usd_per_million_tokens or 99 for c in large.candidates if c.fits and c.job}
    one_machine = {c.sku.name for c in large.candidates if c.fits and c.nodes == 1}
    assert rates[large.chosen.sku.name] == min(rates[name] for name in one_machine)


def test_twice_the_gpus_take_half_the_time() -> None:
    one, two = (planned(instance=name).job for name in (A100, "Standard_NC48ads_A100_v4"))
    assert one is not None
    assert two is not None
    assert two.tokens_per_second == pytest.approx(2 * one.tokens_per_second)
    assert two.usd_per_million_tokens == pytest.approx(one.usd_per_million_tokens)


def test_a_size_without_price_or_rate_is_taken_last_and_has_no_cost() -> None:
    skus = {name: load_skus()[name] for name in (A100, H200)}
    unpriced = skus | {A100: replace(skus[A100], usd_per_hour=None)}
    plan = planned(skus=unpriced, tokens=1000)
    assert [(c.sku.name, c.cost is None) for c in plan.candidates] == [(H200, False), (A100, True)]
    unrated = {A100: replace(skus[A100], gpu="Unheard of")}
    assert planned(skus=unrated).job is None


def test_spot_prices_rank_where_they_are_known_and_the_plan_says_where_not() -> None:
    skus = {A100: replace(load_skus()[A100], spot_usd_per_hour=0.7), T4: load_skus()[T4]}
    plan = planned("mistral-7b", skus=skus, resource=", spot: true")
    assert plan.chosen is not None
    assert (plan.chosen.sku.name, plan.usd_per_hour, plan.chosen.spot) == (A100, 0.7, True)
    unknown = planned("mistral-7b", skus={A100: load_skus()[A100]}, resource=", spot: true")
    assert unknown.usd_per_hour == 3.673
    assert any("spot machine is not known" in warning for warning in unknown.warnings)


def test_on_a_gpu_of_ones_own_there_is_no_start_and_no_price() -> None:
    gpu = ProbedGpu(
        name="NVIDIA A10", total_bytes=24 * 2**30, free_bytes=24 * 2**30, compute_capability=(8, 6)
    )
    probe = MachineProbe(cores=8, ram_bytes=64 * 2**30, available_bytes=60 * 2**30, gpus=(gpu,))
    plan = make_plan(
        workspace("phi-3-mini-4k-instruct", ""), find_preset("phi-3-mini-4k-instruct"), skus={},
        machine=local_machine(probe), target=PlanTarget.LOCAL, now=TODAY,
        data=TrainingData(tokens=10**6, epochs=1, basis="counted"),
    )  # fmt: skip
    assert plan.job is not None
    assert plan.job.usd is None
    assert plan.job.hours == pytest.approx(1e6 / plan.job.tokens_per_second / 3600, abs=1e-3)


def test_only_the_experts_that_a_token_goes_through_count() -> None:
    model = find_preset("mistral-7b").model
    sparse = replace(model, experts=8, experts_per_token=2, moe_intermediate_size=1024)
    idle = 6 * 3 * model.hidden_size * 1024 * model.layers
    assert active_parameters(sparse) == active_parameters(model) - idle


def planned(
    preset: str = "llama-3.1-8b-instruct",
    *,
    instance: str | None = None,
    skus: dict[str, Sku] | None = None,
    tokens: int | None = None,
    epochs: int = 1,
    resource: str = "",
) -> Plan:
    size = "" if instance is None else f", instanceType: {instance}"
    data = None if tokens is None else TrainingData(tokens=tokens, epochs=epochs, basis="counted")
    return make_plan(
        workspace(preset, resource + size), find_preset(preset), skus=skus or load_skus(), machine=None,
        target=PlanTarget.CLUSTER, now=TODAY, data=data,
    )  # fmt: skip


def workspace(preset: str, resource: str) -> Workspace:
    (only,) = parse_documents(TUNING.format(preset=preset, resource=resource), "test.yaml").workspaces
    return only
