"""API keys: which request passes, how keys are rotated under a replica that runs, and that doubt means no."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kairay_serve.keys import ApiKeys


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def status(keys: ApiKeys, *headers: tuple[str, str]) -> int:
    refusal = keys.refusal([(name.encode(), value.encode()) for name, value in headers])
    return 200 if refusal is None else refusal.status


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def swap(folder: Path, version: str, **files: str) -> None:
    """Mount a Secret as kubelet does: links into a hidden folder that is swapped by a rename."""
    (folder / f"..{version}").mkdir(parents=True)
    for name, content in files.items():
        (folder / f"..{version}" / name).write_text(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").replace(folder / "..data")
    for link in [each for each in folder.iterdir() if not each.name.startswith(".")]:
        if link.name not in files:
            link.unlink()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([bearer("one")], 200),
        ([("authorization", "bearer  two ")], 200),
        ([("x-api-key", "three")], 200),
        ([bearer("old"), ("x-api-key", "one")], 200),
        ([], 401),
        ([bearer("")], 401),
        ([bearer("on")], 401),
        ([bearer("one\ntwo")], 401),
        ([("authorization", "one")], 401),
        ([("authorization", "Basic one")], 401),
        ([("x-api-key", "ünknown")], 401),
        ([("cookie", "one")], 401),
    ],
)
def test_any_key_of_any_file_passes_and_nothing_else(
    tmp_path: Path, headers: list[tuple[str, str]], expected: int
) -> None:
    (tmp_path / "a").write_text("one\n\n  two\r\n")
    (tmp_path / "b").write_text("three")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c").write_text("old")
    assert status(ApiKeys(tmp_path), *headers) == expected


def test_a_rotated_secret_counts_after_a_second_without_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    swap(tmp_path / "keys", "first", key="old")
    keys = ApiKeys(tmp_path / "keys", clock=clock)
    assert status(keys, bearer("old")) == 200
    swap(tmp_path / "keys", "second", key="new", more="old")
    clock.now = 0.9
    assert (status(keys, bearer("old")), status(keys, bearer("new"))) == (200, 401)
    clock.now = 1.0
    assert (status(keys, bearer("old")), status(keys, bearer("new"))) == (200, 200)
    swap(tmp_path / "keys", "third", key="new")
    clock.now = 2.0
    assert (status(keys, bearer("old")), status(keys, bearer("new"))) == (401, 200)


def test_without_a_key_to_compare_with_nobody_is_let_in(tmp_path: Path) -> None:
    clock = Clock()
    keys = ApiKeys(tmp_path / "keys", clock=clock)
    assert status(keys, bearer("")) == 503
    (tmp_path / "keys").mkdir()
    clock.now = 1.0
    assert status(keys, bearer("one")) == 503
    (tmp_path / "keys" / "key").write_text("\n \n")
    clock.now = 2.0
    assert status(keys, ("x-api-key", " ")) == 503
    (tmp_path / "keys" / "key").write_text("one")
    clock.now = 3.0
    assert status(keys, bearer("one")) == 200
    (tmp_path / "keys" / "key").unlink()
    clock.now = 4.0
    assert status(keys, bearer("one")) == 503


def test_whoever_mounts_keys_means_them_until_told_otherwise(tmp_path: Path) -> None:
    assert status(ApiKeys(None)) == 200
    keys = ApiKeys(tmp_path)
    assert status(keys) == 503
    keys.required = False
    assert status(keys) == 200
    nowhere = ApiKeys(None)
    nowhere.required = True
    assert status(nowhere, bearer("one")) == 503
