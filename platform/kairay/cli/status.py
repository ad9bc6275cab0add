"""`kairay status`: what runs, how far it is and where it answers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import click

from kairay.cli.context import cluster_options, on_cluster
from kairay.cli.output import OutputFormat, output_option, print_data, print_table
from kairay.errors import InputError
from kairay.local.state import StateDir
from kairay.local.status import WorkspaceStatus, read_status

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection


_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
_MOST_MESSAGE: Final = 100
"""Characters of a message in the table; the whole is shown with the name."""


@click.command("status")
@click.argument("name", required=False)
@output_option
@cluster_options
def command(name: str | None, output: str, cluster: bool, namespace: str | None) -> None:
    """Show every Workspace that `kairay run` was given on this machine, or NAME alone with its details.

    With --cluster those of the cluster that kubectl talks to.
    """
    if cluster or namespace is not None:
        _show_cluster(name, output, namespace)
        return
    statuses = read_status(StateDir.default(), name)
    if name is not None and not statuses:
        raise InputError(
            f"there is no Workspace {name} here; `kairay status` lists those that are, --cluster asks the cluster"
        )
    if output != OutputFormat.TABLE:
        data = [status.to_dict() for status in statuses]
        print_data(data[0] if name is not None else data, output)
    elif name is not None:
        describe(statuses[0].to_dict())
    elif statuses:
        print_table(("NAME", "KIND", "STATE", "PROGRESS", "URL"), [_row(status) for status in statuses])
    else:
        click.echo(
            "no Workspaces here; `kairay run FILE` starts one, `kairay status --cluster` asks the cluster"
        )


def describe(told: dict[str, Any]) -> None:
    """All that is known of one Workspace, a line each; what has parts of its own, below it."""
    for key, value in told.items():
        if value in _NOTHING:
            continue
        if not isinstance(value, dict):
            click.echo(f"{key + ':':<14} {_text(value)}")
            continue
        parts = {name: part for name, part in value.items() if part not in _NOTHING}
        plain = {name: part for name, part in parts.items() if not isinstance(part, dict | list)}
        click.echo(f"{key + ':':<14} {_text(plain)}".rstrip())
        for name in (name for name in parts if name not in plain):
            click.echo(f"  {name + ':':<12} {_text(parts[name])}")


def _show_cluster(name: str | None, output: str, namespace: str | None) -> None:
    from kairay.cluster.workspaces import find_workspaces

    async def work(client: Client, connection: Connection, chosen: str) -> tuple[str, list[dict[str, Any]]]:
        del connection
        return chosen, await find_workspaces(client, chosen, name)

    chosen, found = on_cluster(namespace, work)
    data = [{"name": each["metadata"]["name"], **(each.get("status") or {})} for each in found]
    if output != OutputFormat.TABLE:
        print_data(data[0] if name is not None else data, output)
    elif name is not None:
        _describe_remote(data[0])
    elif data:
        print_table(("NAME", "STATE", "PROGRESS", "MESSAGE"), [_remote_row(each) for each in data])
    else:
        click.echo(f"no Workspaces in namespace {chosen}; `kairay apply FILE` makes one")


def _text(value: Any) -> str:
    """One line: `a, b` of a list, `key value, …` of a mapping."""
    match value:
        case dict():
            return ", ".join(f"{key} {_text(part)}" for key, part in value.items() if part not in _NOTHING)
        case list():
            sentences = any(" " in str(part) for part in value)
            return ("; " if sentences else ", ").join(_text(part) for part in value)
        case _:
            return str(value)


def _describe_remote(told: dict[str, Any]) -> None:
    conditions = told.pop("conditions", [])
    describe({key: value for key, value in told.items() if key != "observedGeneration"})
    for each in conditions:
        click.echo(f"{each['type'] + ':':<20} {each['status']:<6} {each['reason']}: {each['message']}")


def _remote_row(told: dict[str, Any]) -> tuple[str, ...]:
    percent = (told.get("tuning") or {}).get("progressPercent")
    progress = "-" if percent is None else f"{percent}%"
    message = textwrap.shorten(str(told.get("message", "")), _MOST_MESSAGE, placeholder="…")
    return told["name"], str(told.get("state", "-")), progress, message


def _row(status: WorkspaceStatus) -> tuple[str, ...]:
    progress = f"{status.progress.progress:.0%}" if status.progress else "-"
    return (status.name, str(status.kind), str(status.state), progress, status.url or "-")
