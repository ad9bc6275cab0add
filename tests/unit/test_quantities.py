from __future__ import annotations

import pytest

from kairay.errors import InputError
from kairay.quantities import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("24Gi", 24 * 2**30),
        ("1.5Ti", 3 * 2**39),
        ("512Mi", 512 * 2**20),
        ("100k", 100_000),
        ("2M", 2_000_000),
        ("1e3", 1000),
        ("12E6", 12_000_000),
        ("3E", 3 * 10**18),
        (".5Ki", 512),
        ("1.", 1),
        (" 7Gi ", 7 * 2**30),
        ("0.1", 1),  # Kubernetes rounds up
        ("1500m", 2),
        ("+1Ki", 1024),
    ],
)
def test_a_kubernetes_quantity_is_whole_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "24Gi"),
        ("many", "24Gi"),
        ("24 GB", "24Gi"),
        ("24GB", "Gi (1024) or G (1000)"),
        ("24GiB", "take Gi"),
        ("24gi", "take Gi"),
        ("1K", "Ki (1024) or k (1000)"),
        ("-1Gi", "between 0 and 8Ei"),
        ("9E99", "between 0 and 8Ei"),
        ("1e999", "24Gi"),
        ("٣Gi", "24Gi"),
        ("1" * 1000, "24Gi"),
    ],
)
def test_what_is_no_size_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_bytes(text)
    assert remedy in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (700 * 2**20, "700 MiB"),
        (24 * 2**30, "24 GiB"),
        (3 * 2**29, "1.5 GiB"),
        (2**30 - 1, "1 GiB"),
        (2**40, "1 TiB"),
        (-(2**30), "-1 GiB"),
    ],
)
def test_bytes_read_well(size: int, text: str) -> None:
    assert format_bytes(size) == text
