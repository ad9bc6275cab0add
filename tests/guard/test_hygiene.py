"""What may never be checked in: machine paths, registry hosts, secrets, locks that name hosts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def tracked_texts() -> list[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    files = [ROOT / name for name in listed if name]
    return [
        (str(p.relative_to(ROOT)), p.read_text(encoding="utf-8", errors="replace"))
        for p in files
        if p.is_file()
    ]


def test_no_file_names_a_machine_path_or_a_package_host() -> None:
    pattern = re.compile(
        r"(?<![\w.])/(?:work|farm)/|https?://\S+\.(?:whl|tar\.gz)\b|(?:pypi|files\.pythonh" + r"osted)\.org"
    )
    assert [name for name, text in tracked_texts() if pattern.search(text)] == []


def test_no_lock_that_names_hosts_is_tracked() -> None:
    assert [name for name, _ in tracked_texts() if name.endswith("uv.lock")] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.stem)
def test_every_locked_package_carries_hashes_and_no_index(lock: Path) -> None:
    text = lock.read_text()
    pins = re.findall(r"^[A-Za-z0-9_.\-]+(?:\[[^\]]+\])?==.*$", text, re.M)
    assert pins
    assert all(pin.endswith("\\") for pin in pins)
    assert "--index-url" not in text
    assert "://" not in text


def test_every_set_agrees_on_the_versions_it_shares_with_the_vllm_set() -> None:
    def pins(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for package, version in re.findall(
            r"^([a-z0-9\-]+)(?:\[[^\]]+\])?==([^ \\;]+)", (ROOT / "requirements" / name).read_text(), re.M
        ):
            found.setdefault(package, set()).add(version)
        return found

    vllm = pins("serve-vllm-cpu.txt")
    for name in ("control.txt", "worker.txt", "demo.txt", "dev.txt"):
        ours = pins(name)
        assert {p for p in ours if p in vllm and not ours[p] <= vllm[p]} == set(), name
