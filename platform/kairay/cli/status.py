"""`kairay status`: what runs, how far it is and where it answers."""

from __future__ import annotations

import click

from kairay.cli.output import OutputFormat, output_option, print_data, print_table
from kairay.errors import InputError
from kairay.local.state import StateDir
from kairay.local.status import WorkspaceStatus, read_status


@click.command("status")
@click.argument("name", required=False)
@output_option
def command(name: str | None, output: str) -> None:
    """Show every Workspace that `kairay run` was given on this machine, or NAME alone with its details."""
    statuses = read_status(StateDir.default(), name)
    if name is not None and not statuses:
        raise InputError(f"there is no Workspace {name} here; `kairay status` lists those that are")
    if output != OutputFormat.TABLE:
        data = [status.to_dict() for status in statuses]
        print_data(data[0] if name is not None else data, output)
    elif name is not None:
        describe(statuses[0])
    elif statuses:
        print_table(("NAME", "KIND", "STATE", "PROGRESS", "URL"), [_row(status) for status in statuses])
    else:
        click.echo("no Workspaces here; `kairay run FILE` starts one")


def describe(status: WorkspaceStatus) -> None:
    """All that is known of one Workspace, a line each."""
    for key, value in status.to_dict().items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            value = ", ".join(str(v) for v in value)
        click.echo(f"{key + ':':<14} {value}")


def _row(status: WorkspaceStatus) -> tuple[str, ...]:
    progress = f"{status.progress.progress:.0%}" if status.progress else "-"
    return (status.name, str(status.kind), str(status.state), progress, status.url or "-")
