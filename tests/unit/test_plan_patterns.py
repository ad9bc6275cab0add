"""Patterns of users are run only where that cannot take for ever."""

from __future__ import annotations

import pytest

from kairay.plan_patterns import matches_any

NAMES = ("model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.11.mlp.up_proj", "lm_head")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("lm_head", True),
        ("lm_hea", False),
        (r".*\.layers\.\d+\.self_attn\.(q|k|v)_proj", True),
        (r".*\.layers\.[1-9]\d*\.self_attn\.(q|k|v)_proj", False),
        (r".*\.(q|k|v|o|gate|up|down)_proj", True),
        (r"(?!.*mlp).*up_proj", False),
        (r"[^]()*+|]*_proj", True),
        (r".*\(+", False),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, found: bool) -> None:
    assert matches_any(pattern, NAMES) is found


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+)+x",
        r"(?:.*_)*x",
        r"(\w|.){9}x",
        r"(?x)(\w+) +x",
        r"(?x:(\w+) +x)",
        r".*.*.*.*x",
        r"(\w|.)" * 30 + "x",
        ".?" * 30 + "x",
        "a" * 201,
        "(" * 3000,
    ],
)
def test_a_pattern_that_may_take_for_ever_is_not_run(pattern: str) -> None:
    assert matches_any(pattern, NAMES) is None


@pytest.mark.parametrize("pattern", ["*.q_proj", "(q", "[q", "q{99999999999}", r"(?P<a>q)(?P<a>q)"])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        matches_any(pattern, NAMES)
