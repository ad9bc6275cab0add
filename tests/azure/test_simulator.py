"""The simulator itself: it refuses what AKS's description refuses, keeps its own, and moves by its clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator import Clock, Cloud, Simulator, Timings

A100 = "Standard_NC24ads_A100_v4"
HERE = Path(__file__).parent


def url(azure: Simulator, pool: str = "p", more: str = "") -> str:
    return f"{azure.url}{azure.cloud.names.id}/agentPools/{pool}{more}?api-version=2026-08-01"


def put(azure: Simulator, body: Any, pool: str = "p", **headers: str) -> requests.Response:
    return requests.put(url(azure, pool), json=body, headers=headers, timeout=10)


GOOD = {"properties": {"vmSize": A100, "count": 1, "mode": "User"}}


@pytest.mark.parametrize(
    ("body", "pool", "says"),
    [
        ({"properties": {"vmSize": A100, "count": "1"}}, "p", "not of type 'integer'"),
        ({"properties": {"vmSize": A100, "size": 1}}, "p", "size"),
        ({"properties": {"vmSize": A100, "mode": "user"}}, "p", "user"),
        ({"properties": {"vmSize": A100, "eTag": "x"}}, "p", "eTag"),
        (GOOD, "Pool", "agentPoolName"),
        (GOOD, "poolpoolpoolpool", "agentPoolName"),
    ],
    ids=[
        "a count as text",
        "an unknown field",
        "wrong case",
        "a read-only field",
        "a capital",
        "a long name",
    ],
)
def test_a_request_outside_the_description_is_refused_and_remembered(body: Any, pool: str, says: str) -> None:
    with Simulator() as azure:
        answer = put(azure, body, pool)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequestContent")
        assert says in azure.arm.violations[0]


def test_an_answer_outside_the_description_is_remembered() -> None:
    with Simulator() as azure:
        azure.cloud.add_foreign("odd", {"vmSize": A100, "count": 1, "colour": "red"})
        requests.get(url(azure, "odd"), timeout=10)
        assert "colour" in azure.arm.violations[0]


def test_the_api_version_is_required() -> None:
    with Simulator() as azure:
        answer = requests.get(azure.url + azure.cloud.names.id, timeout=10)
        assert answer.status_code == 400


def test_an_operation_runs_to_its_end_and_says_so(azure: Simulator) -> None:
    made = put(azure, GOOD)
    assert made.status_code == 201
    operation = made.headers["Azure-AsyncOperation"]
    assert requests.get(operation, timeout=10).json()["status"] == "InProgress"
    azure.advance(240)
    assert requests.get(operation, timeout=10).json()["status"] == "Succeeded"
    assert put(azure, GOOD).status_code == 200


def test_nodes_join_before_the_operation_ends_and_their_gpus_come_later() -> None:
    seen: list[Any] = []
    with Simulator(
        on_nodes=lambda pool, added, removed: seen.append((pool, len(added), len(removed))),
        on_gpus=lambda pool, names: seen.append((pool, "gpus")),
    ) as azure:
        azure.advance(0)
        seen.clear()
        put(azure, GOOD)
        azure.advance(119)
        assert seen == []
        azure.advance(1)
        assert seen == [("p", 1, 0)]
        (node,) = [node for node in azure.nodes() if node["metadata"]["labels"]["agentpool"] == "p"]
        assert "nvidia.com/gpu" not in node["status"]["allocatable"]
        azure.advance(60)
        assert seen == [("p", 1, 0), ("p", "gpus")]
        assert azure.cloud.pools["p"].state == "Creating"
        azure.advance(1000)
        requests.delete(url(azure), timeout=10)
        azure.advance(1000)
        assert seen[-1] == ("p", 0, 1)


def test_a_spot_node_looks_as_on_aks(azure: Simulator) -> None:
    properties = {"scaleSetPriority": "Spot", "nodeTaints": ["sku=gpu:NoSchedule"], "nodeLabels": {"a": "b"}}
    put(azure, {"properties": {**GOOD["properties"], **properties}})
    azure.advance(400)
    (node,) = [node for node in azure.nodes() if node["metadata"]["labels"]["agentpool"] == "p"]
    assert (
        node["metadata"]["labels"].items()
        >= {
            "a": "b",
            "kubernetes.azure.com/accelerator": "nvidia",
            "kubernetes.azure.com/scalesetpriority": "spot",
            "node.kubernetes.io/instance-type": A100,
        }.items()
    )
    assert [taint["key"] for taint in node["spec"]["taints"]] == [
        "kubernetes.azure.com/scalesetpriority",
        "sku",
    ]
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"vmSize": "Standard_NC40ads_H100_v5"}, "PropertyChangeNotAllowed"),
        ({"nodeLabels": {"kubernetes.azure.com/x": "y"}}, "InvalidParameter"),
        ({"tags": {"a/b": "c"}}, "InvalidTagNameCharacters"),
        ({"count": 1001}, "InvalidParameter"),
    ],
)
def test_what_aks_refuses_of_a_change_is_refused(azure: Simulator, change: dict[str, Any], code: str) -> None:
    put(azure, GOOD)
    azure.advance(240)
    body = requests.get(url(azure), timeout=10).json()["properties"]
    kept = {
        key: value
        for key, value in body.items()
        if key not in ("eTag", "provisioningState", "nodeImageVersion")
    }
    kept.pop("currentOrchestratorVersion")
    answer = put(azure, {"properties": {**kept, **change}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_an_aborted_operation_leaves_the_pool_at_rest(azure: Simulator) -> None:
    put(azure, GOOD)
    assert requests.post(url(azure, more="/abort"), timeout=10).status_code == 202
    assert azure.cloud.pools["p"].state == "Canceled"
    assert requests.post(url(azure, more="/abort"), timeout=10).status_code == 204


def test_quota_is_looked_at_before_machines_are_made(azure: Simulator) -> None:
    azure.cloud.quota.limits["cores"] = 20
    answer = put(azure, GOOD)
    assert "Total Regional Cores quota" in answer.json()["error"]["message"]
    assert "p" not in azure.cloud.pools


def test_twenty_writes_at_once_are_fine_and_the_next_waits_a_minute(azure: Simulator) -> None:
    answers = [put(azure, GOOD) for _ in range(21)]
    assert [answer.status_code for answer in answers[:3]] == [201, 409, 409]
    assert (answers[20].status_code, answers[20].headers["Retry-After"]) == (429, "60")
    azure.advance(60)
    assert put(azure, GOOD).status_code == 409


def test_it_runs_alone_and_is_told_what_to_do() -> None:
    command = [sys.executable, "-m", "simulator", "--speed", "0", "--create-seconds", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE) as process:
        assert process.stdout is not None
        base = process.stdout.readline().strip() + "/_control/"

        def tell(path: str, **body: Any) -> Any:
            return requests.post(base + path, data=json.dumps(body), timeout=10).json()

        def ask(path: str) -> Any:
            return requests.get(base + path, timeout=10).json()

        tell("foreign", name="spot", properties={"vmSize": A100, "count": 2, "scaleSetPriority": "Spot"})
        (evicted,) = tell("evict", pool="spot")
        assert evicted not in [node["metadata"]["name"] for node in ask("nodes")]
        assert tell("faults", code="AllocationFailed", operation=True) == {"faults": 1}
        assert requests.delete(base + "faults", timeout=10).json() == {"faults": 0}
        assert tell("quota", cores=10) == {"cores": 10}
        assert tell("advance", seconds=5) == {"now": 5.0}
        assert "there are" in tell("nonsense")["error"]
        assert "faults" in tell("faults", colour="red")["error"]
        assert (ask("calls"), ask("state")["violations"]) == ({}, [])
        process.terminate()
        assert process.wait(10) == 0


def test_with_a_running_clock_things_happen_by_themselves() -> None:
    joined: list[tuple[str, ...]] = []
    cloud = Cloud(clock=Clock(speed=1000), timings=Timings(create=20, register=10, gpus=1))
    with Simulator(cloud, on_nodes=lambda pool, added, removed: joined.append(added)) as azure:
        put(azure, GOOD)
        for _ in range(200):
            if len(joined) == 2 and azure.nodes()[0]["status"]["allocatable"].get("nvidia.com/gpu"):
                break
            azure._ended.wait(0.02)
        assert [len(names) for names in joined] == [1, 1]
