"""Machine sizes: the shipped table, and this machine as one more size."""

from __future__ import annotations

from datetime import date

import pytest

from kairay.machine import MachineProbe, ProbedGpu, parse_gpus, probe_machine
from kairay.skus import (
    CLOUDS,
    Device,
    SkuKind,
    SkuStatus,
    allocatable,
    find_sku,
    load_skus,
    local_machine,
    nearest_skus,
)

TODAY = date(2026, 11, 24)
GIB = 2**30


def test_every_size_that_can_be_had_says_what_it_is() -> None:
    for sku in load_skus().values():
        if sku.retired(TODAY):
            assert sku.replacements, sku.name
            continue
        assert sku.gpus > 0, sku.name
        assert sku.cores > 0, sku.name
        assert sku.bytes_per_gpu > 0 or sku.share == "unknown", sku.name
        assert sku.vendor in {"nvidia", "amd", "aws"}, sku.name
        assert (sku.usd_per_hour is None) == (sku.price_as_of is None), sku.name


def test_the_quota_of_a_size_is_azures_name_for_it_and_absent_where_nobody_says_it() -> None:
    skus = load_skus()
    assert skus["Standard_NC24ads_A100_v4"].quota_family == "StandardNCADSA100v4Family"
    assert skus["Standard_NC24lds_xl_RTXPRO6000BSE_v6"].quota_family is None
    for sku in (sku for sku in skus.values() if sku.kind is SkuKind.AZURE):
        gone = sku.retired(TODAY) or sku.status is SkuStatus.UNLISTED
        assert gone or sku.quota_family or "lds_" in sku.name, sku.name


def test_a_size_says_its_node_images_its_disks_and_its_network() -> None:
    h100 = load_skus()["Standard_ND96isr_H100_v5"]
    assert (h100.systems, h100.nvme, h100.rdma) == (("ubuntu", "azurelinux3"), "8x3.5TiB", "400Gb/s x8")
    assert load_skus()["Standard_ND128isr_GB300_v6"].systems == ("ubuntu",)
    assert load_skus()["Standard_NC4as_T4_v3"].rdma is None


def test_sizes_come_in_the_order_of_their_names() -> None:
    assert list(load_skus()) == sorted(load_skus())


def test_every_replacement_is_a_size_that_can_be_had() -> None:
    for sku in load_skus().values():
        for name in sku.replacements:
            assert not load_skus()[name].retired(TODAY), (sku.name, name)


def test_the_example_of_the_walk_through_is_a_v100_that_is_gone() -> None:
    sku = load_skus()["Standard_NC6s_v3"]
    assert (sku.gpus, sku.bytes_per_gpu, sku.compute_capability) == (1, 16 * GIB, (7, 0))
    assert (sku.status, sku.retired_on, sku.usd_per_hour) == (SkuStatus.RETIRED, "2025-09-30", 3.06)
    assert sku.replacements[0] == "Standard_NC40ads_H100_v5"


@pytest.mark.parametrize(
    ("name", "day", "gone"),
    [
        ("Standard_NC6s_v3", date(2025, 9, 29), False),
        ("Standard_NC6s_v3", date(2025, 9, 30), True),
        ("Standard_NC6", date(2026, 1, 1), True),
        ("Standard_NC4as_T4_v3", date(2030, 1, 1), False),
    ],
)
def test_a_size_is_retired_from_its_day_on(name: str, day: date, gone: bool) -> None:
    assert load_skus()[name].retired(day) is gone


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("standard_nc24ads_a100_v4", "Standard_NC24ads_A100_v4"),
        ("Standard_ND96asr_A100_v4", "Standard_ND96asr_v4"),
    ],
)
def test_a_size_is_found_in_any_case_and_by_kaitos_name(asked: str, found: str) -> None:
    sku = find_sku(asked, load_skus())
    assert sku is not None
    assert sku.name == found


def test_an_unknown_size_has_nearest_ones_that_can_be_had() -> None:
    assert find_sku("Standard_NC24ads_A100", load_skus()) is None
    assert nearest_skus("Standard_NC24ads_A100", load_skus(), TODAY)[0] == "Standard_NC24ads_A100_v4"
    assert "Standard_NC6s_v3" not in nearest_skus("Standard_NC6s_v4", load_skus(), TODAY)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("p5.48xlarg", "p5.48xlarge"), ("g6.xlarg", "g6.xlarge"), ("NC24ads_A100_v4", "Standard_NC24ads_A100_v4"),
        ("Standard_ND96isr_H100", "Standard_ND96isr_H100_v5"), ("Standard_D4s_v5", None), ("m5.xlarge", None),
        ("Standard_F8s_v2", None), ("Standard_DS2_v2", None),
    ],
)  # fmt: skip
def test_only_a_mistyped_name_has_near_ones(name: str, near: str | None) -> None:
    assert next(iter(nearest_skus(name, load_skus(), TODAY)), None) == near


