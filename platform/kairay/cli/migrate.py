"""`kairay migrate`: what becomes of KAITO's Workspaces, and the commands that hand them over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kairay.cli.context import on_cluster
from kairay.cli.output import OutputFormat, output_option, print_data, print_table

if TYPE_CHECKING:
    from kairay.cluster.migration import Migration
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


@click.command("migrate")
@click.option("-n", "--namespace", help="Only of this namespace; default: of the whole cluster.")
@click.option("--adopt", is_flag=True, help="Print the commands that hand them over; nothing is run.")
@output_option
def command(namespace: str | None, adopt: bool, output: str) -> None:
    """Say for every Workspace of the cluster whether Kairay takes it, what changes, and what KAITO leaves behind.

    It only looks. Exit code 0 also when some are refused.
    """
    stops, found = _look(namespace)
    if output != OutputFormat.TABLE:
        print_data({"stopKaito": list(stops), "workspaces": [each.to_dict() for each in found]}, output)
    elif adopt:
        click.echo("\n".join(command_lines(stops, found)))
    else:
        _print_report(stops, found)


def _look(namespace: str | None) -> tuple[tuple[str, ...], list[Migration]]:
    from kairay.cluster.migration import find_migrations
    from kairay.controller.kaito import look_for_kaito, stop_commands
    from kairay.skus import load_skus

    async def work(
        client: Client, connection: Connection, chosen: str
    ) -> tuple[tuple[str, ...], list[Migration]]:
        del connection, chosen
        today = datetime.now(UTC).date()
        found = await find_migrations(client, namespace, skus=load_skus(), today=today)
        return stop_commands(*await look_for_kaito(client, everywhere=True)), found

    return on_cluster(namespace, work)


def _print_report(stops: tuple[str, ...], found: list[Migration]) -> None:
    click.echo("KAITO is live" if stops else "KAITO is not live")
    if not found:
        click.echo("there are no Workspaces")
        return
    rows = [
        (each.namespace, each.name, each.state, str(sum(left.gpus for left in each.left))) for each in found
    ]
    print_table(("NAMESPACE", "NAME", "STATE", "GPUS HELD BY KAITO"), rows)
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
