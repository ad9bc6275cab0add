"""Peak rates of GPUs, by the table's names and by those of drivers and nodes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from kairay.gpu_rates import load_rates, peak_flops
from kairay.skus import load_skus

TODAY = date(2026, 11, 24)


def test_every_nvidia_size_that_can_be_had_has_a_rate() -> None:
    for sku in load_skus().values():
        if sku.vendor == "nvidia" and not sku.retired(TODAY) and sku.share != "unknown":
            assert peak_flops(sku), sku.name


@pytest.mark.parametrize(
    ("gpu", "named"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100 SXM"),
        ("NVIDIA-A100-PCIE-40GB", "A100 PCIe"),
        ("NVIDIA-H100-80GB-HBM3", "H100 SXM"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA-A10G", "A10G"),
        ("NVIDIA-A10", "A10"),
        ("Tesla-T4", "Tesla T4"),
    ],
)
def test_what_a_node_calls_its_gpu_is_found(gpu: str, named: str) -> None:
    assert peak_flops(replace(load_skus()["g5.xlarge"], gpu=gpu)) == load_rates()[named]


def test_a_gpu_that_no_table_knows_has_no_rate() -> None:
    assert peak_flops(replace(load_skus()["g5.xlarge"], gpu="Quadro P400")) is None


def test_a_share_of_a_gpu_has_its_share_of_the_rate() -> None:
    skus = load_skus()
    whole, third = skus["Standard_NV36ads_A10_v5"], skus["Standard_NV12ads_A10_v5"]
    assert peak_flops(third) == pytest.approx((peak_flops(whole) or 0) / 3)
    assert peak_flops(skus["Standard_NC8ads_A10_v4"]) is None


def test_a_mig_slice_has_its_sevenths_of_the_rate() -> None:
    a100 = load_skus()["Standard_NC24ads_A100_v4"]
    assert peak_flops(replace(a100, share="3g.40gb")) == pytest.approx(3 / 7 * 312e12)