def test_shares_of_a_gpu_are_told_from_whole_ones() -> None:
    skus = load_skus()
    assert skus["Standard_NV6ads_A10_v5"].share == "1/6"
    assert skus["Standard_NC8ads_A10_v4"].share == "unknown"
    assert skus["Standard_NV36ads_A10_v5"].share is None


def test_kaitos_sizes_of_aws_and_azure_local_are_there() -> None:
    skus = load_skus()
    p5 = skus["p5en.48xlarge"]
    assert (p5.kind, p5.hardware, p5.usd_per_hour) == (SkuKind.AWS, "8 × H200 SXM 141 GiB", 63.296)
    assert skus["g6.12xlarge"].hardware == "4 × L4 24 GiB"
    assert skus["Standard_NC16_A2"].kind is SkuKind.AZURE_LOCAL
    assert {sku.kind for sku in skus.values()} == set(CLOUDS)


def test_a_size_says_what_keeps_it_from_the_usual_images() -> None:
    skus = load_skus()
    assert skus["Standard_ND96isr_MI300X_v5"].vendor == "amd"
    assert skus["Standard_ND128isr_GB300_v6"].architecture == "arm64"
    assert skus["Standard_NV6ads_A10_v5"].share is not None
    plain = skus["Standard_NC24ads_A100_v4"]
    assert (plain.vendor, plain.architecture, plain.share) == ("nvidia", "x64", None)


def test_a_node_keeps_a_core_and_some_memory_for_itself() -> None:
    skus = load_skus()
    assert allocatable(skus["Standard_NC24ads_A100_v4"]) == (23, 198 * GIB)
    cores, memory = allocatable(skus["Standard_NC4as_T4_v3"])
    assert (cores, round(memory / GIB, 1)) == (3, 25.2)
    assert allocatable(skus["g5.xlarge"])[1] == int(13.5 * GIB)
    assert allocatable(skus["Standard_NC8_A2"]) == (7, 0)
    for sku in skus.values():
        cores, memory = allocatable(sku)
        assert cores < max(2, sku.cores), sku.name
        assert memory == 0 or memory < sku.ram_bytes, sku.name


def test_a_t4_has_no_bfloat16_and_an_a100_has() -> None:
    assert not load_skus()["Standard_NC4as_T4_v3"].bf16
    assert load_skus()["Standard_NC24ads_A100_v4"].bf16


def test_a_machine_without_gpu_is_its_processor() -> None:
    sku = local_machine(MachineProbe(cores=8, ram_bytes=16 * GIB, available_bytes=10 * GIB))
    assert (sku.kind, sku.device, sku.cores, sku.free_bytes) == (SkuKind.LOCAL, Device.CPU, 8, 10 * GIB)
    assert sku.hardware == "8 cores, 16 GiB"


def test_a_machine_with_gpus_is_them_and_keeps_its_processor_beside() -> None:
    sku = local_machine(probe_with(gpu(capability=(8, 9)), gpu(capability=(8, 6), total=12 * GIB)))
    assert (sku.device, sku.gpus, sku.bytes_per_gpu) == (Device.CUDA, 2, 12 * GIB)
    assert sku.compute_capability == (8, 6)
    assert sku.without_gpu is not None
    assert sku.without_gpu.device is Device.CPU


def test_a_gpu_that_torch_no_longer_supports_is_not_used() -> None:
    assert local_machine(probe_with(gpu(capability=(7, 0)))).device is Device.CPU


def test_the_drivers_answer_is_read() -> None:
    text = "NVIDIA GeForce RTX 4090, 24564, 23011, 8.9\nTesla T4, 15360, 15000, 7.5\n"
    first, second = parse_gpus(text)
    assert (first.name, first.total_bytes, first.compute_capability) == (
        "GeForce RTX 4090",
        24564 * 2**20,
        (8, 9),
    )
    assert second.free_bytes == 15000 * 2**20


@pytest.mark.parametrize("text", ["", "No devices were found", "Tesla T4, [N/A], [N/A], 7.5", "a, b\nc"])
def test_an_odd_answer_of_the_driver_means_no_gpu(text: str) -> None:
    assert parse_gpus(text) == ()


def test_this_machine_can_be_probed() -> None:
    probe = probe_machine()
    assert probe.cores >= 1
    assert 0 < probe.available_bytes <= probe.ram_bytes


def gpu(*, capability: tuple[int, int], total: int = 24 * GIB) -> ProbedGpu:
    return ProbedGpu(
        name="Some GPU", total_bytes=total, free_bytes=total - GIB, compute_capability=capability
    )


def probe_with(*gpus: ProbedGpu) -> MachineProbe:
    return MachineProbe(cores=16, ram_bytes=64 * GIB, available_bytes=60 * GIB, gpus=gpus)
