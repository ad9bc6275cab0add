"""`python -m onebox up|down|build|kairay|status|env`."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import click

from onebox import holder as holders
from onebox.addons import DEPLOYMENTS, STORAGE_DEPLOYMENT, unavailable
from onebox.api import ApiError
from onebox.cluster import DEFAULT_GPUS, Cluster, build_tools, ensure_up, take_down
from onebox.errors import OneboxError, Report
from onebox.kairay import install
from onebox.layout import Layout
from onebox.processes import parts
from onebox.stop import leftovers

_MIB = 2**20


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A real Kubernetes with the real KubeRay operator on this machine."""


@cli.command()
@click.option(
    "--gpus", default=DEFAULT_GPUS, show_default=True, help="nvidia.com/gpu that the node pretends to have."
)
def up(gpus: int) -> None:
    """Start the cluster (the first time on a machine its programs are built: minutes)."""
    cluster, started = ensure_up(_progress(), gpus)
    if not started:
        click.echo("the cluster of this clone is up already")
    click.echo('\neval "$(make -s cluster-env)"     # KUBECONFIG and kubectl for this shell')
    click.echo(f"pod image         {cluster.image}")
    click.echo(f"registry          {cluster.registry} (in pods also registry.kairay-system:5000)")
    click.echo(
        f"private registry  {cluster.private_registry} "
        f"(user {cluster.registry_user}, password {cluster.registry_password})"
    )
    click.echo(f"logs              {cluster.logs}")


@cli.command()
@click.option("--force", is_flag=True, help="Also when another clone of the project started it.")
def down(*, force: bool) -> None:
    """Stop the cluster and leave nothing behind but its logs."""
    take_down(_progress(), force=force)


@cli.command()
@click.option("--if-possible", is_flag=True, help="Say why it is not possible and end with 0.")
def build(*, if_possible: bool) -> None:
    """Build the cluster's programs without starting it."""
    try:
        build_tools(_progress())
    except OneboxError as error:
        if not if_possible:
            raise
        click.echo(f"cluster: {error}\ncluster: the tests that need one will be skipped", err=True)


@cli.command()
def kairay() -> None:
    """Install Kairay on the running cluster; again after an edit of kuberay/install or of the code."""
    cluster = Cluster.running()
    if cluster is None:
        raise OneboxError("no cluster of this clone is up; `make cluster-up` starts one")
    install(cluster, _progress())


@cli.command()
def status() -> None:
    """Say what runs, how much memory it takes, and what is not available. Exit code 3 when it is not up."""
    layout = Layout.default()
    holder = holders.read(layout)
    running = parts()
    if holder is None:
        click.echo("no cluster is up on this machine")
        for line in leftovers(layout):
            click.echo(f"left over: {line} (`make cluster-down` removes it)")
        sys.exit(3)
    click.echo(
        f"started {holder.started} from {holder.clone}, {'up' if holder.up else 'not up: its start was cut off'}"
    )
    for name, group in itertools.groupby(running, key=lambda part: part.name):
        members = list(group)
        memory = sum(part.memory for part in members) // _MIB
        who = f"pid {members[0].pid}" if len(members) == 1 else f"{len(members)} processes"
        click.echo(f"  {name:<26} {who:<14} {memory:>5} MiB")
    cluster = Cluster.running()
    if cluster is None:
        click.echo(f"the API server does not answer for this clone; logs: {layout.logs}")
        sys.exit(3)
    missing = unavailable(cluster.api, (*DEPLOYMENTS, STORAGE_DEPLOYMENT))
    click.echo(
        f"not available: {', '.join(missing)}"
        if missing
        else "API server, DNS, registries, operator and claims answer"
    )


@cli.command()
def env() -> None:
    """Print the shell lines that point kubectl at the cluster."""
    layout = Layout.default()
    holder = holders.read(layout)
    if holder is None or not layout.kubeconfig.exists():
        raise OneboxError("no cluster is up on this machine; `make cluster-up` starts one")
    click.echo(f"export KUBECONFIG={layout.kubeconfig}")
    if Path(holder.tools, "kubectl").exists():
        click.echo(f'export PATH="{holder.tools}:$PATH"')


def main() -> None:
    """Run a command; a failure is one message on stderr and exit code 1, Ctrl-C is 130."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (OneboxError, ApiError, OSError) as error:
        # requests' own errors are OSErrors too.
        click.echo(f"cluster: {error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("cluster: stopped", err=True)
        sys.exit(130)


def _progress() -> Report:
    """Lines on stderr with the seconds since now."""
    began = time.monotonic()

    def report(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)

    return report


if __name__ == "__main__":
    main()
