from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from kairay.errors import HostError, InputError, KairayError
from kairay.registry import disk, pulled
from kairay.registry.artifact import Artifact, ArtifactMedia, LayoutReference, find, pull, push_directory, tag

FILES = {
    "adapter_config.json": b'{"r": 8}',
    "adapter_model.safetensors": b"\x00\x01" * 5000,
    "tokenizer/chat_template.jinja": b"{{ messages }}",
    "README": b"",
}
ANNOTATIONS = {"dev.kairay.revision": "abc123", "dev.kairay.workspace": "bot"}


def adapter(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".kairay-artifact.json"
    }


def push(folder: Path, layout: Path, tag_name: str = "bot") -> Artifact:
    return push_directory(
        folder, LayoutReference(layout, tag_name), media=ArtifactMedia.ADAPTER, annotations=ANNOTATIONS
    )


def blob_of(artifact: Artifact, layout: Path, title: str) -> Path:
    manifest = json.loads((layout / "blobs/sha256" / artifact.digest[7:]).read_bytes())
    layer = next(
        entry
        for entry in manifest["layers"]
        if entry["annotations"]["org.opencontainers.image.title"] == title
    )
    return layout / "blobs/sha256" / layer["digest"][7:]


def state(layout: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_ino) for p in layout.rglob("*") if p.is_file()}


def test_what_is_pushed_comes_back_byte_for_byte(tmp_path: Path) -> None:
    pushed = push(adapter(tmp_path / "in"), tmp_path / "layout")
    back = pull(pushed.reference, tmp_path / "out")
    assert back == pushed
    assert contents(tmp_path / "out") == FILES
    assert pushed.size == sum(map(len, FILES.values()))
    assert pushed.artifact_type == "application/vnd.kairay.adapter.v1"
    assert dict(pushed.annotations) == ANNOTATIONS


def test_the_layout_is_what_the_oci_specification_says(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    pushed = push(adapter(tmp_path / "in"), layout)
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_bytes())
    [entry] = index["manifests"]
    assert entry["digest"] == pushed.digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "bot"}
    manifest = json.loads((layout / "blobs/sha256" / pushed.digest[7:]).read_bytes())
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert (layout / "blobs/sha256" / manifest["config"]["digest"][7:]).read_bytes() == b"{}"
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        "application/octet-stream",
        "application/vnd.kairay.adapter.layer.v1+jinja",
        "application/vnd.kairay.adapter.layer.v1+json",
        "application/vnd.kairay.adapter.layer.v1+safetensors",
    }


def test_the_layout_passes_the_check_of_oras(tmp_path: Path) -> None:
    from oras.layout.layout import Layout

    push(adapter(tmp_path / "in"), tmp_path / "layout")
    ordered = Layout(str(tmp_path / "layout")).get_ordered_blobs(tag="bot")
    assert len(ordered) == len(FILES) + 2


def test_the_digest_depends_on_names_and_bytes_only(tmp_path: Path) -> None:
    first = push(adapter(tmp_path / "a"), tmp_path / "layout")
    again = adapter(tmp_path / "b", dict(reversed(FILES.items())))
    for path in again.rglob("*"):
        os.utime(path, (1, 1))
    assert push(again, tmp_path / "other").digest == first.digest
    (again / "README").write_bytes(b"changed")
    assert push(again, tmp_path / "other").digest != first.digest


def test_a_second_push_writes_nothing(tmp_path: Path) -> None:
    folder, layout = adapter(tmp_path / "in"), tmp_path / "layout"
    first = push(folder, layout)
    before = state(layout)
    assert push(folder, layout) == first
    assert state(layout) == before


def test_two_tags_share_one_artifact_and_a_new_push_moves_one(tmp_path: Path) -> None:
    folder, layout = adapter(tmp_path / "in"), tmp_path / "layout"
    first = push(folder, layout)
    tagged = tag(first.reference, "bot-abc123")
    assert tagged.digest == first.digest
    (folder / "README").write_bytes(b"second run")
    second = push(folder, layout)
    assert find(tagged.reference) == tagged
    assert find(f"oci:{layout}:bot") == second
    names = [
        e["annotations"]["org.opencontainers.image.ref.name"]
        for e in json.loads((layout / "index.json").read_bytes())["manifests"]
    ]
    assert names == ["bot", "bot-abc123"]


def test_nothing_is_found_where_there_is_no_layout_or_tag(tmp_path: Path) -> None:
    assert find(LayoutReference(tmp_path / "none", "bot")) is None
    push(adapter(tmp_path / "in"), tmp_path / "layout")
    assert find(LayoutReference(tmp_path / "layout", "other")) is None
    with pytest.raises(InputError, match="does not exist"):
        pull(LayoutReference(tmp_path / "layout", "other"), tmp_path / "out")
    with pytest.raises(InputError, match="cannot be tagged"):
        tag(LayoutReference(tmp_path / "layout", "other"), "x")
    assert not (tmp_path / "out").exists()


def test_a_push_that_was_killed_leaves_nothing_that_the_next_trips_over(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / ".blob-dead").write_bytes(b"half a blob")
    (layout / ".index.json.partial").write_bytes(b"{")
    pushed = push(adapter(tmp_path / "in"), layout)
    assert find(pushed.reference) == pushed
    assert not (layout / ".blob-dead").exists()
    assert not (layout / ".index.json.partial").exists()


