"""Adapters as KAITO makes them: images with the files in a gzipped tar under /data; hostile ones too."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kairay.errors import InputError
from kairay.registry.artifact import LayoutReference, find, pull

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FILES = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"\x01" * 100_000}


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def targz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue())


def image(
    folder: Path, *layers: bytes, media: str = GZIP, annotations: dict[str, str] | None = None
) -> LayoutReference:
    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        name = hashlib.sha256(content).hexdigest()
        (folder / "blobs/sha256" / name).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)}

    (folder / "blobs/sha256").mkdir(parents=True)
    manifest = {
        "schemaVersion": 2,
        "config": blob(b'{"architecture":"amd64","os":"linux"}', "application/vnd.oci.image.config.v1+json"),
        "layers": [
            blob(layer, media) | ({"annotations": annotations} if annotations else {}) for layer in layers
        ],
        "annotations": {"sh.kaito.model.name": "phi-3"},
    }
    entry = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            entry | {"platform": {"os": "linux", "architecture": "arm64"}, "digest": "sha256:" + "0" * 64},
            entry | {"platform": {"os": "linux", "architecture": "amd64"}},
        ],
    }
    top = blob(json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    named = top | {"annotations": {"org.opencontainers.image.ref.name": "bot"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return LayoutReference(folder, "bot")


def data(*, prefix: str = "data/") -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(prefix, type=tarfile.DIRTYPE), *(member(prefix + name, c) for name, c in FILES.items())]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.name[0] != "." and p.is_file()
    }


@pytest.mark.parametrize("media", [GZIP, DOCKER])
@pytest.mark.parametrize("prefix", ["data/", "./data/"])
def test_an_adapter_image_of_kaito_is_pulled_as_its_files(tmp_path: Path, media: str, prefix: str) -> None:
    reference = image(tmp_path / "image", targz(*data(prefix=prefix)), media=media)
    pull(reference, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    found = find(reference)
    assert found is not None
    assert found.annotations["sh.kaito.model.name"] == "phi-3"


def test_what_lies_outside_data_is_left_out_and_later_layers_win(tmp_path: Path) -> None:
    system = targz(
        member("bin/sh", b"#!"),
        member("etc/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        *data(),
        member("database/x", b"not ours"),
    )
    newer = targz(member("data/adapter_config.json", b'{"r": 16}'))
    pull(image(tmp_path / "image", system, newer), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES | {"adapter_config.json": b'{"r": 16}'}


def test_a_folder_that_oras_packed_is_unpacked(tmp_path: Path) -> None:
    annotations = {"org.opencontainers.image.title": "weights", "io.deis.oras.content.unpack": "true"}
    reference = image(tmp_path / "image", targz(*data(prefix="weights/")), annotations=annotations)
    pull(reference, tmp_path / "out")
    assert contents(tmp_path / "out") == {f"weights/{name}": content for name, content in FILES.items()}


@pytest.mark.parametrize(
    "evil",
    [
        member("/data/escape", b"x"),
        member("data/../../escape", b"x"),
        member("../escape", b"x"),
        member("data/link", type=tarfile.SYMTYPE, linkname="/etc"),
        member("data/hard", type=tarfile.LNKTYPE, linkname="data/adapter_config.json"),
        member("data/device", type=tarfile.CHRTYPE),
        member("data/pipe", type=tarfile.FIFOTYPE),
        member("data/.wh.adapter_config.json"),
        member("data/.kairay-artifact.json", b"{}"),
        member("data/adapter_config.json/below", b"x"),
    ],
    ids=lambda m: m[0].name,
)
def test_an_image_that_would_leave_the_folder_or_make_a_link_is_refused(
    tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes]
) -> None:
    reference = image(tmp_path / "image", targz(*data(), evil))
    with pytest.raises(InputError) as refused:
        pull(reference, tmp_path / "below" / "out")
    assert refused.value.reason == "UnsafeArtifact"
    assert not (tmp_path / "below" / "out").exists()
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize(
    ("layer", "media", "word"),
    [
        (b"not a tar", GZIP, "not a tar"),
        (gzip.compress(b"x" * 2000), GZIP, "not a tar"),
        (targz(*data())[:-200], GZIP, "not a tar"),
        (targz(member("app/x", b"x")), GZIP, "under /data"),
        (b"x", "application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
    ],
)
def test_an_image_that_is_no_adapter_says_why(tmp_path: Path, layer: bytes, media: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        pull(image(tmp_path / "image", layer, media=media), tmp_path / "out")
    assert not (tmp_path / "out").exists()
