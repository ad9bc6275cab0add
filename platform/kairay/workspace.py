"""What a user may write, parsed once: documents of YAML to Workspaces and the ConfigMaps that they name.

The types are in the `workspace_*` modules, one noun each, and are imported from here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kairay.errors import InputError
from kairay.workspace_drafts import fill_placeholders, find_placeholders
from kairay.workspace_messages import describe_error, describe_path, describe_value, nearest
from kairay.workspace_object import (
    API_VERSIONS,
    CONFIG_MAP,
    KIND,
    RUNTIME_ANNOTATION,
    ConfigMap,
    Metadata,
    Workspace,
    WorkspaceMetadata,
)
from kairay.workspace_resource import LabelSelector, MatchExpression, Partition, PartitionMode, ResourceSpec
from kairay.workspace_revision import REVISION_ALGORITHM, revision
from kairay.workspace_sources import (
    ALLOWED_HOSTS,
    AdapterSource,
    ClaimVolume,
    DataDestination,
    DataSource,
    HostPathVolume,
    VolumeSource,
)
from kairay.workspace_work import (
    AccessMode,
    Adapter,
    InferenceSpec,
    Method,
    PresetOptions,
    PresetRef,
    Scaling,
    TuningSpec,
)
from kairay.workspace_yaml import MOST_BYTES, read_yaml

__all__ = [
    "API_VERSIONS",
    "REVISION_ALGORITHM",
    "RUNTIME_ANNOTATION",
    "AccessMode",
    "Adapter",
    "AdapterSource",
    "ClaimVolume",
    "DataDestination",
    "DataSource",
    "Documents",
    "HostPathVolume",
    "InferenceSpec",
    "LabelSelector",
    "MatchExpression",
    "Metadata",
    "Method",
    "Partition",
    "PartitionMode",
    "PresetOptions",
    "PresetRef",
    "ResourceSpec",
    "Scaling",
    "TuningSpec",
    "VolumeSource",
    "Workspace",
    "WorkspaceMetadata",
    "load_documents",
    "parse_documents",
    "parse_workspace",
    "revision",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """One file's content."""

    workspaces: tuple[Workspace, ...]
    """At least one, in the file's order."""
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    """Texts by key, by the ConfigMap's name."""
    ignored: tuple[str, ...] = ()
    """A sentence for every document that is neither."""
    unfilled: tuple[str, ...] = ()
    """`path: WORD` for every placeholder; empty unless drafts were asked for."""


def load_documents(path: Path, *, allowed_hosts: Collection[str] = (), drafts: bool = False) -> Documents:
    """Read and parse one file; InputError also when it is missing, too large or not UTF-8.

    With `drafts`, placeholders such as ACR_REPO_HERE are no fault and are listed in `unfilled`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        # A cut character at the end of a file that is too large is not the complaint to make.
        text = content.decode("utf-8-sig", "strict" if len(content) <= MOST_BYTES else "replace")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    return parse_documents(text, str(path), allowed_hosts=allowed_hosts, drafts=drafts)


def parse_documents(
    text: str, source: str, *, allowed_hosts: Collection[str] = (), drafts: bool = False
) -> Documents:
    """Parse YAML of one document or more; `source` names it in messages.

    InputError lists every fault of every document: `source (document N):`, then a line each, `path: …`.
    `allowed_hosts` are hosts of the inside that data may be fetched from.
    """
    values = read_yaml(text, source)
    if all(value is None for value in values):
        raise InputError(
            f"{source}: empty; write a Workspace into it (apiVersion: {API_VERSIONS[0]}, kind: {KIND})"
        )
    unfilled = tuple(word for value in values for word in find_placeholders(value)) if drafts else ()
    if unfilled:
        values = [fill_placeholders(value) for value in values]
    reader = _Reader(source=source, context={ALLOWED_HOSTS: allowed_hosts}, unfilled=unfilled)
    for number, value in enumerate(values, start=1):
        if value is not None:
            reader.read(number, value)
    return reader.finish()


def parse_workspace(manifest: dict[str, Any]) -> Workspace:
    """One object as a cluster has it; InputError lists every fault, as `kairay plan` does."""
    try:
        return Workspace.model_validate(manifest)
    except ValidationError as error:
        lines = (f"{describe_path(each['loc'], KIND)}: {describe_error(each)}" for each in error.errors())
        raise InputError("; ".join(dict.fromkeys(lines))) from error


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Collects documents and complaints until the end of the file."""

    source: str
    context: dict[str, Any]
    unfilled: tuple[str, ...]
    workspaces: list[Workspace] = field(default_factory=list)
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    names: dict[tuple[str, str | None, str], int] = field(default_factory=dict)

    def read(self, number: int, value: object) -> None:
        where = f"{self.source} (document {number})"
        if isinstance(value, dict) and _is_foreign(value):
            self.ignored.append(
                f"{where}: {describe_value(value['kind'])} is not for Kairay and was left out"
            )
            return
        is_config_map = isinstance(value, dict) and value.get("kind") == CONFIG_MAP
        try:
            if is_config_map:
                config_map = ConfigMap.model_validate(value)
                self._claim(number, CONFIG_MAP, config_map.metadata)
                self.config_maps[config_map.metadata.name] = config_map.data
            else:
                workspace = Workspace.model_validate(value, context=self.context)
                self._claim(number, KIND, workspace.metadata)
                self.workspaces.append(workspace)
        except ValidationError as error:
            root = CONFIG_MAP if is_config_map else KIND
            lines = (f"{describe_path(each['loc'], root)}: {describe_error(each)}" for each in error.errors())
            self.complaints.append("\n".join((f"{where}:", *dict.fromkeys(lines))))
        except InputError as error:
            self.complaints.append(f"{where}:\n{error}")

    def _claim(self, number: int, kind: str, metadata: Metadata) -> None:
        first = self.names.setdefault((kind, metadata.namespace, metadata.name), number)
        if first != number:
            raise InputError(
                f"metadata.name: document {first} is a {kind} {metadata.name} too; give each its own name"
            )

    def finish(self) -> Documents:
        if self.complaints:
            raise InputError("\n".join(self.complaints))
        if not self.workspaces:
            others = "; ".join(self.ignored) or "only ConfigMaps"
            raise InputError(
                f"{self.source}: no {KIND} in it ({others}); write one (apiVersion: {API_VERSIONS[0]})"
            )
        return Documents(
            workspaces=tuple(self.workspaces),
            config_maps=self.config_maps,
            ignored=tuple(self.ignored),
            unfilled=self.unfilled,
        )


def _is_foreign(document: dict[str, Any]) -> bool:
    """Another kind, and no misspelt one of ours."""
    kind = document.get("kind")
    return isinstance(kind, str) and nearest(kind, (KIND, CONFIG_MAP)) is None
