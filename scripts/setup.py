"""Set up `.venv` for one of the locked requirement sets: `python scripts/setup.py demo|dev|worker|…`.

Needs Python >= 3.11 with venv and pip, and the package registries; nothing else. Runs on the standard library, because
it runs before anything is installed. A second run finds the work done by comparing a hash and ends in milliseconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
MARKER = VENV / "kairay-setup.json"
CONTAINS = {"demo": ("demo", "dev"), "worker": ("worker", "dev")}
"""A set on the left is there already when one on the right is installed."""
GB = 1000**3


class SetupError(Exception):
    """A sentence for the person at the terminal."""


def main() -> int:
    """Install the set named on the command line; 0 when it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=sorted(p.stem for p in REQUIREMENTS.glob("*.txt") if p.stem != "uv"))
    wanted = parser.parse_args().set
    try:
        check_python()
        if installed_set(wanted) is None:
            install(wanted)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 4
    except subprocess.CalledProcessError as error:
        print(
            f"setup: `{error.cmd[0]} … {error.cmd[-1]}` ended with {error.returncode}; see above",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def check_python() -> None:
    """Refuse an interpreter or a system that the locked wheels do not serve."""
    if sys.version_info < (3, 11):
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; try `make PYTHON=python3.12`"
        )
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise SetupError(f"Linux on x86-64 is needed, this is {sys.platform} on {os.uname().machine}")


def installed_set(wanted: str) -> str | None:
    """Name of an installed set that contains `wanted` at its present lock, or None."""
    try:
        marker = json.loads(MARKER.read_text())
    except (OSError, ValueError):
        return None
    name = marker.get("set")
    if name not in CONTAINS.get(wanted, (wanted,)) or marker.get("key") != key_of(name):
        return None
    return str(name)


def key_of(name: str) -> str:
    """Hash of all that decides what the environment holds."""
    digest = hashlib.sha256(f"{ROOT} {sys.version}".encode())
    for path in (REQUIREMENTS / f"{name}.txt", REQUIREMENTS / "uv.txt", ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install(name: str) -> None:
    """Add the locked set and the project itself (editable) to `.venv`.

    Nothing is removed, so that a service that runs from the same environment lives on; only an environment that another
    interpreter or another folder made is built anew.
    """
    announce(name)
    if not usable_venv():
        make_venv()
    MARKER.unlink(missing_ok=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(REQUIREMENTS / "uv.txt")], check=True)
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON)]
    subprocess.run([*uv, "--require-hashes", "-r", str(REQUIREMENTS / f"{name}.txt")], check=True)
    subprocess.run([*uv, "-q", "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
    compile_bytecode()
    MARKER.write_text(
        json.dumps({"set": name, "key": key_of(name), "root": str(ROOT), "python": sys.version})
    )


def announce(name: str) -> None:
    """Say what will be downloaded before it is, and refuse early when the disk cannot hold it."""
    sizes = json.loads((REQUIREMENTS / "sizes.json").read_text()).get(name)
    if sizes is None:
        print(f"setup: installing requirements/{name}.txt into .venv")
        return
    download, disk = sizes["download"] / GB, sizes["disk"] / GB
    free = shutil.disk_usage(ROOT).free / GB
    print(
        f"setup: installing requirements/{name}.txt into .venv: up to {download:.1f} GB to download, "
        f"{disk:.1f} GB on disk ({free:.0f} GB free)",
        flush=True,
    )
    if free < disk + download:
        raise SetupError(
            f"the disk of {ROOT} has {free:.1f} GB free and {disk + download:.1f} GB are needed; make room, try again"
        )


def usable_venv() -> bool:
    """Whether `.venv` was made in this folder by this interpreter (its scripts name both)."""
    try:
        marker = json.loads(MARKER.read_text())
    except (OSError, ValueError):
        return False
    return PYTHON.exists() and (marker.get("root"), marker.get("python")) == (str(ROOT), sys.version)


def make_venv() -> None:
    """Create `.venv`, or say which package of the system is missing."""
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            f"`{sys.executable} -m venv` failed; on Debian and Ubuntu `apt-get install python3-venv` brings it. "
            f"It said: {(done.stdout + done.stderr).strip().splitlines()[-1]}"
        )


def compile_bytecode() -> None:
    """Compile what was installed once, so that no later start pays for it."""
    site = next((VENV / "lib").glob("python3*/site-packages"))
    print("setup: compiling bytecode", flush=True)
    subprocess.run(
        [str(PYTHON), "-m", "compileall", "-q", "-j", "0", str(site), str(ROOT / "platform"),
         str(ROOT / "serve_apps"), str(ROOT / "train_jobs")],
        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
