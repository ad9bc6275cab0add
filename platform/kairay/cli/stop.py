"""`kairay stop`: give back what a Workspace holds."""

from __future__ import annotations

import click

from kairay.local.state import StateDir
from kairay.local.stop import stop_all, stop_workspace


@click.command("stop")
@click.argument("name", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Everything that Kairay started on this machine, Ray included."
)
@click.option(
    "--forget", is_flag=True, help="Also delete what is kept of it here: record, checkpoints, adapter copies."
)
def command(name: str | None, everything: bool, forget: bool) -> None:
    """Stop the Workspace NAME: its service and its job. The adapter stays, so that `kairay run` only serves it again.

    The Ray instance ends when nothing else uses it. Stopping what does not run is no error; an unknown NAME is.
    """
    if (name is None) == (not everything):
        raise click.UsageError("give a NAME or --all")
    state = StateDir.default()
    stopped = (
        stop_all(state, forget=forget) if everything else stop_workspace(state, name or "", forget=forget)
    )
    for sentence in stopped or ["nothing was running"]:
        click.echo(sentence)
