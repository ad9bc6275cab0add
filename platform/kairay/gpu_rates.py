"""How fast GPUs compute: the peak rates of `presets/skus/gpus.csv`, each with its source."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from types import MappingProxyType

from kairay.resources import data_dir
from kairay.skus import Sku

_MIG_SLICE = re.compile(r"([1-7])g\.")


def peak_flops(sku: Sku) -> float | None:
    """Operations a second of one GPU of this size (of the part of one that it has): dense matrix products in
    bfloat16, in float16 where there is no bfloat16; None where no table says it."""
    if sku.gpu is None or sku.share == "unknown":
        return None
    rate = next((rate for name, rate in load_rates().items() if _is(name, sku.gpu)), None)
    return None if rate is None else rate * float(_part(sku.share))


@cache
def load_rates() -> Mapping[str, float]:
    """Operations a second by the GPU's name, the longest names first."""
    with (data_dir("presets") / "skus" / "gpus.csv").open(encoding="utf-8", newline="") as lines:
        rates = {row["gpu"]: float(row["tflops"]) * 1e12 for row in csv.DictReader(lines, strict=True)}
    return MappingProxyType(dict(sorted(rates.items(), key=lambda pair: (-len(pair[0]), pair[0]))))


def _part(share: str | None) -> Fraction:
    """`1/6` as it says; a MIG slice has so many of the seven parts that compute."""
    if share is None:
        return Fraction(1)
    mig = _MIG_SLICE.match(share)
    return Fraction(int(mig[1]), 7) if mig else Fraction(share)


def _is(name: str, gpu: str) -> bool:
    """All words of the table's name are in the name that a driver or a node's label gives.

    `H100 SXM` is not in `NVIDIA-H100-80GB-HBM3`, which is one: what has HBM3 is taken for SXM.
    """
    words = set(gpu.replace("-", " ").replace("_", " ").casefold().split())
    wanted = set(name.casefold().split()) - {"tesla"}
    if words & {"hbm3", "hbm3e", "sxm2", "sxm3", "sxm4", "sxm5"}:
        words.add("sxm")
    return wanted <= words
