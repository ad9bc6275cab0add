"""docs/aks.md says what the code does: the table of errors, the role's actions, the plugin's tolerations."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aks_scenario import made, ours, run, spec
from kairay.nodes.aks import AksProvider
from kairay.nodes.aks_catalogue import CATALOGUE, OTHERWISE
from kairay.nodes.aks_complaint import Row
from kairay.nodes.aks_facts import facts_of
from kairay.nodes.aks_settings import CLUSTER, ENDPOINT, GROUP, LOCATION, SUBNET, SUBSCRIPTION
from simulator import Simulator
from simulator.nodes import taints_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "aks.md"
SECTION = re.compile(r"<!-- errors -->\n.*<!-- /errors -->", re.DOTALL)
ACTIONS = {
    "GET cluster": "Microsoft.ContainerService/managedClusters/read",
    "GET pools": "Microsoft.ContainerService/managedClusters/agentPools/read",
    "GET pool": "Microsoft.ContainerService/managedClusters/agentPools/read",
    "PUT pool": "Microsoft.ContainerService/managedClusters/agentPools/write",
    "DELETE pool": "Microsoft.ContainerService/managedClusters/agentPools/delete",
    "POST deleteMachines": "Microsoft.ContainerService/managedClusters/agentPools/deleteMachines/action",
    "GET usages": "Microsoft.Compute/locations/usages/read",
    "GET skus": "Microsoft.Compute/skus/read",
}
"""What Azure asks of who makes the call."""


def line(row: Row) -> str:
    blanks = {**facts_of(""), "figures": "", "size": "the size", "said": "Azure's words", "code": "the code"}
    codes = ", ".join(f"`{code.replace('.*', '*')}`" for code in row.code.split("|") if code)
    statuses = ", ".join(f"HTTP {status.replace('.', 'x')}" for status in row.status.split("|") if status)
    avoided = f"{row.avoid / 60:.0f} min" if row.avoid < 3600 else f"{row.avoid / 3600:.0f} h"
    if row.avoid_spot is not None:
        avoided += f" ({row.avoid_spot / 3600:.0f} h as spot)"
    patterns = "; ".join(part for part in (codes, statuses) if part)
    told = f"{row.title}: {patterns}" if patterns else row.title
    return f"| {told} | {row.kind} | {avoided if row.avoid else ''} | {row.message.format(**blanks)} |"


def table() -> str:
    head = ["| Azure says | reason | avoided | Kairay says |", "|---|---|---|---|"]
    return "\n".join([*head, *(line(row) for row in (*CATALOGUE, OTHERWISE))])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_table_of_errors_is_the_catalogue() -> None:
    """`KAIRAY_WRITE_DOCS=1 pytest tests/azure/test_aks_docs.py` writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    wanted = SECTION.sub(lambda _: f"<!-- errors -->\n{table()}\n<!-- /errors -->", text)
    if os.environ.get("KAIRAY_WRITE_DOCS"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert text == wanted


def test_the_roles_allow_every_call_and_nothing_else(azure: Simulator) -> None:
    async def everything(provider: AksProvider) -> None:
        pool = await ours(provider)
        await provider.quota([pool.offer])
        await provider.remove(pool, [azure.cloud.pools["kra100"].machines[0].name])
        azure.advance(60)
        await provider.scale(await ours(provider), 5)
        azure.advance(180)
        await provider.delete(await ours(provider))

    made(azure)
    pool = run(azure, ours)
    run(azure, lambda provider: provider.scale(pool, 2))
    azure.advance(180)
    run(azure, everything)
    used = {ACTIONS[call] for call in azure.arm.calls}
    given = {action for role in blocks("json") for action in json.loads(role)["Actions"]}
    assert used == given


@pytest.mark.parametrize("spot", [False, True])
def test_the_device_plugin_of_the_docs_runs_on_our_nodes(azure: Simulator, spot: bool) -> None:
    run(azure, lambda provider: provider.ensure(spec(spot=spot), 1))
    values = next(each for each in map(yaml.safe_load, blocks("yaml")) if "tolerations" in each)
    tolerated = {f"{each['key']}={each.get('value', '')}:{each['effect']}" for each in values["tolerations"]}
    assert set(taints_of(azure.cloud.pools["kra100"].properties, spot)) <= tolerated


def test_the_values_of_the_docs_are_the_charts() -> None:
    chart = DOCS.parents[1] / "kuberay" / "chart"
    values = next(each for each in map(yaml.safe_load, blocks("yaml")) if "aks" in each)
    ours = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    merged = {**ours, **{key: {**ours[key], **values[key]} for key in values}}
    jsonschema.validate(merged, json.loads((chart / "values.schema.json").read_text(encoding="utf-8")))


def test_every_variable_is_explained() -> None:
    text: Any = DOCS.read_text(encoding="utf-8")
    assert [
        n for n in (SUBSCRIPTION, GROUP, CLUSTER, LOCATION, SUBNET, ENDPOINT) if f"`{n}`" not in text
    ] == []
