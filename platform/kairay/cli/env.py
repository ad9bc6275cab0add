"""`kairay env`: what `ray job submit` and the dashboard need."""

from __future__ import annotations

import shlex

import click

from kairay.cli.output import OutputFormat, output_option, print_data
from kairay.local.ray_instance import env_exports
from kairay.local.state import StateDir


@click.command("env")
@output_option
def command(output: str) -> None:
    """Print `export` lines for the Ray instance that `kairay run` started: eval "$(kairay env)".

    Then `ray job submit`, `ray job list` and the Ray client find it and hold its token.
    """
    exports = env_exports(StateDir.default())
    if output != OutputFormat.TABLE:
        print_data(exports, output)
        return
    for name, value in exports.items():
        click.echo(f"export {name}={shlex.quote(value)}")
