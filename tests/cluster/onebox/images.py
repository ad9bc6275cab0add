"""Container images of a few kB, made here: the root's links and users. The system itself is mounted by the runtime."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from onebox.layout import BASE_IMAGE, CLONE, PAUSE_IMAGE, RAY_IMAGE, SYSTEM_PATH

_CREATED = "2026-01-01T00:00:00Z"
"""Same input, same bytes."""
_FOLDERS = (
    "usr",
    "etc",
    "root",
    "home",
    "var",
    "var/lib",
    "var/log",
    "run",
    "opt",
    "proc",
    "sys",
    "dev",
    "mnt",
)
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run"}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nray:x:1000:100:ray:/home/ray:/bin/bash\n"
    "nonroot:x:65532:65532::/:/sbin/nologin\nnobody:x:65534:65534::/:/sbin/nologin\n",
    "etc/group": "root:x:0:\ntty:x:5:\nusers:x:100:\nray:x:1000:\nnonroot:x:65532:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A name and what runs under it."""

    name: str
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    program: Path | None = None
    """A file to put into the root beside the links, for an image that does not see the host's folders."""


def images(tools: Path) -> tuple[Image, ...]:
    """The sandbox's, the one of system pods, and the one of Ray pods (as an image with Ray and Kairay would look)."""
    return (
        # The runtime gives its mounts to containers, not to the sandbox: this one brings its program along.
        Image(name=PAUSE_IMAGE, entrypoint=("/pause",), program=tools / "pause"),
        Image(name=BASE_IMAGE, environment={"PATH": SYSTEM_PATH}),
        Image(
            name=RAY_IMAGE,
            folder="/home/ray",
            environment={
                "PATH": f"{CLONE / '.venv' / 'bin'}:{Path(sys.base_prefix).resolve() / 'bin'}:{SYSTEM_PATH}",
                "HOME": "/home/ray",
                "PYTHONUNBUFFERED": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
        ),
    )


def write_archive(path: Path, wanted: tuple[Image, ...]) -> None:
    """Write a docker-archive that `ctr images import` understands."""
    manifest: list[dict[str, object]] = []
    entries: dict[str, bytes] = {}
    for image in wanted:
        layer = _layer(image.program)
        digest = hashlib.sha256(layer).hexdigest()
        entries[f"{digest}.tar"] = layer
        config = json.dumps(_config(image, digest), sort_keys=True).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        entries[name] = config
        manifest.append({"Config": name, "RepoTags": [image.name], "Layers": [f"{digest}.tar"]})
    entries["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in entries.items():
            _add(archive, name, data=data)


def _config(image: Image, layer: str) -> dict[str, object]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "config": {
            "Env": [f"{name}={value}" for name, value in image.environment.items()],
            "Entrypoint": list(image.entrypoint) or None,
            "WorkingDir": image.folder,
        },
        "history": [{"created": _CREATED, "created_by": "kairay onebox"}],
    }


def _layer(program: Path | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for name in _FOLDERS:
            _add(layer, name, kind=tarfile.DIRTYPE, mode=0o755)
        for name in ("tmp", "var/tmp"):
            _add(layer, name, kind=tarfile.DIRTYPE, mode=0o1777)
        _add(layer, "home/ray", kind=tarfile.DIRTYPE, mode=0o755, owner=1000)
        for name, target in _LINKS.items():
            _add(layer, name, kind=tarfile.SYMTYPE, mode=0o777, link=target)
        for name, text in _FILES.items():
            _add(layer, name, data=text.encode())
        if program is not None:
            _add(layer, program.name, mode=0o755, data=program.read_bytes())
    return buffer.getvalue()


def _add(
    archive: tarfile.TarFile, name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, data: bytes = b"",
    link: str = "", owner: int = 0,
) -> None:  # fmt: skip
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(data)
    entry.uid = entry.gid = owner
    archive.addfile(entry, io.BytesIO(data))