def test_the_partial_blob_of_a_living_push_is_left_to_it(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / ".blob-living").write_bytes(b"half a blob")
    with (layout / ".writers.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        push(adapter(tmp_path / "in"), layout)
    assert (layout / ".blob-living").exists()


def _push_one(folder: Path, layout: Path, n: int) -> None:
    (folder / "number").write_bytes(str(n).encode())
    push(folder, layout, f"tag-{n}")


def test_processes_that_push_at_once_lose_no_tag(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    folders = [adapter(tmp_path / f"in-{n}") for n in range(6)]
    runs = [spawn.Process(target=_push_one, args=(f, tmp_path / "layout", n)) for n, f in enumerate(folders)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
    assert [run.exitcode for run in runs] == [0] * 6
    found = [find(LayoutReference(tmp_path / "layout", f"tag-{n}")) for n in range(6)]
    assert all(found)
    assert len({artifact.digest for artifact in found if artifact}) == 6


def test_a_corrupt_blob_is_named_and_a_new_push_heals_it(tmp_path: Path) -> None:
    folder, layout = adapter(tmp_path / "in"), tmp_path / "layout"
    pushed = push(folder, layout)
    blob = blob_of(pushed, layout, "adapter_model.safetensors")
    blob.write_bytes(b"\xff" * 10000)
    with pytest.raises(
        KairayError, match=rf"sha256:{blob.name} \(adapter_model.safetensors\) is corrupt"
    ) as refused:
        pull(pushed.reference, tmp_path / "out")
    assert refused.value.reason == "DigestMismatch"
    assert {p.name for p in tmp_path.iterdir()} == {"in", "layout", ".out.lock"}
    blob.unlink()
    push(folder, layout)
    pull(pushed.reference, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_cut_blob_is_healed_by_a_push_too(tmp_path: Path) -> None:
    folder, layout = adapter(tmp_path / "in"), tmp_path / "layout"
    pushed = push(folder, layout)
    blob_of(pushed, layout, "adapter_config.json").write_bytes(b"{")
    assert push(folder, layout) == pushed
    pull(pushed.reference, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_folder_that_holds_the_artifact_is_left_alone(tmp_path: Path) -> None:
    pushed = push(adapter(tmp_path / "in"), tmp_path / "layout")
    pull(pushed.reference, tmp_path / "out")
    before = state(tmp_path / "out")
    pull(pushed.reference, tmp_path / "out")
    assert state(tmp_path / "out") == before
    (tmp_path / "out/adapter_config.json").unlink()
    pull(pushed.reference, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_newer_artifact_replaces_the_older_folder(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "in")
    pushed = push(folder, tmp_path / "layout")
    pull(pushed.reference, tmp_path / "out")
    (folder / "README").unlink()
    push(folder, tmp_path / "layout")
    pull(pushed.reference, tmp_path / "out")
    assert "README" not in contents(tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"in", "layout", "out", ".out.lock"}


def test_a_pull_killed_between_its_two_renames_is_put_right(tmp_path: Path) -> None:
    pushed = push(adapter(tmp_path / "in"), tmp_path / "layout")
    pull(pushed.reference, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    (tmp_path / ".out.pull").mkdir()
    pull(pushed.reference, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.old").exists()
    assert not (tmp_path / ".out.pull").exists()


def test_a_folder_with_someones_files_is_never_replaced(tmp_path: Path) -> None:
    pushed = push(adapter(tmp_path / "in"), tmp_path / "layout")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files that no pull put there"):
        pull(pushed.reference, tmp_path / "out")
    assert (tmp_path / "out/thesis.tex").read_text() == "years of work"


def test_a_pulled_folder_pushed_again_gives_the_same_digest(tmp_path: Path) -> None:
    pushed = push(adapter(tmp_path / "in"), tmp_path / "layout")
    pull(pushed.reference, tmp_path / "out")
    assert push(tmp_path / "out", tmp_path / "second").digest == pushed.digest


def test_links_to_files_are_stored_as_files_and_links_to_folders_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "in")
    (tmp_path / "blob").write_bytes(b"weights")
    (folder / "linked.safetensors").symlink_to(tmp_path / "blob")
    pull(push(folder, tmp_path / "layout").reference, tmp_path / "out")
    assert contents(tmp_path / "out")["linked.safetensors"] == b"weights"
    assert not (tmp_path / "out/linked.safetensors").is_symlink()
    (folder / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(InputError, match="elsewhere"):
        push(folder, tmp_path / "layout")


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "pipe"])
def test_what_cannot_be_pushed_is_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "in"
    if kind == "file":
        folder.write_text("x")
    elif kind != "missing":
        folder.mkdir()
    if kind == "pipe":
        os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match=str(folder)):
        push(folder, tmp_path / "layout")
    assert not (tmp_path / "layout").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", b"{"),
        ("index.json", b"[]"),
        ("index.json", b'{"manifests": 3}'),
        ("oci-layout", b'{"imageLayoutVersion": "9"}'),
    ],
)
def test_a_folder_that_is_another_kind_of_layout_is_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        push(adapter(tmp_path / "in"), layout)
    assert (layout / name).read_bytes() == content


def test_a_digest_in_an_index_cannot_lead_out_of_the_layout(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    entry = {
        "digest": "sha256:../../../secret",
        "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "bot"},
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(InputError, match="not sha256"):
        find(LayoutReference(layout, "bot"))


def test_too_little_free_space_is_said_before_the_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = push(adapter(tmp_path / "in"), tmp_path / "layout")
    monkeypatch.setattr(pulled.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(HostError, match="free some space") as refused:
        pull(pushed.reference, tmp_path / "out")
    assert refused.value.reason == "DiskFull"
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_midway_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, layout = adapter(tmp_path / "in"), tmp_path / "layout"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(HostError, match="disk is full"):
        push(folder, layout)
    monkeypatch.undo()
    assert find(LayoutReference(layout, "bot")) is None
    assert not list(layout.glob(".blob-*"))
    assert push(folder, layout).digest


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HostError, match="file"):
        push(adapter(tmp_path / "in"), tmp_path / "file" / "layout")
