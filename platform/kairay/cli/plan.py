"""`kairay plan`: what a Workspace would take, before anything is spent."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from kairay.cli.output import OutputFormat, output_option, print_data
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_table import render_plan
from kairay.registry.resolve import resolve_preset
from kairay.skus import load_skus, local_machine, probe_machine
from kairay.workspace import Workspace, load_documents


@click.command("plan")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--local", is_flag=True, help="Plan for this machine, as `kairay run` does, instead of cloud sizes."
)
@output_option
def command(files: tuple[Path, ...], local: bool, output: str) -> None:
    """Show the GPUs, the memory and the price that each Workspace in FILES needs; starts nothing.

    Ends with exit code 2 when one of them cannot run as written.
    """
    target = PlanTarget.LOCAL if local else PlanTarget.CLUSTER
    documents = [load_documents(file, drafts=True) for file in files]
    for word in (word for each in documents for word in each.unfilled):
        click.echo(f"note: {word} is a placeholder; fill it in before you run or apply the file", err=True)
    plans = [plan_for(workspace, target) for each in documents for workspace in each.workspaces]
    if output == OutputFormat.TABLE:
        click.echo("\n\n".join(render_plan(plan) for plan in plans))
    else:
        data = [plan.to_dict() for plan in plans]
        print_data(data[0] if len(data) == 1 else data, output)
    if any(plan.problems for plan in plans):
        raise SystemExit(2)


def plan_for(workspace: Workspace, target: PlanTarget) -> Plan:
    """Look at this machine and at the shipped tables, then plan."""
    work = workspace.tuning or workspace.inference
    preset_ref = work.preset if work else None
    if preset_ref is None:
        raise click.UsageError(
            f"{workspace.metadata.name}: inference.template runs on a cluster as it stands; there is nothing to plan"
        )
    return make_plan(
        workspace,
        resolve_preset(preset_ref.name),
        skus=load_skus(),
        machine=local_machine(probe_machine()),
        target=target,
        now=datetime.datetime.now(datetime.UTC).date(),
    )
