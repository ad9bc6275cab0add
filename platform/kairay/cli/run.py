"""`kairay run`: tune and serve a Workspace on this machine."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from kairay.cli.output import OutputFormat, output_option, print_data
from kairay.cli.plan import plan_to_run
from kairay.errors import InputError
from kairay.local.run import RunOptions, RunResult, run_workspace
from kairay.local.state import StateDir
from kairay.workspace import Documents, Workspace, load_documents


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Which Workspace, when FILE holds several.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Where the model answers."
)
@click.option(
    "--dashboard-port",
    type=click.IntRange(1, 65535),
    default=8265,
    show_default=True,
    help="Ray's dashboard.",
)
@click.option("--address", help="Join this Ray dashboard (http://…) instead of starting an instance.")
@click.option("--retry", is_flag=True, help="Tune again although this revision failed before.")
@output_option
def command(
    file: Path,
    name: str | None,
    port: int,
    dashboard_port: int,
    address: str | None,
    retry: bool,
    output: str,
) -> None:
    """Tune and serve the Workspace in FILE on this machine, without Kubernetes.

    Takes the very file that `kubectl apply` takes. A tuning Workspace tunes, keeps its adapter and serves the tuned
    model; an inference Workspace serves. Run again, it goes on where it was: what is done is not done twice. Ctrl-C
    stops tuning at its last checkpoint.
    """
    from kairay.cli.terminal import JsonReporter, TerminalReporter

    documents = load_documents(file)
    workspace = choose(documents, name, file)
    folder = file.resolve().parent
    plan = plan_to_run(workspace, documents.config_maps, folder)
    if plan.problems:
        raise InputError(f"{workspace.metadata.name} cannot run on this machine: " + "; ".join(plan.problems))
    signal.signal(signal.SIGTERM, _interrupt)
    options = RunOptions(port=port, dashboard_port=dashboard_port, address=address, retry=retry)
    table = output == OutputFormat.TABLE
    with TerminalReporter() if table else JsonReporter() as reporter:
        result = run_workspace(
            workspace, plan, documents.config_maps,
            base_dir=folder, state=StateDir.default(), reporter=reporter, options=options,
        )  # fmt: skip
    if table:
        show(result)
    else:
        print_data(result.to_dict(), output)


def choose(documents: Documents, name: str | None, file: Path) -> Workspace:
    """The Workspace to run; an InputError lists those in the file when the choice is not clear."""
    names = [w.metadata.name for w in documents.workspaces]
    found = [w for w in documents.workspaces if name in (None, w.metadata.name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{file} holds no Workspace named {name}; it holds {', '.join(names)}")
    raise InputError(f"{file} holds several Workspaces, choose one with --name: {', '.join(names)}")


def show(result: RunResult) -> None:
    """Where it answers, and what to try next."""
    if result.adapter is not None:
        click.echo(f"adapter    {result.adapter.reference}  ({result.adapter.digest[:19]})")
    if result.url is None:
        return
    body = json.dumps({"prompt": "What is the Moon?"})
    click.echo(f"url        {result.url}")
    click.echo(f"models     {', '.join(result.models)}")
    click.echo("\ntry        " + f"kairay chat {result.name}")
    click.echo(f"           curl -X POST {result.url}/chat -H 'Content-Type: application/json' -d '{body}'")
    click.echo("           kairay status · kairay stop " + result.name)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """A polite kill is a Ctrl-C: the job stops at its checkpoint and what was started is given back."""
    raise KeyboardInterrupt
