"""`kairay stop`: give back what a Workspace holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kairay.cli.context import cluster_options, on_cluster
from kairay.local.state import StateDir
from kairay.local.stop import stop_all, stop_workspace

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


@click.command("stop")
@click.argument("name", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Everything that Kairay started on this machine, Ray included."
)
@click.option(
    "--forget", is_flag=True, help="Also delete what is kept of it here: record, checkpoints, adapter copies."
)
@cluster_options
def command(name: str | None, everything: bool, forget: bool, cluster: bool, namespace: str | None) -> None:
    """Stop the Workspace NAME: its service and its job. The adapter stays, so that `kairay run` only serves it again.

    The Ray instance ends when nothing else uses it. Stopping what does not run is no error; an unknown NAME is. With
    --cluster the Workspace is deleted from the cluster; its adapter stays in the registry.
    """
    if (name is None) == (not everything):
        raise click.UsageError("give a NAME or --all")
    if cluster or namespace is not None:
        if name is None or forget:
            raise click.UsageError("--all and --forget are of this machine; give a NAME with --cluster")
        _delete(name, namespace)
        return
    state = StateDir.default()
    stopped = (
        stop_all(state, forget=forget) if everything else stop_workspace(state, name or "", forget=forget)
    )
    for sentence in stopped or ["nothing was running"]:
        click.echo(sentence)


def _delete(name: str, namespace: str | None) -> None:
    from kairay.cluster.workspaces import delete_workspace

    async def work(client: Client, connection: Connection, chosen: str) -> str:
        del connection
        await delete_workspace(client, chosen, name)
        return chosen

    click.echo(f"Workspace {name} deleted from namespace {on_cluster(namespace, work)}")
