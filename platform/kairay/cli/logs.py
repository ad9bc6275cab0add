"""`kairay logs`: the tuning job's log."""

from __future__ import annotations

import click

from kairay.local.logs import read_logs
from kairay.local.state import StateDir


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--tail", type=click.IntRange(min=1), help="Only the last so many lines.")
def command(name: str, follow: bool, tail: int | None) -> None:
    """Print the log of the tuning job of Workspace NAME."""
    for line in read_logs(StateDir.default(), name, follow=follow, tail=tail):
        click.echo(line)
