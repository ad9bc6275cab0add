"""The plan: what is chosen for which Workspace, and what it says when nothing can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest

from kairay.errors import InputError
from kairay.memory import Dtype
from kairay.plan import Engine, Work
from kairay.plan_serving import REFERENCE_CONTEXT
from kairay.presets import find_preset, load_presets
from kairay.skus import Device, Sku, SkuKind, load_skus
from kairay.workspace import Workspace
from planning import (
    GIB,
    RETIRED,
    chosen,
    header,
    inference,
    laptop,
    only,
    planned,
    shape,
    tuning,
    weighed,
)

T4, A10, A100 = "Standard_NC4as_T4_v3", "Standard_NV36ads_A10_v5", "Standard_NC24ads_A100_v4"


def test_the_walk_throughs_size_is_retired_and_priced_replacements_are_named() -> None:
    plan = planned(tuning("phi-3-mini-128k-instruct", instance=RETIRED))
    assert plan.chosen is None
    (problem,) = plan.problems
    assert problem == (
        "Standard_NC6s_v3 (1 × Tesla V100 16 GiB) was retired by Azure on 2025-09-30 and cannot be had any"
        " more (Tesla V100: compute capability 7.0; torch 2.13 needs 7.5);"
        " set resource.instanceType to Standard_NC4as_T4_v3 ($0.53 per hour) or leave it out"
    )
    assert [(c.sku.name, c.usd_per_hour) for c in plan.replacements] == [
        (T4, 0.526),
        ("Standard_NC16ads_A10_v4", 2.2),
        ("Standard_NC40ads_H100_v5", 6.98),
    ]
    assert plan.replacements[0].reason == "the cheapest that fits; as much memory"
    assert plan.replacements[-1].reason == "Microsoft's recommendation"


def test_before_its_day_a_size_is_only_refused_for_what_it_is() -> None:
    plan = planned(tuning("phi-3-mini-128k-instruct", instance=RETIRED), now=date(2025, 1, 1))
    assert "cannot be used: compute capability 7.0; torch 2.13 needs 7.5" in plan.problems[0]


def test_without_a_size_the_cheapest_that_fits_is_taken() -> None:
    plan = planned(tuning("phi-3-mini-128k-instruct"))
    assert plan.problems == ()
    assert chosen(plan).sku.name == T4
    assert plan.usd_per_hour == 0.526
    fitting = [c.usd_per_hour for c in plan.candidates if c.fits and c.usd_per_hour is not None]
    assert min(fitting) == plan.usd_per_hour


def test_a_t4_computes_in_float16_and_newer_gpus_in_bfloat16() -> None:
    assert shape(planned(tuning("phi-3-mini-4k-instruct", instance=T4))) == (Device.CUDA, Dtype.FLOAT16)
    assert shape(planned(tuning("phi-3-mini-4k-instruct", instance=A10))) == (Device.CUDA, Dtype.BFLOAT16)


def test_a_tuning_workspace_is_served_from_zero_afterwards() -> None:
    plan = planned(tuning("phi-3-mini-128k-instruct"))
    assert plan.work is Work.TUNING
    assert plan.serving is not None
    assert (plan.serving.engine, plan.serving.min_replicas, plan.serving.max_replicas) == (Engine.VLLM, 0, 1)
    assert plan.serving.idle_seconds == 600


def test_a_tuning_workspace_that_is_not_served_has_no_service() -> None:
    plan = planned(tuning("phi-3-mini-128k-instruct", extra="\n  serve: false"))
    assert plan.tuning is not None
    assert plan.serving is None


def test_a_size_has_to_hold_the_service_too() -> None:
    served = planned(tuning("phi-4", instance=A10))
    alone = planned(tuning("phi-4", instance=A10, extra="\n  serve: false"))
    assert (chosen(alone).nodes, chosen(served).nodes) == (1, 2)


def test_a_size_that_was_asked_for_is_taken_and_a_cheaper_one_is_named() -> None:
    plan = planned(inference("phi-3-mini-128k-instruct", instance=A100))
    assert chosen(plan).sku.name == A100
    assert f"{T4} fits too, at $0.53 instead of $3.67 per hour" in plan.warnings


def test_a_size_that_is_too_small_says_how_much_is_needed() -> None:
    plan = planned(inference("qwen2.5-coder-32b-instruct", instance="Standard_NV12ads_A10_v5"))
    assert plan.chosen is None
    assert "cannot be used: serving" in plan.problems[0]
    assert "per GPU, 6.7 GiB may be used" in plan.problems[0]


def test_where_the_machines_that_are_there_are_too_small_the_smallest_size_that_works_is_named() -> None:
    there = {T4: load_skus()[T4]}
    work = tuning("qwen2.5-coder-32b-instruct", extra="\n  serve: false")
    plan = planned(work, skus=there, advise=dict(load_skus()))
    assert plan.chosen is None
    assert (
        f"no machine that is there ({T4}) holds qwen2.5-coder-32b-instruct: tuning needs" in plan.problems[0]
    )
    assert "the smallest size that works is Standard_NC24ads_A100_v4 ($3.67 per hour)" in plan.problems[0]
    work = tuning("qwen2.5-coder-32b-instruct", instance=T4, extra="\n  serve: false")
    asked = planned(work, skus=there, advise=dict(load_skus()))
    # Not the smallest: what is advised is what would be taken without an instanceType.
    assert "set resource.instanceType to Standard_NC40ads_H100_v5 ($6.98 per hour)" in asked.problems[0]


def test_advice_is_of_the_cloud_whose_machines_are_there() -> None:
    there = {"g5.xlarge": load_skus()["g5.xlarge"]}
    work = tuning("qwen2.5-coder-32b-instruct", extra="\n  serve: false")
    plan = planned(work, skus=there, advise=dict(load_skus()))
    assert "the smallest size that works is p4d.24xlarge" in plan.problems[0]


def test_an_unknown_size_is_answered_with_the_nearest() -> None:
    plan = planned(inference("phi-4", instance="Standard_NC24ads_A100"))
    assert plan.chosen is None
    assert not any(candidate.chosen for candidate in plan.candidates)
    assert plan.problems[0].startswith(
        "resource.instanceType Standard_NC24ads_A100 is not a known size; did you mean"
    )
    assert A100 in plan.problems[0]


def test_a_mistyped_size_of_another_cloud_is_answered_with_that_clouds() -> None:
    plan = planned(inference("phi-4", instance="p5.48xlarg"))
    assert "is not a known size; did you mean p5.48xlarge or" in plan.problems[0]
    assert {candidate.sku.kind for candidate in plan.candidates} <= {SkuKind.AWS, SkuKind.LOCAL}
    # A T4 of AWS that no table has: an AMD size, however near its name, is no remedy.
    assert "g4ad" not in planned(inference("phi-4", instance="g4dn.xlarge")).problems[0]


@pytest.mark.parametrize("work", [inference, tuning])
def test_a_size_that_is_no_gpus_is_answered_with_the_size_that_would_be_taken(
    work: Callable[..., Workspace],
) -> None:
    best = planned(work("phi-4")).chosen
    assert best is not None
    [said] = planned(work("phi-4", instance="Standard_D4s_v5")).problems
    assert said.startswith(
        "resource.instanceType Standard_D4s_v5 is not one of the GPU sizes known here; set "
    )
    assert f"set resource.instanceType to {best.sku.name} (" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Standard_NV6ads_A10_v5", "1/6 of a GPU"),
        ("Standard_NC8ads_A10_v4", "is not documented"),
        ("Standard_ND96isr_MI300X_v5", "AMD"),
        ("Standard_ND128isr_NDR_GB200_v6", "arm64"),
        ("Standard_ND40rs_v2", "compute capability 7.0; torch 2.13 needs 7.5"),
        ("Standard_NG32ads_V620_v1", "not among the sizes that AKS lists"),
        ("Standard_NC12s_v3", "retired by Azure on 2025-09-30"),
        ("Standard_NC6", "retired by Azure in 2023"),
    ],
)
def test_what_cannot_be_used_lost_for_a_reason(name: str, why: str) -> None:
    candidate = weighed(planned(inference("smollm2")), name)
    assert not candidate.fits
    assert why in candidate.reason


def test_a_share_of_a_gpu_is_taken_when_it_is_asked_for() -> None:
    plan = planned(inference("smollm2", instance="Standard_NV12ads_A10_v5"))
    assert chosen(plan).sku.share == "1/3"
    assert any("neighbours" in warning for warning in plan.warnings)


def test_the_price_limit_is_kept() -> None:
    plan = planned(inference("smollm2", resource="\n  maxHourlyCostUSD: 0.2"))
    assert plan.chosen is None
    assert "maxHourlyCostUSD 0.2; raise it to 0.526 for Standard_NC4as_T4_v3" in plan.problems[0]
    assert planned(inference("smollm2", resource="\n  maxHourlyCostUSD: 0.6")).usd_per_hour == 0.526


def test_a_price_limit_refuses_a_size_without_a_price() -> None:
    unpriced = replace(load_skus()[T4], usd_per_hour=None)
    plan = planned(inference("smollm2", resource="\n  maxHourlyCostUSD: 99"), skus={T4: unpriced})
    assert weighed(plan, T4).reason == "no public price, and resource.maxHourlyCostUSD is set"
    assert planned(inference("smollm2"), skus={T4: unpriced}).warnings == (f"the price of {T4} is not known",)


def test_the_price_counts_every_replica() -> None:
    plan = planned(
        inference(
            "phi-3-mini-4k-instruct", instance=T4, extra="\n  scaling: {minReplicas: 1, maxReplicas: 3}"
        )
    )
    assert (chosen(plan).nodes, plan.usd_per_hour) == (3, pytest.approx(3 * 0.526))


def test_small_replicas_are_packed_on_a_machine() -> None:
    scaling = "\n  scaling: {minReplicas: 1, maxReplicas: 4}"
    plan = planned(inference("phi-3-mini-4k-instruct", instance="Standard_NC64as_T4_v3", extra=scaling))
    assert (chosen(plan).nodes, chosen(plan).gpus) == (1, 4)


@pytest.mark.parametrize(
    ("name", "a10", "a100", "a100x4"),
    [
        # machines by KAITO's own estimate, at the same context; but one A100 for the 32B model (KAITO: two), whose 62.3
        # GiB leave 4.9: enough for 3.2 of vLLM and a context of 2,048, where KAITO sets 5.4 aside
        ("phi-4", 2, 1, 1),
        ("phi-3-medium-128k-instruct", 2, 1, 1),
        ("phi-3-mini-128k-instruct", 1, 1, 1),
        ("qwen2.5-coder-7b-instruct", 1, 1, 1),
        ("qwen2.5-coder-32b-instruct", 4, 1, 1),
        ("llama-3.1-8b-instruct", 1, 1, 1),
        ("mistral-7b-v0.3", 1, 1, 1),
    ],
)
def test_machines_to_serve_are_kaitos_estimate_with_ceil(name: str, a10: int, a100: int, a100x4: int) -> None:
    for size, nodes in ((A10, a10), (A100, a100), ("Standard_NC96ads_A100_v4", a100x4)):
        assert chosen(planned(inference(name, instance=size))).nodes == nodes, size


def test_heads_divide_by_the_tensor_split() -> None:
    plan = planned(inference("phi-4", instance="Standard_NC64as_T4_v3"))
    assert plan.serving is not None
    assert plan.serving.tensor_parallel in {1, 2}  # 10 KV heads do not divide by 4
    assert plan.serving.pipeline_parallel > 1


def test_one_machine_is_preferred_to_several_cheaper_ones() -> None:
    plan = planned(inference("qwen2.5-coder-32b-instruct"))
    assert chosen(plan).nodes == 1
    assert "machines; one is preferred" in weighed(plan, T4).reason


def test_the_context_is_the_models_own_where_it_fits() -> None:
    plan = planned(inference("phi-4", instance=A100))
    assert plan.serving is not None
    assert plan.serving.context_length == 16384
    small = planned(inference("phi-3-mini-128k-instruct", instance=T4)).serving
    assert small is not None
    assert REFERENCE_CONTEXT <= small.context_length < 131072
    assert small.context_length % 256 == 0


def test_all_gpus_of_a_machine_tune_unless_workers_are_given() -> None:
    size = "Standard_NC64as_T4_v3"
    plan = planned(tuning("phi-3-mini-4k-instruct", instance=size))
    assert plan.tuning is not None
    assert (plan.tuning.workers, plan.tuning.gpus_per_worker, plan.tuning.nodes) == (4, 1, 1)
    assert plan.tuning.tokens_per_step == 16384
    two = planned(tuning("phi-3-mini-4k-instruct", instance=size, extra="\n  workers: 2")).tuning
    assert two is not None
    assert (two.workers, two.tokens_per_step) == (2, 16384)


def test_workers_beyond_one_machine_take_more_machines() -> None:
    plan = planned(tuning("phi-3-mini-4k-instruct", instance=T4, extra="\n  workers: 3"))
    assert (chosen(plan).nodes, plan.usd_per_hour) == (3, pytest.approx(3 * 0.526))


@pytest.mark.parametrize(("workers", "told"), [(8, False), (9, True), (1000, True)])
def test_workers_on_more_machines_than_kairay_would_take_are_told(workers: int, told: bool) -> None:
    plan = planned(tuning("phi-3-mini-4k-instruct", instance=T4, extra=f"\n  workers: {workers}"))
    said = f"tuning.workers {workers:,} takes {workers:,} machines of {T4}; without it"
    assert any(said in warning for warning in plan.warnings) is told


MIG = "\n  partition: {mode: mig, profile: 1g.10gb}"


def test_a_partition_is_planned_as_slices_of_the_gpus_that_can_be_cut() -> None:
    scaling = "\n  scaling: {minReplicas: 1, maxReplicas: 4}"
    plan = planned(inference("smollm2", resource=MIG, extra=scaling), machine=laptop(64, free=60))
    assert chosen(plan).sku.name == A100
    assert chosen(plan).sku.hardware == "7 × 1g.10gb of A100 PCIe"
    assert (chosen(plan).nodes, chosen(plan).gpus) == (1, 4)
    assert "cannot be cut by MIG" in weighed(plan, T4).reason
    assert plan.candidates[-1].reason == "fits; `kairay run` uses it"


def test_a_partition_that_is_too_small_says_so() -> None:
    plan = planned(inference("phi-4", resource=MIG))
    assert plan.chosen is None
    assert "per GPU, 8.4 GiB may be used" in weighed(plan, A100).reason


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_more_memory_never_fits_less(name: str) -> None:
    sizes = [fake_gpu(gib) for gib in (8, 16, 24, 40, 80, 141, 192)]
    for workspace in (tuning(name), inference(name)) if find_preset(name).tuning else (inference(name),):
        plan = planned(workspace, skus={sku.name: sku for sku in sizes})
        nodes = [weighed(plan, sku.name).nodes if weighed(plan, sku.name).fits else 99 for sku in sizes]
        assert nodes == sorted(nodes, reverse=True)


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_every_preset_has_a_plan(name: str) -> None:
    assert planned(inference(name)).problems == ()
    can = find_preset(name).tuning
    for method in can.methods if can else ():
        assert planned(tuning(name, method=method)).problems == ()


def test_a_larger_gpu_takes_larger_micro_batches_for_the_same_step() -> None:
    batches = []
    for gib in (12, 24, 80):
        plan = planned(tuning("mistral-7b", extra="\n  serve: false"), skus={"x": fake_gpu(gib)})
        assert plan.tuning is not None
        assert plan.tuning.tokens_per_step == 16384
        batches.append(plan.tuning.micro_batch)
    assert batches == sorted(batches)
    assert batches[0] < batches[-1]


def test_facts_that_are_missing_are_owned_up_to() -> None:
    preset = find_preset("phi-4")
    unknown = replace(preset, model=replace(preset.model, vocab_size=None))
    plan = planned(tuning("phi-4"), preset=unknown)
    assert "memory is estimated without its vocabulary size, which the preset does not know" in plan.warnings


def test_a_preset_that_cannot_be_tuned_is_a_problem() -> None:
    plan = planned(tuning("phi-4"), preset=replace(find_preset("phi-4"), tuning=None))
    assert plan.problems == ("preset phi-4 cannot be tuned; `kairay presets` shows which can",)
    assert plan.candidates == ()


def test_a_gated_model_asks_for_a_token_once() -> None:
    assert any("is gated" in warning for warning in planned(inference("llama-3.1-8b-instruct")).warnings)
    secret = "\n    presetOptions: {modelAccessSecret: hub-token}"
    plan = planned(inference("llama-3.1-8b-instruct", options=secret))
    assert not any("is gated" in warning for warning in plan.warnings)


def test_scaling_is_taken_from_the_workspace() -> None:
    scaling = "\n  scaling: {minReplicas: 0, maxReplicas: 2, targetOngoingRequests: 7, idleSeconds: 60}"
    serving = planned(inference("phi-3-mini-4k-instruct", extra=scaling)).serving
    assert serving is not None
    assert (serving.min_replicas, serving.max_replicas) == (0, 2)
    assert (serving.target_ongoing_requests, serving.idle_seconds) == (7, 60)


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (
        json.dumps(planned(tuning("phi-4"), machine=laptop(8, free=6)).to_dict()) for _ in range(2)
    )
    assert first == second


def test_the_plan_is_json_with_the_words_of_the_api() -> None:
    data = json.loads(json.dumps(planned(tuning("phi-3-mini-128k-instruct", instance=T4)).to_dict()))
    assert (data["work"], data["preset"], data["usdPerHour"]) == ("tuning", "phi-3-mini-128k-instruct", 0.526)
    assert data["chosen"]["instanceType"] == T4
    assert data["tuning"]["gpusPerWorker"] == 1
    assert data["serving"]["tensorParallel"] == 1
    assert data["tuning"]["memory"]["headroomPercent"] > 0
    assert len(data["candidates"]) == sum(sku.kind is SkuKind.AZURE for sku in load_skus().values())


def test_a_template_brings_its_own_container_so_there_is_nothing_to_plan() -> None:
    body = "inference:\n  template:\n    spec: {containers: [{name: app, image: 'nginx:1'}]}\n"
    with pytest.raises(InputError, match=r"inference\.template"):
        planned(only(header("x", None, "") + body), preset=find_preset("phi-4"))


def fake_gpu(gib: int) -> Sku:
    return replace(load_skus()[A100], name=f"gpu-{gib:03}", bytes_per_gpu=gib * GIB, usd_per_hour=float(gib))
