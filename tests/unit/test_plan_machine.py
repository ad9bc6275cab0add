"""The plan of one's own machine: its processor, its GPU, and beside a cluster's sizes."""

from __future__ import annotations

from kairay.memory import Dtype
from kairay.plan import Engine, PlanTarget
from kairay.plan_serving import ReplicaBounds, shape_serving
from kairay.plan_wishes import TuningWishes
from kairay.presets import find_preset
from kairay.skus import Device, MachineProbe, ProbedGpu, Sku, local_machine
from planning import GIB, RETIRED, chosen, inference, laptop, planned, shape, tuning


def test_a_laptop_tunes_and_serves_the_demo_model() -> None:
    plan = planned(tuning("smollm2"), target=PlanTarget.LOCAL, machine=laptop(8, free=6))
    assert plan.problems == ()
    assert plan.tuning is not None
    assert plan.serving is not None
    assert (plan.tuning.device, plan.tuning.dtype, plan.tuning.workers) == (Device.CPU, Dtype.FLOAT32, 1)
    assert (plan.tuning.cpus_per_worker, plan.tuning.gpus_per_worker) == (2, 0)
    assert (plan.serving.engine, plan.serving.min_replicas) == (Engine.TRANSFORMERS, 1)
    assert plan.serving.threads == 2
    assert plan.usd_per_hour is None


def test_what_is_free_now_changes_no_plan_but_warns() -> None:
    roomy, full = (
        planned(tuning("smollm2"), target=PlanTarget.LOCAL, machine=laptop(8, free=free)) for free in (7, 1)
    )
    assert (roomy.tuning, roomy.serving, roomy.warnings) == (full.tuning, full.serving, ())
    assert "1 GiB is free now: end other programs first" in full.warnings[0]


def test_a_processor_with_bfloat16_units_uses_them() -> None:
    machine = local_machine(MachineProbe(cores=8, ram_bytes=64 * GIB, available_bytes=60 * GIB, bf16=True))
    plan = planned(tuning("smollm2"), target=PlanTarget.LOCAL, machine=machine)
    assert shape(plan) == (Device.CPU, Dtype.BFLOAT16)


def test_a_laptop_that_is_too_small_is_told_by_how_much() -> None:
    plan = planned(tuning("phi-4"), target=PlanTarget.LOCAL, machine=laptop(8, free=6))
    assert plan.chosen is None
    assert "this machine has 8 GiB, of which 6.8 GiB may be used" in plan.problems[0]
    assert plan.problems[0].startswith("tuning needs 68.")
    assert "take a smaller preset, or run it on a cluster" in plan.problems[0]


def test_what_the_user_s_own_config_or_workers_make_too_large_is_to_be_lowered_first() -> None:
    wishes = TuningWishes(source="ConfigMap mine", rank=10**6, costs=("r 1000000",))
    high = planned(tuning("smollm2"), target=PlanTarget.LOCAL, machine=laptop(8, free=6), wishes=wishes)
    assert high.problems[0].endswith(
        "; lower that in ConfigMap mine, take a smaller preset, or run it on a cluster"
    )
    many = planned(
        tuning("smollm2", extra="\n  workers: 100"), target=PlanTarget.LOCAL, machine=laptop(8, free=6)
    )
    assert many.problems[0].endswith("; lower tuning.workers, take a smaller preset, or run it on a cluster")


def test_locally_the_size_in_the_file_is_not_used_and_no_price_refused() -> None:
    workspace = tuning("smollm2", instance=RETIRED, resource="\n  maxHourlyCostUSD: 0.01")
    plan = planned(workspace, target=PlanTarget.LOCAL, machine=laptop(16, free=12))
    assert plan.problems == ()
    assert (
        f"resource.instanceType {RETIRED} (which Azure retired on 2025-09-30) is for a cluster"
        in plan.warnings[0]
    )


def test_a_local_gpu_is_used() -> None:
    plan = planned(tuning("phi-3-mini-4k-instruct"), target=PlanTarget.LOCAL, machine=workstation(24))
    assert shape(plan) == (Device.CUDA, Dtype.BFLOAT16)
    assert plan.serving is not None
    assert (plan.serving.engine, plan.serving.device) == (Engine.TRANSFORMERS, Device.CUDA)


def test_a_local_gpu_that_is_too_small_leaves_the_work_to_the_processor() -> None:
    plan = planned(tuning("smollm2"), target=PlanTarget.LOCAL, machine=workstation(1))
    assert chosen(plan).sku.name == "this machine, without its GPU"
    assert shape(plan)[0] is Device.CPU


def test_more_workers_than_the_machine_has_is_a_problem() -> None:
    plan = planned(
        tuning("smollm2", extra="\n  workers: 3"), target=PlanTarget.LOCAL, machine=laptop(64, free=60)
    )
    assert (
        plan.problems[0] == "tuning.workers asks for 3, there are 2 cores; lower it, or run it on a cluster"
    )


def test_two_workers_take_two_copies_of_everything() -> None:
    one = planned(tuning("smollm2"), target=PlanTarget.LOCAL, machine=laptop(64, free=60)).tuning
    two = planned(
        tuning("smollm2", extra="\n  workers: 2"), target=PlanTarget.LOCAL, machine=laptop(64, free=60)
    ).tuning
    assert one is not None
    assert two is not None
    assert two.memory.weights == 2 * one.memory.weights
    assert two.cpus_per_worker == 1


def test_for_a_cluster_this_machine_is_shown_but_never_chosen() -> None:
    plan = planned(inference("smollm2"), machine=laptop(16, free=12))
    assert plan.candidates[-1].sku.name == "this machine"
    assert plan.candidates[-1].reason == "fits; `kairay run` uses it"
    assert chosen(plan).sku.name != "this machine"


def workstation(gib: int) -> Sku:
    gpu = ProbedGpu(name="RTX", total_bytes=gib * GIB, free_bytes=(gib - 1) * GIB, compute_capability=(8, 9))
    return local_machine(MachineProbe(cores=16, ram_bytes=64 * GIB, available_bytes=60 * GIB, gpus=(gpu,)))


def test_a_model_is_not_split_over_the_gpus_of_ones_own_machine() -> None:
    gpu = ProbedGpu(name="A10", total_bytes=12 * GIB, free_bytes=12 * GIB, compute_capability=(8, 6))
    probe = MachineProbe(cores=8, ram_bytes=16 * GIB, available_bytes=16 * GIB, gpus=(gpu, gpu))
    bounds = ReplicaBounds(min_replicas=1, max_replicas=1, idle_seconds=600)
    split = shape_serving(find_preset("llama-3.1-8b-instruct").model, local_machine(probe), bounds)
    assert (split.device, split.tensor_parallel, split.pipeline_parallel) == (Device.CUDA, 1, 1)
    assert not split.memory.fits
