"""What init containers run before a pod's work: weights and data, once, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kairay.registry.artifact import ArtifactMedia, push_directory
from kairay.registry.fetch import main

PRESET = "smollm2-135m-instruct"


def files(folder: Path, **content: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in content.items():
        (folder / name).write_text(text)
    return folder


def pushed(tmp_path: Path, folder: Path, media: ArtifactMedia = ArtifactMedia.ADAPTER) -> str:
    reference = f"oci:{tmp_path / 'layout'}:it"
    push_directory(folder, reference, media=media, annotations={})
    return reference


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The last line on stdout, which is the only one."""
    (line,) = capsys.readouterr().out.splitlines()
    read: dict[str, object] = json.loads(line)
    return read


def test_data_is_unpacked_into_its_folder_and_left_alone_the_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = pushed(tmp_path, files(tmp_path / "in", chats="[]"))
    folder = tmp_path / "pod" / "data"
    assert main(["data", reference, str(folder)]) == 0
    assert said(capsys) == {"folder": str(folder)}
    first = (folder / "chats").stat().st_ino
    assert main(["data", reference, str(folder)]) == 0
    assert (folder / "chats").stat().st_ino == first


def test_a_damaged_image_leaves_nothing_that_looks_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = pushed(tmp_path, files(tmp_path / "in", chats="[]", zero="0"))
    (blob,) = (
        each
        for each in (tmp_path / "layout" / "blobs").rglob("*")
        if each.is_file() and each.read_bytes() == b"[]"
    )
    blob.write_bytes(b"()")
    assert main(["data", reference, str(tmp_path / "pod" / "data")]) == 1
    error = said(capsys)["error"]
    assert isinstance(error, dict)
    assert error["reason"] == "DigestMismatch"
    assert [each.name for each in (tmp_path / "pod").iterdir()] == [".data.lock"]


def test_weights_come_into_the_model_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = files(tmp_path / "model", **{"config.json": '{"model_type": "llama"}'})
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    reference = pushed(tmp_path, model, ArtifactMedia.MODEL)
    folders = []
    for _ in "ab":
        assert main(["model", "--preset", PRESET, "--model", reference]) == 0
        folders.append(Path(str(said(capsys)["folder"])))
    assert folders[0] == folders[1]
    assert folders[0].parent == tmp_path / "cache" / "kairay" / "models"
    assert (folders[0] / "model.safetensors").is_file()


def test_what_is_wrong_is_the_last_line_and_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "--preset", "no-such-model"]) == 2
    error = said(capsys)["error"]
    assert isinstance(error, dict)
    assert "no-such-model" in error["message"]
    assert main(["data", f"oci:{tmp_path / 'layout'}:it", str(tmp_path / "data")]) == 2
    error = said(capsys)["error"]
    assert isinstance(error, dict)
    assert error["reason"] == "NotFound"


def test_a_pod_that_goes_ends_the_fetch_in_order(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    reference = pushed(tmp_path, files(tmp_path / "in", chats="[]"))
    (blob,) = (
        each for each in (layout / "blobs").rglob("*") if each.is_file() and each.read_bytes() == b"[]"
    )
    blob.unlink()
    os.mkfifo(blob)  # a transfer that never ends
    process = subprocess.Popen(
        [sys.executable, "-m", "kairay.registry.fetch", "data", reference, str(tmp_path / "pod" / "data")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        assert "pulling" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out)["error"]["reason"] == "Stopped"
    assert not (tmp_path / "pod" / "data").exists()
