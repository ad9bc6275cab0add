"""Azure's quota: no plan exceeds one that is known, an unknown one is a warning."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from kairay.errors import InputError
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_quota import Quota, parse_usages
from kairay.presets import find_preset
from kairay.skus import load_skus
from kairay.workspace import parse_documents

T4_FAMILY, A100_FAMILY = "Standard NCASv3_T4 Family", "StandardNCADSA100v4Family"
T4 = "Standard_NC4as_T4_v3"
SERVING = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {{name: serve-it}}
resource: {{labelSelector: {{matchLabels: {{app: test}}}}{resource}}}
inference:
  preset: {{name: phi-3-mini-4k-instruct}}
  scaling: {{minReplicas: 1, maxReplicas: {replicas}}}
"""


def test_a_size_beyond_the_quota_loses_and_says_by_how_much() -> None:
    plan = planned(Quota.of({T4_FAMILY: 6}), replicas=2)
    t4 = next(candidate for candidate in plan.candidates if candidate.sku.name == T4)
    assert not t4.fits
    assert t4.reason == f"8 cores of quota are needed, 6 of {T4_FAMILY} are free"
    assert plan.chosen is not None
    assert plan.chosen.sku.quota_family != T4_FAMILY


def test_a_quota_that_is_enough_or_is_spelled_otherwise_is_found() -> None:
    plan = planned(Quota.of({"standardncasv3_t4FAMILY": 4}))
    assert plan.chosen is not None
    assert plan.chosen.sku.name == T4
    assert plan.warnings == ()


def test_a_quota_that_is_not_known_is_a_warning() -> None:
    plan = planned(Quota.of({A100_FAMILY: 0}))
    assert plan.chosen is not None
    assert plan.chosen.sku.name == T4
    assert plan.warnings == (f"the quota for 4 cores of {T4} is not known",)


def test_the_regions_own_limit_counts_too_and_when_nothing_is_left_the_plan_says_so() -> None:
    plan = planned(Quota.of({"cores": 3}))
    assert plan.chosen is None
    assert "is within the quota" in plan.problems[0]
    assert "4 cores of quota are needed, 3 of the region are free" in plan.problems[0]


def test_spot_machines_have_a_quota_of_their_own() -> None:
    free = Quota.of({"lowPriorityCores": 2, T4_FAMILY: 100})
    assert planned(free, resource=", spot: true").chosen is None
    assert planned(free).chosen is not None
    assert planned(Quota.of({"lowPriorityCores": 9, "cores": 0}), resource=", spot: true").chosen is not None


def test_usages_are_read_as_the_command_and_as_the_api_write_them() -> None:
    rows: list[dict[str, Any]] = [{"name": {"value": A100_FAMILY}, "currentValue": "24", "limit": "96"}]
    for text in (json.dumps(rows), json.dumps({"value": rows})):
        assert parse_usages(text, "usages.json") == Quota.of({A100_FAMILY: 72})


@pytest.mark.parametrize("text", ["", "[1]", '{"value": [{"name": "x"}]}', '[{"name": {"value": "a"}}]'])
def test_what_is_no_list_of_usages_is_refused_with_the_command_that_writes_one(text: str) -> None:
    with pytest.raises(InputError, match=r"usages\.json: .* az vm list-usage"):
        parse_usages(text, "usages.json")


def planned(quota: Quota, *, replicas: int = 1, resource: str = "") -> Plan:
    text = SERVING.format(replicas=replicas, resource=resource)
    (workspace,) = parse_documents(text, "test.yaml").workspaces
    return make_plan(
        workspace, find_preset("phi-3-mini-4k-instruct"), skus=load_skus(), machine=None,
        target=PlanTarget.CLUSTER, now=date(2026, 11, 24), quota=quota,
    )  # fmt: skip
