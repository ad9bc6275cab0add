"""`kairay presets`: the models that need no parameter."""

from __future__ import annotations

from typing import Any

import click

from kairay.cli.output import OutputFormat, output_option, print_data, print_table
from kairay.presets import Preset, load_presets
from kairay.quantities import format_bytes


@click.command("presets")
@output_option
def command(output: str) -> None:
    """List the models that need no parameter, with what they can do and under which licence."""
    presets = list(load_presets().values())
    if output != OutputFormat.TABLE:
        print_data([_as_data(preset) for preset in presets], output)
        return
    print_table(
        ("NAME", "MODEL", "WEIGHTS", "CONTEXT", "TUNING", "LICENCE"), [_as_row(preset) for preset in presets]
    )


def _as_row(preset: Preset) -> tuple[str, ...]:
    methods = ",".join(preset.tuning.methods) if preset.tuning else "-"
    gated = " (gated)" if preset.model.gated else ""
    weights = format_bytes(preset.model.weight_bytes)
    return (
        preset.name,
        preset.model.id,
        weights,
        f"{preset.model.context_length:,}",
        methods,
        preset.model.license + gated,
    )


def _as_data(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "aliases": list(preset.aliases),
        "model": preset.model.id,
        "revision": preset.model.revision,
        "licence": preset.model.license,
        "gated": preset.model.gated,
        "weightBytes": preset.model.weight_bytes,
        "quantisation": str(preset.model.quantisation),
        "contextLength": preset.model.context_length,
        "tuningMethods": [str(m) for m in preset.tuning.methods] if preset.tuning else [],
    }
