"""Fetch weights or data before a pod's work begins: `python -m kairay.registry.fetch model|data`.

Runs as an init container. What is there already is not fetched again, and an interrupted fetch leaves nothing that
looks whole. The last line of a failure is one JSON object, as a tuning job's is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kairay.errors import KairayError
from kairay.presets import find_preset
from kairay.registry.artifact import pull
from kairay.registry.model_cache import model_cache_dir
from kairay.registry.models import resolve_model


def main(arguments: list[str] | None = None) -> int:
    """Fetch what the arguments say; the exit code is the error tree's."""
    options = _parser().parse_args(arguments)
    try:
        if options.what == "model":
            folder = resolve_model(
                find_preset(options.preset), override=options.model, cache=model_cache_dir(), report=_say
            )
            _say(f"the weights of {options.preset} are in {folder}")
        else:
            pull(options.reference, options.folder)
            _say(f"{options.reference} is in {options.folder}")
    except KairayError as error:
        _say(f"error: {error.message}")
        _say(json.dumps({"error": {"reason": error.reason, "message": error.message}}))
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kairay.registry.fetch", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    model = commands.add_parser("model", help="pull a preset's weights into the model cache")
    model.add_argument("--preset", required=True, metavar="NAME")
    model.add_argument("--model", metavar="WHERE", help="instead of the preset's own sources")
    data = commands.add_parser("data", help="pull an image with data and lay out its files")
    data.add_argument("reference", metavar="REFERENCE")
    data.add_argument("folder", type=Path, metavar="FOLDER")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  an init container's log


if __name__ == "__main__":
    sys.exit(main())
