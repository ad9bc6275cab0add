"""Bring weights or data to a pod before its work starts: `python -m kairay.registry.fetch`.

Runs in init containers, so it may be killed at any moment and is run again: what it makes appears whole or not at
all, and what is there is left alone. Progress goes to stderr; the last line of stdout is one JSON object: the
folder, or {"error": {"reason", "message"}}. Exit codes are those of `kairay.errors`; 130 when stopped.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kairay.errors import KairayError

_STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch one thing; the exit code."""
    options = _parser().parse_args(arguments)
    fetch: Callable[[argparse.Namespace], Path] = options.fetch
    # As the first process of a container it would not notice SIGTERM at all.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        folder = fetch(options)
    except KairayError as error:
        return _report(error, error.exit_code)
    except KeyboardInterrupt:
        return _report(KairayError("stopped; run it again to fetch the rest", reason="Stopped"), _STOPPED)
    finally:
        signal.signal(signal.SIGTERM, before)
    _say(f"ready in {folder}")
    print(json.dumps({"folder": str(folder)}), flush=True)  # noqa: T201
    return 0


def fetch_model(options: argparse.Namespace) -> Path:
    """The preset's weights in the model cache."""
    from kairay.registry.models import model_cache_dir, resolve_model
    from kairay.registry.resolve import resolve_preset

    preset = resolve_preset(options.preset)
    return resolve_model(preset, override=options.model, cache=model_cache_dir(), report=_say)


def fetch_data(options: argparse.Namespace) -> Path:
    """A data image's plain files in a folder."""
    from kairay.registry.artifact import pull

    _say(f"pulling {options.reference}")
    pull(options.reference, options.folder)
    folder: Path = options.folder
    return folder


def _report(error: KairayError, code: int) -> int:
    _say(f"error: {error.message}")
    print(error.to_json(), flush=True)  # noqa: T201
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kairay.registry.fetch",
        description="Fetch weights or data, once; interrupted or unchanged, run it again.",
        epilog=(
            "Exit codes: 0 there, 2 wrong request, 4 this machine lacks something, 5 try later, 130 stopped."
        ),
    )
    what = parser.add_subparsers(required=True, metavar="WHAT")
    model = what.add_parser("model", help="a preset's weights, into the model cache")
    model.add_argument("--preset", required=True, metavar="NAME", help="the model, by preset name")
    model.add_argument("--model", metavar="WHERE", help="weights instead of the preset's own")
    model.set_defaults(fetch=fetch_model)
    data = what.add_parser("data", help="the files of a data image, into a folder")
    data.add_argument("reference", metavar="REFERENCE", help="oci:/folder:tag, or registry/repository:tag")
    data.add_argument("folder", type=Path, metavar="FOLDER", help="where the files shall be")
    data.set_defaults(fetch=fetch_data)
    return parser


if __name__ == "__main__":
    sys.exit(main())
