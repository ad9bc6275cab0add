"""Kubernetes quantities ("24Gi", "500M", "1.5Ti", "1e9") to whole bytes, and bytes to text for a person.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from kairay.errors import InputError

_BINARY = {suffix: 1024**power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}
_DECIMAL = {suffix: 1000**power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)}
_SMALL = {"m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_FACTORS = (
    {suffix: Decimal(factor) for suffix, factor in (_BINARY | _DECIMAL).items()} | _SMALL | {"": Decimal(1)}
)

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]{1,2})|([A-Za-z]*))")
_MOST = 2**63 - 1
"""Kubernetes keeps quantities in 64 bits."""


def parse_bytes(text: str) -> int:
    """Whole bytes of a Kubernetes quantity, rounded up; InputError for all else, like a negative size."""
    match = _QUANTITY.fullmatch(text.strip()) if len(text) <= 64 and text.isascii() else None
    if match is None:
        raise InputError(f"{text[:64]!r} is not a size; write one such as 24Gi, 512Mi or 1.5T")
    number, exponent, suffix = match.groups()
    factor = _FACTORS.get(suffix or "")
    if factor is None:
        raise InputError(f"{text.strip()!r} ends in an unknown unit {suffix!r}; take {_nearest_unit(suffix)}")
    size = math.ceil(Decimal(number + (exponent or "")) * factor)
    if not 0 <= size <= _MOST:
        raise InputError(f"{text.strip()!r} is not a size between 0 and 8Ei")
    return size


def format_bytes(size: int) -> str:
    """`size` bytes for a person: "24 GiB", "1.5 GiB", "700 MiB"; one decimal at most, binary units."""
    for suffix, factor in reversed(_BINARY.items()):
        # The half step keeps 1023.96 MiB from becoming "1024 MiB".
        if abs(size) >= factor - factor / 1024 / 20:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {suffix}B"
    return f"{size} B"


def _nearest_unit(suffix: str) -> str:
    """What a person who wrote GB, gib or MB means."""
    letter = suffix[:1].upper()
    if f"{letter}i" not in _BINARY:
        return "Ki, Mi, Gi or Ti"
    return (
        f"{letter}i"
        if "i" in suffix[1:].lower()
        else f"{letter}i (1024) or {'k' if letter == 'K' else letter} (1000)"
    )
