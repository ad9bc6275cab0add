"""The cache of models: whole or not at all, made once, where XDG says."""

from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import pytest

from kairay.errors import HostError, InputError
from kairay.registry.model_cache import cached_model, model_cache_dir
from written_models import silent

ORIGIN = "test:source sha256:00"


def test_a_model_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail_half_way(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise InputError("broken")

    with pytest.raises(InputError):
        cached_model(tmp_path, "m", ORIGIN, fail_half_way, silent)
    assert [entry.name for entry in tmp_path.iterdir()] == [".m.lock"]


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".m.partial").mkdir()
    (tmp_path / ".m.partial" / "torn").touch()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "unmarked").touch()
    folder = cached_model(tmp_path, "m", ORIGIN, lambda folder: (folder / "whole").touch(), silent)
    assert sorted(entry.name for entry in folder.iterdir()) == [".kairay-model", "whole"]
    assert not (tmp_path / ".m.partial").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "set XDG_CACHE_HOME to a folder of yours")],
)
def test_a_disk_that_refuses_is_the_hosts_fault(tmp_path: Path, number: int, words: str) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(number, "refused", str(folder))

    with pytest.raises(HostError, match=words):
        cached_model(tmp_path, "m", ORIGIN, refuse, silent)


def _convert_and_count(cache: Path) -> None:
    def make(folder: Path) -> None:
        with (cache / "count").open("a") as file:
            file.write("x")
        (folder / "weights").touch()

    cached_model(cache, "m", ORIGIN, make, silent)


def test_two_processes_make_a_model_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_convert_and_count, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "x"


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_cache_dir() == tmp_path / "kairay" / "models"
