"""The `kairay` command: finds the subcommand, maps errors to one sentence and an exit code.

Subcommands are imported only when they are called, so that `kairay plan` does not pay for what `kairay run` needs.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from kairay import __version__
from kairay.errors import KairayError
from kairay.values import nearest

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "plan": ("kairay.cli.plan", "Show the GPUs, memory and price that a Workspace needs; starts nothing."),
    "run": ("kairay.cli.run", "Tune and serve a Workspace on this machine."),
    "apply": ("kairay.cli.apply", "Give a Workspace to the cluster that kubectl talks to."),
    "chat": ("kairay.cli.chat", "Talk to a model that serves."),
    "status": ("kairay.cli.status", "Show what runs, how far it is and where it answers."),
    "logs": ("kairay.cli.logs", "Show the tuning job's log."),
    "stop": ("kairay.cli.stop", "Stop a Workspace, or everything that Kairay started here."),
    "presets": ("kairay.cli.presets", "List the models that need no parameter."),
    "models": ("kairay.cli.models", "Show what is known of any model: a folder, an image, a hub id."),
    "dashboard": ("kairay.cli.dashboard", "Open a way to the Ray dashboard of a cluster's Workspace."),
    "prices": ("kairay.cli.prices", "Show what machines cost, or fetch Azure's prices of today."),
    "migrate": (
        "kairay.cli.migrate",
        "Say what becomes of KAITO's Workspaces on a cluster; changes nothing.",
    ),
    "doctor": ("kairay.cli.doctor", "Say what a cluster lacks, before anybody waits for it."),
    "data": ("kairay.cli.data", "Check training data before anything is spent on it."),
    "env": ("kairay.cli.env", "Print what `ray job submit` and the dashboard need."),
    "completion": ("kairay.cli.completion", "Print the shell completion script."),
}
"""Command -> (module that defines it under the command's own name, one line of help)."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a first walk through the tool."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; it knows no names to suggest, as none of ours is imported."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = nearest(args[0], COMMANDS)
            if near is None:
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


EPILOG = """\b
Exit codes: 0 done, 1 failed, 2 the file or flag must change, 3 the data must change,
4 this machine lacks something, 5 try again later, 6 the job failed, 130 interrupted.
"""


@click.command(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kairay")
def cli() -> None:
    """Tune and serve language models from one YAML file: KAITO Workspaces on Ray."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run, then leave with the exit code that the outcome means."""
    try:
        code = cli.main(args=arguments, prog_name="kairay", standalone_mode=False)
    except KairayError as error:
        fail(error.message)
        code = error.exit_code
    except click.UsageError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str) -> None:
    """One sentence on stderr, red on a terminal."""
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)


if __name__ == "__main__":
    main()
