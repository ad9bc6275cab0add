"""What follows from memory: splits, slices, packing, micro-batches, and rules that hold for every shape."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from kairay.mig import cut
from kairay.model_facts import ModelFacts
from kairay.plan_replica import MAX_NODES, can_split
from kairay.plan_serving import ReplicaBounds, ServingShape, shape_serving
from kairay.plan_tuning import TuningShape, shape_tuning
from kairay.presets import Preset, TuningMethod, find_preset, load_presets
from kairay.skus import Device, MachineProbe, Sku, SkuKind, load_skus, local_machine

GIB = 2**30
A100 = "Standard_NC24ads_A100_v4"
BOUNDS = ReplicaBounds(min_replicas=1, max_replicas=1, idle_seconds=600)
LLAMA = find_preset("llama-3.1-8b-instruct").model
GIBS = (4, 8, 12, 16, 24, 40, 48, 80, 94, 141, 192)


def gpus(gib: int, count: int = 1, **changes: object) -> Sku:
    return replace(
        load_skus()[A100],
        name=f"{count}x{gib}",
        gpus=count,
        bytes_per_gpu=gib * GIB,
        **changes,  # type: ignore[arg-type]
    )


def test_heads_and_inner_widths_divide_by_a_split() -> None:
    assert [size for size in range(1, 9) if can_split(LLAMA, size)] == [1, 2, 4, 8]
    uneven = replace(LLAMA, intermediate_size=14_335)
    assert [size for size in range(1, 9) if can_split(uneven, size)] == [1]
    assert not can_split(replace(LLAMA, kv_heads=3, heads=36), 2)
    latent = replace(LLAMA, kv_heads=3, heads=36, intermediate_size=36, kv_lora_rank=512, qk_rope_head_dim=64)
    assert can_split(latent, 2)  # every GPU holds the latent


def test_a_share_of_a_gpu_works_with_no_other() -> None:
    shape = shape_serving(find_preset("phi-4").model, gpus(12, count=2, share="1/2"), BOUNDS)
    assert (shape.tensor_parallel, shape.pipeline_parallel) == (1, 1)
    assert not shape.memory.fits


def test_small_replicas_fill_the_gpus_of_a_machine() -> None:
    bounds = replace(BOUNDS, max_replicas=9)
    assert shape_serving(LLAMA, gpus(80, count=4), bounds).nodes == 3
    assert shape_serving(LLAMA, gpus(16, count=4), bounds).gpus_per_replica == 2
    assert shape_serving(LLAMA, gpus(16, count=4), bounds).nodes == 5


def test_replicas_are_packed_on_slices_and_never_split() -> None:
    sliced = cut(load_skus()[A100], "2g.20gb")
    shape = shape_serving(LLAMA, sliced, replace(BOUNDS, max_replicas=3))
    assert not shape.memory.fits  # 15.3 GiB of weights and 2.9 of vLLM in 84 % of 20
    small = shape_serving(
        find_preset("phi-3-mini-4k-instruct").model, sliced, replace(BOUNDS, max_replicas=6)
    )
    assert small.memory.fits
    assert (small.gpus_per_replica, small.nodes) == (1, 2)


def test_an_adapter_beside_the_base_model_takes_its_room() -> None:
    preset = find_preset("smollm2-135m-instruct")
    laptop = local_machine(MachineProbe(cores=2, ram_bytes=8 * GIB, available_bytes=8 * GIB))
    for sku in (laptop, gpus(8)):
        alone, beside = (
            shape_serving(preset.model, sku, BOUNDS, tuned=tuned) for tuned in (None, preset.tuning)
        )
        assert beside.memory.weights > alone.memory.weights
        assert beside.memory.fits


def test_gpus_that_tune_together_set_deepspeeds_bucket_aside() -> None:
    preset = find_preset("phi-3-mini-4k-instruct")
    assert preset.tuning is not None
    one, four = (
        shape_tuning(
            preset.model, preset.tuning, gpus(80, count=4), method=TuningMethod.QLORA, workers=workers
        )
        for workers in (1, 4)
    )
    assert four.memory.overhead > one.memory.overhead + 10**9 // 2
    assert four.memory.optimizer < one.memory.optimizer


def drawn(seed: int) -> tuple[random.Random, Preset, ModelFacts]:
    """A preset, and its model changed at random within what a model can be."""
    draw = random.Random(seed)
    preset = draw.choice([preset for preset in load_presets().values() if preset.tuning is not None])
    kv_heads = draw.choice([1, 2, 4, 8])
    model = replace(
        preset.model,
        layers=draw.randrange(4, 100),
        kv_heads=kv_heads,
        heads=kv_heads * draw.choice([1, 2, 4, 8]),
        head_dim=draw.choice([64, 128, 256]),
        hidden_size=draw.choice([576, 1024, 4096, 8192]),
        intermediate_size=draw.choice([1536, 4096, 14_336, 28_672]),
        context_length=draw.choice([2048, 8192, 131_072]),
        weight_bytes=int(draw.uniform(0.1, 150) * GIB),
        sliding_window=None,
        sliding_layers=None,
    )
    if draw.random() < 0.3:
        model = replace(
            model, sliding_window=draw.choice([512, 4096]), sliding_layers=draw.randrange(1, model.layers)
        )
    return draw, preset, model


def tuned(preset: Preset, model: ModelFacts, sku: Sku, method: TuningMethod) -> TuningShape:
    assert preset.tuning is not None
    return shape_tuning(model, preset.tuning, sku, method=method, workers=None)


@pytest.mark.parametrize("seed", range(40))
def test_more_memory_never_makes_a_plan_worse(seed: int) -> None:
    draw, preset, model = drawn(seed)
    count, method = draw.choice([1, 2, 4, 8]), draw.choice(list(TuningMethod))
    served = [shape_serving(model, gpus(gib, count), BOUNDS) for gib in GIBS]
    fits = [shape.memory.fits for shape in served]
    assert fits == sorted(fits)
    used = [shape.gpus_per_replica for shape in served if shape.memory.fits]
    assert used == sorted(used, reverse=True)
    trained = [tuned(preset, model, gpus(gib, count), method) for gib in GIBS]
    assert [shape.memory.fits for shape in trained] == sorted(shape.memory.fits for shape in trained)
    batches = [shape.micro_batch for shape in trained if shape.memory.fits]
    assert batches == sorted(batches)


@pytest.mark.parametrize("seed", range(40))
def test_the_same_split_on_more_memory_never_holds_a_shorter_context(seed: int) -> None:
    draw, _, model = drawn(seed)
    shapes: dict[tuple[int, int], list[ServingShape]] = {}
    # vLLM reads more at once on GPUs of 70 GiB and more, which is then not the same plan.
    for gib in draw.choice([(8, 12, 16, 24, 40, 48, 64), (70, 80, 94, 141, 192)]):
        shape = shape_serving(model, gpus(gib, 8), BOUNDS)
        if shape.memory.fits:
            shapes.setdefault((shape.tensor_parallel, shape.pipeline_parallel), []).append(shape)
    for alike in shapes.values():
        assert [shape.context_length for shape in alike] == sorted(shape.context_length for shape in alike)
        requests = [shape.target_ongoing_requests for shape in alike]
        assert requests == sorted(requests)


@pytest.mark.parametrize("seed", range(40))
def test_no_plan_that_fits_exceeds_a_gpu(seed: int) -> None:
    draw, preset, model = drawn(seed)
    sku = gpus(draw.choice(GIBS), draw.choice([1, 2, 4, 8]))
    served = shape_serving(model, sku, replace(BOUNDS, max_replicas=draw.randrange(1, 9)))
    for use in (served.memory, tuned(preset, model, sku, draw.choice(list(TuningMethod))).memory):
        assert use.fits == (use.total <= use.limit < use.capacity)
        assert use.headroom == use.capacity - use.total
    if served.memory.fits:
        assert served.context_length <= model.context_length
        assert served.gpus_per_replica <= sku.gpus * MAX_NODES
        assert served.nodes * sku.gpus >= served.max_replicas * served.gpus_per_replica
        assert can_split(model, served.tensor_parallel)


@pytest.mark.parametrize("seed", range(10))
def test_the_same_input_gives_the_same_shapes(seed: int) -> None:
    def once() -> str:
        _, preset, model = drawn(seed)
        machine = gpus(24, 4)
        return json.dumps(
            [
                repr(shape_serving(model, machine, BOUNDS)),
                repr(tuned(preset, model, machine, TuningMethod.LORA)),
            ]
        )

    assert once() == once()


@pytest.mark.parametrize("seed", range(20))
def test_a_gpu_of_ones_own_holds_the_cache_and_what_is_gathered_of_it(seed: int) -> None:
    _, _, model = drawn(seed)
    shapes = [shape_serving(model, gpus(gib, kind=SkuKind.LOCAL), BOUNDS) for gib in GIBS]
    fits = [shape.memory.fits for shape in shapes]
    assert fits == sorted(fits)
    caches = [shape.kv_cache_bytes for shape in shapes if shape.memory.fits]
    assert caches == sorted(caches)
    roomy = [shape.memory for shape in shapes if shape.memory.fits][1:]
    assert all(use.total > 0.9 * use.limit for use in roomy)


@pytest.mark.parametrize("seed", range(20))
def test_a_processor_serves_and_tunes_more_with_more_memory(seed: int) -> None:
    _, preset, model = drawn(seed)
    sizes = [
        local_machine(MachineProbe(cores=8, ram_bytes=gib * GIB, available_bytes=GIB))
        for gib in (8, 32, 128, 512)
    ]
    served = [shape_serving(model, sku, BOUNDS) for sku in sizes]
    assert {shape.device for shape in served} == {Device.CPU}
    assert [shape.memory.fits for shape in served] == sorted(shape.memory.fits for shape in served)
    contexts = [shape.context_length for shape in served if shape.memory.fits]
    assert contexts == sorted(contexts)
    trained = [tuned(preset, model, sku, TuningMethod.QLORA) for sku in sizes]
    assert [shape.memory.fits for shape in trained] == sorted(shape.memory.fits for shape in trained)
