"""Tune a preset on your data: `python -m kairay_train.qlora`.

The same program is a Workspace's job (with --config, written by Kairay) and a person's (with flags, from a
shell or by `ray job submit`). It prints progress on stderr and, as the last line of stdout, one JSON object:
the adapter's reference and digest, or {"error": {"reason", "message"}}. Exit codes are those of
`kairay.errors`; 130 when stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import ValidationError

from kairay.errors import InputError, KairayError
from kairay.presets import TuningMethod
from kairay.training_config import read_sections
from kairay_train.config import TuneConfig, first_fault, load_config


class StoppedError(KairayError):
    """Someone asked the job to end."""

    exit_code = 130
    reason = "Stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one tuning job; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _stoppable():
            result = _tune(_read_request(options))
    except KairayError as error:
        return _report(error)
    print(json.dumps(result), flush=True)  # noqa: T201
    return 0


def _report(error: KairayError) -> int:
    _say(f"error: {error.message}")
    print(error.to_json(), flush=True)  # noqa: T201
    return error.exit_code


def _tune(config: TuneConfig) -> dict[str, Any]:
    from kairay_train.driver import run

    return run(config, say=_say).to_dict()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM (`ray job stop`) and Ctrl-C end the run in order, workers first, as a StoppedError."""
    received: list[str] = []

    def stop(number: int, _: FrameType | None) -> None:
        if received:
            return
        received.append(signal.Signals(number).name)
        raise KeyboardInterrupt  # of all exceptions, Ray's calls let only this one through

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped by {' '.join(received)}; run it again to go on from the last checkpoint"
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kairay_train.qlora",
        description="Tune a model on your data by LoRA or QLoRA and store the adapter as an OCI artifact.",
        epilog=(
            "Example: python -m kairay_train.qlora --preset smollm2-135m-instruct --data train.jsonl "
            "--output oci:/tmp/adapters:mine. Under `ray job submit` it uses that Ray; alone it starts its own. "
            "Run again unchanged it finds the adapter there and does nothing; interrupted, it resumes. "
            "Exit codes: 0 done, 2 wrong request, 3 wrong data, 4 this machine lacks something, 5 try later, "
            "6 training failed, 130 stopped."
        ),
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON of a TuneConfig, instead of all the flags"
    )
    _add_what(parser.add_argument_group("what"))
    _add_how(parser.add_argument_group("how (defaults are the preset's)"))
    _add_where(parser.add_argument_group("where"))
    return parser


def _add_what(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--preset", metavar="NAME", help="the model, by preset name; `kairay presets` lists them"
    )
    what.add_argument(
        "--model",
        metavar="WHERE",
        help="weights to use instead of the preset's: folder, oci:DIR:TAG or hub id",
    )
    what.add_argument(
        "--data",
        action="append",
        metavar="FILE",
        help="file, folder or http(s) URL with chats, questions and answers, or text; repeat for several",
    )
    what.add_argument("--output", metavar="WHERE", help="oci:/folder:tag, or registry/repository:tag")
    what.add_argument("--method", choices=("qlora", "lora"), help="default qlora: base weights in 4 bits")
    what.add_argument("--name", metavar="NAME", help="name of the run (default: from the preset)")


def _add_how(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--epochs", metavar="N", help="passes over the data; not beside --max-steps")
    how.add_argument("--max-steps", metavar="N", help="optimiser steps, instead of epochs")
    how.add_argument("--learning-rate", metavar="X", help="peak learning rate")
    how.add_argument("--rank", metavar="N", help="rank of the LoRA matrices")
    how.add_argument(
        "--sequence-length", type=int, metavar="N", help="tokens of a packed row; longer rows are cut"
    )
    how.add_argument("--batch", type=int, metavar="N", help="packed rows in a step of one worker")
    how.add_argument("--seed", metavar="N", help="default 42")
    how.add_argument("--parameters", type=Path, metavar="FILE", help="KAITO's training_config.yaml")


def _add_where(where: argparse._ArgumentGroup) -> None:
    where.add_argument(
        "--storage", type=Path, metavar="DIR", help="checkpoints (default ~/.cache/kairay/runs)"
    )
    where.add_argument("--workers", type=int, metavar="N", help="default 1")
    where.add_argument("--gpus-per-worker", type=int, metavar="N", help="default 0: on CPUs")
    where.add_argument(
        "--cpus-per-worker", type=int, metavar="N", help="default: this machine's, shared by the workers"
    )
    where.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default float32, bfloat16 on GPUs"
    )
    where.add_argument("--deepspeed", choices=("zero2",), help="split optimiser state over the workers")


