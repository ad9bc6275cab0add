"""`kairay apply`: give a Workspace to the cluster that kubectl talks to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kairay.cli.context import on_cluster
from kairay.cli.plan import PlanFormat, PlanInputs, plan_all, show
from kairay.cli.prices import price_file, prices_option
from kairay.errors import KairayError
from kairay.plan import PlanTarget
from kairay.prices import priced_skus
from kairay.workspace import load_documents

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-n", "--namespace", help="Default: the kube context's.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; nor does a script without a terminal get asked.")
@prices_option
def command(file: Path, namespace: str | None, yes: bool, prices: Path | None) -> None:
    """Apply the Workspaces and ConfigMaps of FILE, checked here first; other documents are kubectl's to apply.

    Shows the plan and asks before anything that costs money. Nodes that are there already are not looked at: the
    controller plans for those with the Workspace's labels.
    """
    from kairay.cluster.workspaces import apply_file

    documents = load_documents(file)
    inputs = PlanInputs(skus=priced_skus(price_file(prices)), target=PlanTarget.CLUSTER)
    try:
        show(plan_all(documents, inputs), PlanFormat.TABLE)
    except KairayError as error:
        # A model that only the cluster can reach is no reason to stop here.
        click.echo(f"note: there is no plan to show: {error.message}", err=True)
    if not yes and sys.stdin.isatty() and not click.confirm("\nApply it?", default=True):
        click.echo("nothing was applied")
        raise SystemExit(1)

    async def work(client: Client, connection: Connection, chosen: str) -> list[str]:
        del connection
        return await apply_file(client, file, chosen)

    for sentence in on_cluster(namespace, work):
        click.echo(sentence)
    click.echo("follow it with: kairay status --cluster")
