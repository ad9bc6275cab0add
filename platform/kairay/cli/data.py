"""`kairay data check`: training data is wrong here, or nowhere."""

from __future__ import annotations

from pathlib import Path

import click

from kairay.cli.output import OutputFormat, output_option, print_data
from kairay.data_files import files_of
from kairay.errors import DataError, HostError


@click.group("data")
def command() -> None:
    """Check training data before anything is spent on it."""


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option
def check(files: tuple[Path, ...], output: str) -> None:
    """Read every row of FILES as a tuning job would, and name each that is broken by file and line.

    A folder stands for the data files in it, as for a tuning job. Takes parquet, jsonl, json, csv and arrow with chat
    messages, prompt/completion, instruction/input/output, instruction/context/response, ShareGPT conversations or text;
    the shape is recognised by content.
    """
    try:
        from kairay_train import data
    except ModuleNotFoundError as error:
        raise HostError(
            f"reading data needs the package {error.name}: pip install 'kairay[worker]'"
        ) from error

    report = data.check([each for file in files for each in files_of(file)])
    if output != OutputFormat.TABLE:
        print_data(report.to_dict(), output)
    else:
        click.echo(report.summary())
    if report.problems:
        count = "one problem" if report.problem_count == 1 else f"{report.problem_count} problems"
        raise DataError(f"{count} found; mend what is listed above")
