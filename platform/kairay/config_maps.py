"""The two ConfigMaps that a Workspace may name, `tuning.config` and `inference.config`: where they stand, and the
sections in their text. What a section's keys may be is checked by who reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kairay.errors import InputError
from kairay.values import nearest
from kairay.workspace_fields import dig
from kairay.workspace_yaml import read_yaml

if TYPE_CHECKING:
    from kairay.workspace import Workspace

TRAINING_KEY: Final = "training_config.yaml"
"""Key of the ConfigMap that `tuning.config` names."""
INFERENCE_KEY: Final = "inference_config.yaml"
"""Key of the ConfigMap that `inference.config` names."""

SECTIONS: Final = "training_config"
"""The mapping of sections inside the former."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPlace:
    """Where a Workspace's own config stands."""

    field: str
    """Of the Workspace: `tuning.config`."""
    name: str
    """Of the ConfigMap."""
    key: str
    """In its data."""


def config_of(workspace: Workspace) -> ConfigPlace | None:
    """The ConfigMap that a Workspace names; None when it names none."""
    spec = workspace.tuning or workspace.inference
    if spec is None or spec.config is None:
        return None
    if workspace.tuning is not None:
        return ConfigPlace(field="tuning.config", name=spec.config, key=TRAINING_KEY)
    return ConfigPlace(field="inference.config", name=spec.config, key=INFERENCE_KEY)


def written_config(manifest: Mapping[str, Any]) -> ConfigPlace | None:
    """The same of a Workspace as it is written, also where it cannot be read."""
    for part, key in (("tuning", TRAINING_KEY), ("inference", INFERENCE_KEY)):
        # As everywhere in what people write, "" is not given.
        if (name := dig(manifest, part, "config")) and isinstance(name, str):
            return ConfigPlace(field=f"{part}.config", name=name, key=key)
    return None


def text_in(place: ConfigPlace, data: Mapping[str, str] | None, namespace: str) -> str:
    """The text in the data of its ConfigMap on a cluster (None: there is no such ConfigMap); InputError for a gap."""
    if data is None:
        raise InputError(
            f"{place.field}: there is no ConfigMap {place.name} in namespace {namespace}; apply it"
        )
    if data.get(place.key) is None:
        raise InputError(
            f"{place.field}: ConfigMap {place.name} has no key {place.key}; put the text under data.{place.key}"
        )
    return str(data[place.key])


def text_on_machine(workspace: Workspace, config_maps: Mapping[str, Mapping[str, str]]) -> str | None:
    """The text that a Workspace names where there is no cluster: it stands in the file, whose ConfigMaps these are.

    None where it names none; InputError for a gap.
    """
    place = config_of(workspace)
    if place is None:
        return None
    if (data := config_maps.get(place.name)) is not None:
        return text_in(place, data, "")
    near = nearest(place.name, config_maps)
    remedy = (
        f"did you mean {near}?" if near else f"add it after a line with ---, with data: {{{place.key}: ...}}"
    )
    raise InputError(f"{place.field}: no ConfigMap {place.name} in the file; {remedy}")


def training_sections(content: str, where: str) -> dict[str, Any]:
    """KAITO's sections from a ConfigMap's text; `where` names it in messages. Each key is
    checked in `training_config`."""
    written = _mapping(content, where)
    sections = written.get(SECTIONS) if written is not None else None
    if not isinstance(sections, dict):
        raise InputError(f"{where}: give a mapping {SECTIONS} with sections such as TrainingArguments")
    return sections


def engine_settings(content: str, engine: str, where: str) -> dict[str, Any]:
    """The section of one engine in a ConfigMap's text (KAITO's `inference_config.yaml`); `where` names it."""
    written = _mapping(content, where)
    section = (written.get(engine) or {}) if written is not None else None
    if not isinstance(section, dict):
        raise InputError(f"{where}: give a mapping with a section {engine}")
    return section


def _mapping(content: str, where: str) -> dict[str, Any] | None:
    """The text's one document; None when it is no mapping."""
    documents = [each for each in read_yaml(content, where) if each is not None]
    return documents[0] if len(documents) == 1 and isinstance(documents[0], dict) else None
