"""`kairay dashboard`: Ray's dashboard and Jobs API of a cluster's Workspace, on a port of this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from kairay.cli.context import on_cluster
from kairay.ray.pods import DASHBOARD_PORT

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


@click.command("dashboard")
@click.argument("name")
@click.option("-n", "--namespace", help="Default: the kube context's.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DASHBOARD_PORT, show_default=True, help="0: a free one."
)
def command(name: str, namespace: str | None, port: int) -> None:
    """Open a way to the Ray dashboard of Workspace NAME until Ctrl-C. `ray job submit` works through it as well."""
    from kairay.cluster.forward import forwarded, proxy_path
    from kairay.cluster.workspaces import find_head

    async def work(client: Client, connection: Connection, chosen: str) -> None:
        head = await find_head(client, chosen, name)
        path = proxy_path(head.pod, DASHBOARD_PORT)
        headers = {"X-Ray-Authorization": f"Bearer {head.token}"}
        async with forwarded(connection, path, port=port, headers=headers) as url:
            click.echo(f"dashboard  {url}")
            click.echo(f"jobs       RAY_AUTH_MODE=disabled ray job submit --address {url} -- COMMAND")
            click.echo("Ctrl-C ends it")
            await asyncio.Event().wait()

    on_cluster(namespace, work)