_FLAGS_WITHOUT_CONFIG = "preset", "data", "output"
_SECTION_FLAGS = {
    "epochs": ("TrainingArguments", "num_train_epochs"),
    "max_steps": ("TrainingArguments", "max_steps"),
    "learning_rate": ("TrainingArguments", "learning_rate"),
    "seed": ("TrainingArguments", "seed"),
    "rank": ("LoraConfig", "r"),
}


def _read_request(options: argparse.Namespace) -> TuneConfig:
    given = {name: value for name, value in vars(options).items() if value is not None}
    path = given.pop("config", None)
    if path is None:
        return _from_flags(given)
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given))
        raise InputError(f"--config says everything; leave out {names} or write it into {path}")
    return load_config(path)


def _from_flags(given: dict[str, Any]) -> TuneConfig:
    missing = [f"--{name}" for name in _FLAGS_WITHOUT_CONFIG if name not in given]
    if missing:
        raise InputError(f"{', '.join(missing)} missing: give them, or --config FILE; --help explains")
    gpus = given.get("gpus_per_worker", 0)
    workers = given.get("workers", 1)
    name = given.get("name") or re.sub(r"[^a-z0-9-]+", "-", given["preset"].lower()).strip("-")
    fields: dict[str, Any] = {
        "run": name,
        "workspace": name,
        "preset": given["preset"],
        "model": given.get("model"),
        "method": given.get("method", "qlora"),
        "data": given["data"],
        "output": given["output"],
        "storage": given.get("storage", _default_storage()).absolute(),
        "workers": workers,
        "gpus_per_worker": gpus,
        "cpus_per_worker": given.get("cpus_per_worker", max(1, (os.cpu_count() or 1) // max(1, workers))),
        "device": "cuda" if gpus else "cpu",
        "dtype": given.get("dtype", "bfloat16" if gpus else "float32"),
        "sequence_length": given.get("sequence_length"),
        "micro_batch": given.get("batch"),
        "deepspeed": given.get("deepspeed"),
        "parameters": _parameters(given),
    }
    try:
        return TuneConfig.model_validate(fields)
    except ValidationError as error:
        raise InputError(first_fault(error)) from error


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    """The file's sections with the flags laid over them."""
    sections: dict[str, Any] = {}
    if (path := given.get("parameters")) is not None:
        import yaml

        try:
            written = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())}") from error
        if not isinstance(written, dict):
            raise InputError(f"{path}: a mapping of sections is needed, such as TrainingArguments")
        sections = dict(written.get("training_config", written))
    for flag, (section, key) in _SECTION_FLAGS.items():
        if flag in given:
            sections[section] = {**(sections.get(section) or {}), key: given[flag]}
    _check_epochs(sections, given)
    return sections


def _check_epochs(sections: dict[str, Any], given: dict[str, Any]) -> None:
    """InputError for --epochs where steps are fixed too: these come first, and the flag would be lost in silence."""
    if "epochs" not in given:
        return
    method = TuningMethod(given.get("method", TuningMethod.QLORA))
    steps = read_sections(sections, method).settings.get("max_steps")
    if not isinstance(steps, int) or steps < 1:
        return
    if "max_steps" in given:
        raise InputError("--epochs and --max-steps contradict each other; leave one out")
    raise InputError(
        f"{given['parameters']}: TrainingArguments.max_steps {steps} and --epochs {given['epochs']} contradict each"
        " other; leave --epochs out, or take max_steps out of the file (or give --max-steps -1)"
    )


def _default_storage() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kairay" / "runs"


if __name__ == "__main__":
    sys.exit(main())
