"""The house rules that no linter knows (docs/design, layout)."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = {"platform": "kairay", "serve_apps": "kairay_serve", "train_jobs": "kairay_train"}
DATA = ("presets", "kuberay", "images")


@pytest.mark.parametrize(("root", "package"), SOURCE_ROOTS.items())
def test_a_source_root_holds_exactly_one_package_and_nothing_else(root: str, package: str) -> None:
    entries = {p.name for p in (ROOT / root).iterdir() if p.name != "__pycache__"}
    assert entries == {package}


def test_platform_is_never_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    import platform

    assert Path(str(platform.__file__)).is_relative_to(sysconfig.get_paths()["stdlib"])


@pytest.mark.parametrize("folder", DATA)
def test_data_folders_hold_no_python(folder: str) -> None:
    assert not list((ROOT / folder).rglob("*.py"))


def test_tests_live_in_tests_only() -> None:
    stray = [
        p
        for root in SOURCE_ROOTS
        for p in (ROOT / root).rglob("*test*.py")
        if p.name.startswith(("test_", "conftest"))
    ]
    assert stray == []


def test_source_files_stay_short_enough_to_read() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for root in SOURCE_ROOTS
        for p in (ROOT / root).rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 330
    }
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for root in SOURCE_ROOTS
        for p in (ROOT / root).rglob("*.py")
        if not p.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


def test_the_planner_imports_without_torch_or_ray() -> None:
    code = (
        "import sys, kairay.plan, kairay.cli.main, kairay.cli.plan, kairay.cli.run, kairay.cli.status;"
        "print(sorted({'torch','ray','transformers','pyarrow','numpy','requests','oras','rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
