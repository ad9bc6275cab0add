"""`kairay apply`: give a Workspace to the cluster that kubectl talks to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kairay.cli.context import on_cluster

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-n", "--namespace", help="Default: the kube context's.")
def command(file: Path, namespace: str | None) -> None:
    """Apply the Workspaces and ConfigMaps of FILE, checked here first; other documents are kubectl's to apply."""
    from kairay.cluster.workspaces import apply_file

    async def work(client: Client, connection: Connection, chosen: str) -> list[str]:
        del connection
        return await apply_file(client, file, chosen)

    for sentence in on_cluster(namespace, work):
        click.echo(sentence)
    click.echo("follow it with: kairay status --cluster")
