from __future__ import annotations

import pytest

from kairay import names

LONG = "a-workspace-with-a-name-as-long-as-kubernetes-lets-it-be-000063"
REVISION = "0a1b2c"


def test_short_names_stay_as_they_are() -> None:
    assert names.ray_name("phi", REVISION) == "phi-0a1b2c"
    assert names.ray_service_name("phi") == "phi"
    assert names.service_name(LONG) == LONG
    assert names.claim_name("phi") == "phi-run"
    assert names.api_keys_name("phi") == "phi-api-keys"
    assert names.adapter_tag("0.0.1", REVISION) == "0.0.1-0a1b2c"


def test_a_run_carries_the_uid_so_that_a_namesake_is_not_adopted() -> None:
    assert names.run_name("phi", REVISION) == "phi-0a1b2c"
    assert names.run_name("phi", REVISION, "8f14e45f-ceea-467f-a9d4-5f3c0a4a4a11") == "phi-0a1b2c-8f14e45f"


@pytest.mark.parametrize("length", range(38, 64))
def test_every_ray_name_fits_and_is_a_dns_label(length: int) -> None:
    workspace = ("a" + "-b" * 40)[:length].rstrip("-")
    for name in (names.ray_name(workspace, REVISION), names.ray_service_name(workspace)):
        assert len(name) <= 47
        assert "--" not in name
        assert not name.endswith("-")


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert names.ray_name(LONG, REVISION) != names.ray_name(LONG[:-1] + "4", REVISION)


def test_a_cut_name_is_the_same_in_every_release() -> None:
    assert names.ray_name(LONG, REVISION) == "a-workspace-with-a-name-as-long-a-103d8e-0a1b2c"


def test_a_long_tag_is_cut_to_what_registries_take() -> None:
    tag = names.adapter_tag("x" * 128, REVISION)
    assert len(tag) == 128
    assert tag.endswith("-0a1b2c")
