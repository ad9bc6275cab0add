"""`kairay migrate`: what becomes of KAITO's Workspaces, and the commands that hand them over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kairay.cli.context import on_cluster
from kairay.cli.output import OutputFormat, output_option, print_data, print_table

if TYPE_CHECKING:
    from kairay.cluster.migration import Migration
    from kairay.cluster.observed import Observed
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection
    from kairay.plan import Plan
    from kairay.workspace import Workspace


@click.command("migrate")
@click.option("-n", "--namespace", help="Only of this namespace; default: of the whole cluster.")
@click.option("--adopt", is_flag=True, help="Print the commands that hand them over; nothing is run.")
@output_option
def command(namespace: str | None, adopt: bool, output: str) -> None:
    """Say for every Workspace of the cluster whether Kairay takes it, what changes, and what KAITO leaves behind.

    It only looks. Exit code 0 also when some are refused.
    """
    basis, stops, found = _look(namespace)
    if output != OutputFormat.TABLE:
        workspaces = [each.to_dict() for each in found]
        print_data({"plannedWith": basis, "stopKaito": list(stops), "workspaces": workspaces}, output)
    elif adopt:
        click.echo("\n".join(command_lines(stops, found)))
    else:
        _print_report(basis, stops, found)


def _look(namespace: str | None) -> tuple[str, tuple[str, ...], list[Migration]]:
    """Whose settings were planned with, how KAITO is stopped, and each Workspace's way."""
    from kairay.cli.as_controller import draw_as_controller
    from kairay.cluster.doctor import observe_for_plans
    from kairay.cluster.migration import find_migrations
    from kairay.cluster.observed import Observed
    from kairay.controller.kaito import look_for_kaito, stop_commands
    from kairay.controller.settings import read_settings

    async def work(
        client: Client, connection: Connection, chosen: str
    ) -> tuple[str, tuple[str, ...], list[Migration]]:
        del chosen
        seen = Observed(server=connection.server, now=datetime.now(UTC), version="")
        seen = await observe_for_plans(client, seen, os.environ)
        settings = read_settings(seen.settings)

        def plan(workspace: Workspace, config_text: str | None) -> Plan:
            return draw_as_controller(workspace, seen, settings, config_text).plan

        found = await find_migrations(client, namespace, plan=plan)
        return _basis(seen), stop_commands(*await look_for_kaito(client, everywhere=True)), found

    return on_cluster(namespace, work)


def _basis(seen: Observed) -> str:
    if seen.controller is None:
        return "default settings, as no Kairay is seen here"
    return f"the settings of Kairay in namespace {seen.namespace}"


def _print_report(basis: str, stops: tuple[str, ...], found: list[Migration]) -> None:
    click.echo("KAITO is live" if stops else "KAITO is not live")
    if not found:
        click.echo("there are no Workspaces")
        return
    rows = [
        (each.namespace, each.name, each.state, str(sum(left.gpus for left in each.left))) for each in found
    ]
    print_table(("NAMESPACE", "NAME", "STATE", "GPUS HELD BY KAITO"), rows)
    click.echo(f"planned with {basis}")
    for each in found:
        lines = [f"refused: {each.refused}"] if each.refused else []
        lines += [f"before KAITO stops: {sentence}" for sentence in each.before]
        lines += [f"- {sentence}" for sentence in each.changes]
        lines += [f"KAITO leaves: {', '.join(map(str, each.left))}"] if each.left else []
        if lines:
            click.echo(f"\n{each.namespace}/{each.name}")
        for line in lines:
            click.echo(f"  {line}")
    if stops or any(each.commands for each in found):
        click.echo("\nthe commands, in their order: kairay migrate --adopt")


def command_lines(stops: tuple[str, ...], found: list[Migration]) -> Iterator[str]:
    """The hand-over for a shell, in its order: a copy, KAITO, each Workspace. What is no command is a comment."""
    for each in found:
        for sentence in ((f"refused: {each.refused}",) if each.refused else ()) + each.before:
            yield f"# {each.namespace}/{each.name}: {' '.join(sentence.split())}"
    yield "kubectl get workspaces -A -o yaml > workspaces-before-kairay.yaml"
    yield from stops
    yield "# from here on Kairay has to be installed: docs/cluster-guide.md"
    for each in found:
        yield from each.commands
