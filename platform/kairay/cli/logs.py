"""`kairay logs`: the tuning job's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kairay.cli.context import cluster_options, on_cluster
from kairay.local.logs import other_log, read_logs
from kairay.local.state import StateDir

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--tail", type=click.IntRange(min=1), help="Only the last so many lines.")
@cluster_options
def command(name: str, follow: bool, tail: int | None, cluster: bool, namespace: str | None) -> None:
    """Print the log of the last tuning job of Workspace NAME; on a cluster while its head is there."""
    if not cluster and namespace is None:
        if (note := other_log(StateDir.default(), name)) is not None:
            click.echo(f"note: {note}", err=True)
        for line in read_logs(StateDir.default(), name, follow=follow, tail=tail):
            click.echo(line)
        return
    from kairay.cluster.joblog import follow_log

    async def work(client: Client, connection: Connection, chosen: str) -> None:
        async for line in follow_log(client, connection, chosen, name, follow=follow, tail=tail):
            click.echo(line)

    on_cluster(namespace, work)
