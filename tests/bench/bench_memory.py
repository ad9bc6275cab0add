"""Estimates of memory against what real runs hold at their fullest moment, on this machine's processor.

Each case runs in a process of its own: the real small model and three randomly initialised shapes (dense, grouped
queries, mixture of experts) are tuned for three steps by the job's own trainer, and served by the engine of the
laptop. Measured are live bytes: the tensors of the model by their storages, and on top of them the highest sum of
what torch's profiler sees allocated and freed. Resident memory is not looked at: it holds libraries, and what the
allocator keeps. Serving is compared without the KV cache, which is allocated whole beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict

from memory_cases import CASES, Compared
from rich.console import Console
from rich.table import Table

GOAL_PERCENT = 10


def main() -> None:
    """Run every case and print the table; the exit code is 1 when one is out by more than 10 %."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(asdict(CASES[options.case]())))
        return
    results = {name: _in_own_process(name) for name in CASES if options.only in name}
    _report(results)
    sys.exit(any(abs(result.error_percent) > GOAL_PERCENT for result in results.values()))


def _in_own_process(case: str) -> Compared:
    command = [sys.executable, __file__, "--case", case]
    quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, check=False, text=True, capture_output=True, env=quiet)
    if done.returncode != 0:
        sys.exit(f"{case} failed:\n{done.stderr[-4000:]}")
    result = Compared(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{case}: {result.error_percent:+.1f} %  {asdict(result)}", file=sys.stderr, flush=True)
    return result


def _report(results: dict[str, Compared]) -> None:
    table = Table("case", "weights MiB", "estimate", "rest MiB", "estimate", "rest", "whole", "note")
    for name, result in results.items():
        parts = (result.measured_weights, result.weights, result.measured_rest, result.rest)
        rest = 100 * result.rest / result.measured_rest - 100
        table.add_row(
            name,
            *(f"{part / 2**20:,.1f}" for part in parts),
            f"{rest:+.1f} %",
            f"{result.error_percent:+.1f} %",
            result.note,
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
