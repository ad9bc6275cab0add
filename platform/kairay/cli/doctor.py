"""`kairay doctor`: what a cluster lacks, before a person waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kairay.cli.output import OutputFormat, output_option, print_data
from kairay.errors import HostError, InputError, KairayError

if TYPE_CHECKING:
    from kairay.cluster.findings import Finding
    from kairay.cluster.observed import Need, Observed
    from kairay.controller.settings import Settings
    from kairay.kube.client import Client
    from kairay.workspace import Documents, Workspace

_MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "missing": ("✗", "red")}
"""By status: sign and colour."""


@click.command("doctor")
@click.option(
    "-w",
    "--workspace",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also check what the Workspaces of this file need: nodes by their labels, sizes, quota.",
)
@click.option("-n", "--namespace", help="Where Workspaces are meant to be; default: the kube context's.")
@output_option
def command(file: Path | None, namespace: str | None, output: str) -> None:
    """Say what is missing on the cluster that kubectl talks to, and in Azure where nodes come from there.

    It only reads. Ends with exit code 4 when something is missing; warnings do not count.
    """
    from kairay.cluster.findings import is_missing
    from kairay.workspace import load_documents

    documents = None if file is None else load_documents(file, drafts=True)
    findings = asyncio.run(_examine(documents, namespace))
    if output == OutputFormat.TABLE:
        print_findings(findings)
    else:
        print_data([each.to_dict() for each in findings], output)
    if is_missing(findings):
        raise SystemExit(HostError.exit_code)


def print_findings(findings: Iterable[Finding]) -> None:
    """A line for each, with a sign for how it is."""
    findings = list(findings)
    width = max(len(each.name) for each in findings)
    for each in findings:
        sign, colour = _MARKS[each.status]
        click.echo(f"{click.style(sign, fg=colour, bold=True)} {each.name.ljust(width)}   {each.sentence}")
    counts = {word: sum(each.status == word for each in findings) for word in _MARKS}
    click.echo(
        f"{counts['missing']} missing, {counts['warning']} to look at, {counts['ok']} as they should be"
    )


async def _examine(documents: Documents | None, namespace: str | None) -> list[Finding]:
    from kairay.cluster.checks import check
    from kairay.cluster.checks_nodes import check_need
    from kairay.cluster.doctor import observe
    from kairay.cluster.findings import missing
    from kairay.controller.settings import Settings, read_settings
    from kairay.kube.client import Client
    from kairay.kube.connect import connect

    try:
        connection = connect()
    except KairayError as error:
        return [missing("Kubernetes", error.message)]
    now, namespace = datetime.now(UTC), namespace or connection.namespace
    async with Client(connection) as client:
        seen = await observe(
            client, server=connection.server, namespace=namespace, environment=os.environ, now=now
        )
        if not seen.answers:
            return check(seen)
        findings = [*check(seen), await _look_for_kaito(client)]
        settings = Settings()
        try:
            settings = read_settings(seen.settings)
        except KairayError as error:
            findings.append(missing("settings", f"the controller does not start with them: {error.message}"))
        draw = partial(draw_need, seen=seen, settings=settings)
        if documents is not None:
            for each in documents.workspaces:
                need = await _need(client, each, namespace, documents.config_maps, draw)
                findings += check_need(need, seen)
    return findings


async def _look_for_kaito(client: Client) -> Finding:
    from kairay.cluster.findings import Unseen, missing, ok, unseen
    from kairay.controller.kaito import look_for_kaito, obstacle

    name = "KAITO"
    try:
        found = obstacle(*await look_for_kaito(client, everywhere=True))
    except KairayError as error:
        return unseen(name, Unseen(why=error.message))
    return ok(name, "is not live here") if found is None else missing(name, found)


async def _need(
    client: Client, workspace: Workspace, namespace: str, written: Mapping[str, Mapping[str, str]],
    draw: Callable[..., Need],
) -> Need:  # fmt: skip
    """`draw` is draw_need with what all Workspaces share."""
    from kairay.cluster.configs import find_config
    from kairay.cluster.findings import Unseen
    from kairay.cluster.observed import Need

    try:
        config = await find_config(client, workspace, namespace, written)
    except InputError as error:
        return Need(workspace=workspace.metadata.name, ready=False, sentence=error.message)
    if isinstance(config, Unseen):
        return replace(draw(workspace), unseen=config)
    return draw(workspace, config_text=config)


def draw_need(
    workspace: Workspace, *, seen: Observed, settings: Settings, config_text: str | None = None
) -> Need:
    """The controller's own plan and words for a Workspace, on the nodes that were seen."""
    from kairay.cli.as_controller import draw_as_controller, nodes_seen
    from kairay.cluster.observed import Need
    from kairay.controller.blueprint import resource_condition
    from kairay.nodes.existing import matching

    name, work = workspace.metadata.name, workspace.tuning or workspace.inference
    if work is None or work.preset is None:
        found = [
            each.name for each in matching(nodes_seen(seen), workspace.resource.label_selector) if each.ready
        ]
        said = ", ".join(found) or "no ready node"
        return Need(workspace=name, ready=bool(found), sentence=f"{said} with the Workspace's labels")
    try:
        blueprint = draw_as_controller(workspace, seen, settings, config_text)
    except KairayError as error:
        return Need(workspace=name, ready=False, sentence=error.message)
    condition = resource_condition(workspace, blueprint)
    chosen, group = blueprint.plan.chosen, blueprint.group
    return Need(
        workspace=name,
        ready=condition.status,
        sentence=condition.message,
        nodes=chosen.nodes if chosen is not None else 1,
        offers=group.offers if group is not None else (),
    )
