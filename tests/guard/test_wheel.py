"""What the wheel ships, and that it imports and finds its data from anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_three_packages_and_the_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {
        "kairay",
        "kairay_serve",
        "kairay_train",
    }
    shipped = {Path(n).name for n in names if n.startswith("kairay/presets/") and n.endswith(".yaml")}
    assert shipped == {p.name for p in (ROOT / "presets").rglob("*.yaml")}
    assert any(n.startswith("kairay/kuberay/") for n in names)
    assert not [n for n in names if "__pycache__" in n or n.startswith("tests")]


def test_presets_load_from_the_installed_wheel_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import kairay, kairay.presets as p; assert 'site' in kairay.__file__; print(len(p.load_presets()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) >= 12
