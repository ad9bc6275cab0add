"""The catalogue of models: `presets/*.yaml`, read strictly into frozen values.

A preset holds facts (shape, licence, where the weights are) and defaults for tuning; what follows from the
facts (bytes, GPUs, batch) is computed in `memory` and `plan`, never written down. Shape facts that are not
known are None.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from kairay.errors import InputError
from kairay.model_facts import STRICT_FILE, Count, FileFormat, ModelFacts, Quantisation
from kairay.resources import data_dir
from kairay.values import near_words

__all__ = [
    "DeprecatedPreset", "FileFormat", "ModelFacts", "ModelSource", "Preset", "Quantisation", "Scheduler", "SourceKind",
    "TuningDefaults", "TuningFacts", "TuningMethod", "find_preset", "load_deprecated", "load_presets", "parse_preset",
    "preset_data", "render_preset",
]  # fmt: skip


class SourceKind(StrEnum):
    """Where weights can come from."""

    WHEEL = "wheel"
    IMAGE = "image"
    HUB = "hub"
    FOLDER = "folder"


class TuningMethod(StrEnum):
    """What a preset can be tuned with; the same words as `tuning.method`."""

    LORA = "lora"
    QLORA = "qlora"


class Scheduler(StrEnum):
    """Learning-rate schedules, by the names that transformers gives them."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """One place to get the weights from; a preset's sources are tried in order."""

    kind: SourceKind
    name: str
    """A wheel's distribution name, an OCI reference, a hub id, or an absolute path."""
    file: str | None = None
    """For a wheel: the GGUF file in it, as installed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningDefaults:
    """Settings of a tuning run that names none; each may be overridden by the Workspace's tuning config."""

    epochs: Count
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    rank: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    layers: Count | None = None
    """Only the last n layers get LoRA; None: all."""
    sequence_length: Count
    """Tokens of a packed row."""
    batch_tokens: Count
    """Tokens of one optimiser step, over all workers."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    scheduler: Scheduler = Scheduler.COSINE

    __pydantic_config__: ClassVar[ConfigDict] = STRICT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningFacts:
    """How a model is tuned: methods, the linear modules LoRA goes to, and defaults."""

    methods: tuple[TuningMethod, ...]
    target_modules: tuple[str, ...]
    defaults: TuningDefaults

    __pydantic_config__: ClassVar[ConfigDict] = STRICT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One model of the catalogue."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other names it is found by; KAITO's short names are among them. The hub id is found too."""
    model: ModelFacts
    sources: Annotated[tuple[ModelSource, ...], Field(min_length=1)]
    tuning: TuningFacts | None = None
    chat_template_note: str | None = None
    """What a person should know about chatting with it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class DeprecatedPreset:
    """A name that KAITO's files may still carry and that no preset answers to."""

    name: str
    since: str
    """A month or a release, to be read after "since"."""
    instead: str
    """The preset to use in its place."""

    def __str__(self) -> str:
        return f"preset {self.name} is deprecated since {self.since} and gone; use {self.instead}"


def find_preset(name: str) -> Preset:
    """The preset with this name, alias or hub id, whatever the case.

    InputError for another name: it says what has taken a deprecated one's place, or which names are near.
    """
    if (preset := _shipped(name.casefold())) is not None:
        return preset
    index = _index()
    if (preset := index.get(name.casefold())) is not None:
        return preset
    if (gone := load_deprecated().get(name.casefold())) is not None:
        raise InputError(str(gone), reason="DeprecatedPreset")
    near = near_words(name.casefold(), index, most=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`kairay presets` lists them"
    raise InputError(f"there is no preset {name!r}; {hint}", reason="UnknownPreset")


@cache
def load_presets() -> Mapping[str, Preset]:
    """Every shipped preset by its name, in the order of names; InputError for a file that is not one."""
    presets = [_read(path) for path in data_dir("presets").glob("*.yaml")]
    _names(presets)
    return MappingProxyType(
        {preset.name: preset for preset in sorted(presets, key=lambda preset: preset.name)}
    )


@cache
def load_deprecated() -> Mapping[str, DeprecatedPreset]:
    """Every deprecated name, from `presets/deprecated.csv`."""
    with (data_dir("presets") / "deprecated.csv").open(encoding="utf-8", newline="") as file:
        rows = [DeprecatedPreset(**row) for row in csv.DictReader(file)]
    return MappingProxyType({row.name: row for row in rows})


def parse_preset(text: str, source: str) -> Preset:
    """One preset from YAML; InputError says which field of `source` (a file name) is wrong and how."""
    try:
        # By way of JSON: strict reading takes JSON's lists for tuples and its strings for enumerations.
        preset = _adapter().validate_json(json.dumps(yaml.load(text, _LOADER)))  # noqa: S506  # a safe loader
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    except (ValidationError, TypeError) as error:
        raise InputError(f"{source}: {_first_fault(error)}") from error
    if preset.name != Path(source).stem:
        raise InputError(f"{source}: name is {preset.name!r}; name the file {preset.name}.yaml")
    return preset


def preset_data(preset: Preset) -> dict[str, Any]:
    """A preset as its file would say it, without what is the default anyway; JSON-ready."""
    data: dict[str, Any] = _adapter().dump_python(preset, mode="json", by_alias=True, exclude_defaults=True)
    return data


def render_preset(preset: Preset) -> str:
    """The YAML that `parse_preset` reads back to the same value."""
    return yaml.safe_dump(preset_data(preset), sort_keys=False, allow_unicode=True)


@cache
def _read(path: Path) -> Preset:
    return parse_preset(path.read_text("utf-8"), path.name)


def _shipped(name: str) -> Preset | None:
    """By its file, whose name is the preset's: most ask so, and a command need not read the sixty others."""
    for path in data_dir("presets").iterdir():
        if path.name == f"{name}.yaml":
            return _read(path)
    return None


@cache
def _index() -> Mapping[str, Preset]:
    return MappingProxyType(_names(load_presets().values()))


_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _adapter() -> TypeAdapter[Preset]:
    return TypeAdapter(Preset)


def _first_fault(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return f"a preset is plain text and numbers: {error}"
    fault = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'the document'}: {fault['msg']}"


def _names(presets: Iterable[Preset]) -> dict[str, Preset]:
    """Everything a preset can be asked by, casefolded; InputError when two presets claim one word."""
    index: dict[str, Preset] = {}
    for preset in presets:
        for name in (preset.name, *preset.aliases, preset.model.id):
            other = index.setdefault(name.casefold(), preset)
            if other is not preset:
                raise InputError(f"presets {other.name} and {preset.name} both claim the name {name!r}")
    return index
