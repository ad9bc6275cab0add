"""`kairay models inspect`: what is known of any model, as a preset that could be kept."""

from __future__ import annotations

from dataclasses import replace

import click

from kairay.cli.named_model import told_of_folder
from kairay.cli.output import OutputFormat, output_option, print_data
from kairay.model_config import unknown_facts
from kairay.presets import find_preset, preset_data, render_preset
from kairay.quantities import format_bytes
from kairay.registry.resolve import preset_of, read_model


@click.group("models")
def command() -> None:
    """Look at models, of the catalogue or not."""


@command.command("inspect")
@click.argument("model")
@output_option
def inspect(model: str, output: str) -> None:
    """Print the facts of MODEL as a preset: from its config.json and the headers of its weights, which are not loaded.

    MODEL is a folder, oci:/layout:tag, an image with its registry, a hub id (from the cache where it is there), or
    the name of a preset.
    """
    files = read_model(model)
    with told_of_folder(model, f": write ./{model}"):
        preset = find_preset(model) if files is None else preset_of(files)
    unknown = () if files is None else unknown_facts(files.config, preset.model)
    formats = {} if files is None else dict(files.published.formats)
    if output != OutputFormat.TABLE:
        print_data({"preset": preset_data(preset), "unknown": list(unknown), "weightBytes": formats}, output)
        return
    click.echo(f"# weights: {format_bytes(preset.model.weight_bytes)}{_by_format(formats)}")
    if unknown:
        click.echo(f"# not known from its files: {', '.join(unknown)}")
    click.echo(render_preset(replace(preset, name=_file_name(preset.name))), nl=False)


def _by_format(formats: dict[str, int]) -> str:
    parts = [f"{name} {format_bytes(size)}" for name, size in formats.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _file_name(name: str) -> str:
    """What a preset file of this model would be called."""
    return name.rstrip("/").rpartition("/")[2].partition(":")[0].casefold()
