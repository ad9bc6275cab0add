"""A Workspace's volumes, images and ConfigMaps as this machine has them: plain paths and references.

`hostPath` is a folder of this machine, relative ones from the Workspace file's folder. What only a cluster has
is refused with what to write instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairay.config_maps import engine_settings, text_on_machine, training_sections
from kairay.errors import DataError, InputError
from kairay.ray.target import JobPlaces, ServedAdapter
from kairay.registry.reference import ArtifactReference, LayoutReference, RemoteReference
from kairay.workspace import VolumeSource, Workspace, revision

ConfigMaps = Mapping[str, Mapping[str, str]]

ADAPTER_FOLDER = "adapter"
"""Below an output folder: the adapter's plain files, as peft loads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningPlaces:
    """Everything that a tuning run on this machine reads and writes."""

    job: JobPlaces
    output: LayoutReference | RemoteReference
    kept: LayoutReference
    """Our own copy of the adapter, a layout for each revision."""
    files: Path | None
    """Folder for the adapter's plain files; None when the output is a registry."""
    data_image: str | None
    """Image that `job.data` is filled from."""


def find_tuning_places(workspace: Workspace, base_dir: Path, state: Path, name_of_run: str) -> TuningPlaces:
    """Resolve `tuning.input` and `tuning.output`; InputError for what only a cluster has.

    `find_revision` has looked before whether the data is there.
    """
    tuning = workspace.tuning
    assert tuning is not None
    name = workspace.metadata.name
    output = _output(workspace, base_dir)
    image = None
    if tuning.input.image is not None:
        image = str(tuning.input.image)
        data: tuple[str, ...] = (str(state / "data" / name_of_run),)
    elif tuning.input.volume_source is not None:
        data = (str(host_path(tuning.input.volume_source, "tuning.input.volumeSource", base_dir)),)
    else:
        data = tuple(str(url) for url in tuning.input.urls)
    return TuningPlaces(
        job=JobPlaces(
            config=str(state / "jobs" / f"{name_of_run}.json"),
            data=data,
            output=str(output),
            storage=str(state / "runs" / name_of_run),
        ),
        output=output,
        kept=LayoutReference(path=state / "adapters" / name_of_run, tag=name),
        files=output.path / ADAPTER_FOLDER if isinstance(output, LayoutReference) else None,
        data_image=image,
    )


def find_adapters(workspace: Workspace, base_dir: Path) -> tuple[ServedAdapter, ...]:
    """The adapters that an inference Workspace names."""
    inference = workspace.inference
    found = []
    for index, adapter in enumerate(inference.adapters if inference else ()):
        where, source = f"inference.adapters[{index}].source", adapter.source
        if adapter.strength not in (None, 1.0):
            raise InputError(
                f"inference.adapters[{index}].strength: adapters are served at strength 1; leave it out"
            )
        if source.volume_source is not None:
            path = host_path(source.volume_source, f"{where}.volumeSource", base_dir)
            if not path.is_dir():
                raise InputError(f"{where}: {path} is not a folder with an adapter in it")
            # An output folder of `kairay run` has the plain files one level down.
            plain = path / ADAPTER_FOLDER
            found.append(ServedAdapter(name=source.name, source=str(plain if plain.is_dir() else path)))
        else:
            found.append(ServedAdapter(name=source.name, source=str(source.image)))
    return tuple(found)


def host_path(volume: VolumeSource, where: str, base_dir: Path) -> Path:
    """The folder or file of a hostPath volume; InputError for any other kind."""
    if volume.host_path is None:
        raise InputError(
            f"{where}.{volume.kind}: there is no cluster to take it from; give hostPath: {{path: ./folder}}"
        )
    return (base_dir / Path(volume.host_path.path).expanduser()).resolve()


def find_input(workspace: Workspace, base_dir: Path) -> Path | None:
    """The data that a tuning Workspace has on this machine; None: it has it from elsewhere, or tunes nothing.

    InputError for a volume that only a cluster has, DataError for a path that is not there.
    """
    tuning = workspace.tuning
    if tuning is None or tuning.input.volume_source is None:
        return None
    path = host_path(tuning.input.volume_source, "tuning.input.volumeSource", base_dir)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; correct tuning.input.volumeSource")
    return path


def find_revision(workspace: Workspace, config_maps: ConfigMaps, base_dir: Path) -> str:
    """The revision, with the config's content in it and, unlike on a cluster, that of files on this machine.

    A person who edits a local file and runs again means the new rows; there the look costs one read.
    """
    written = revision(workspace, text_on_machine(workspace, config_maps))
    path = find_input(workspace, base_dir)
    if path is None:
        return written
    return hashlib.sha256(f"{written} {_content_digest(path)}".encode()).hexdigest()[: len(written)]


def find_parameters(workspace: Workspace, config_maps: ConfigMaps) -> dict[str, Any]:
    """KAITO's training sections; empty without a config."""
    text = text_on_machine(workspace, config_maps)
    assert workspace.tuning is not None
    return {} if text is None else training_sections(text, f"ConfigMap {workspace.tuning.config}")


def find_engine_config(workspace: Workspace, config_maps: ConfigMaps, engine: str) -> dict[str, Any]:
    """The engine's settings of an inference Workspace; empty without a config, and after tuning."""
    if workspace.inference is None:
        return {}
    text = text_on_machine(workspace, config_maps)
    return {} if text is None else engine_settings(text, engine, f"ConfigMap {workspace.inference.config}")


def _content_digest(path: Path) -> str:
    """Of a file, or of all files below a folder in the order of their names; names do not count."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _output(workspace: Workspace, base_dir: Path) -> LayoutReference | RemoteReference:
    assert workspace.tuning is not None
    output = workspace.tuning.output
    if output.volume_source is not None:
        path = host_path(output.volume_source, "tuning.output.volumeSource", base_dir)
        if path.exists() and not path.is_dir():
            raise InputError(f"tuning.output.volumeSource.hostPath: {path} is a file; give a folder")
        return LayoutReference(path=path, tag=workspace.metadata.name)
    reference = ArtifactReference.parse(str(output.image))
    if isinstance(reference, RemoteReference) and reference.digest:
        raise InputError(
            f"tuning.output.image: {reference} has a digest, which only the adapter decides; give a tag"
        )
    return reference
