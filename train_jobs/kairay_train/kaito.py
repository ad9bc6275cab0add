"""KAITO's `training_config.yaml`, key by key.

What each key does is said in the tables of `kaito_keys`; a key or section that is in no table is an
InputError.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kairay.errors import InputError
from kairay.values import mapping
from kairay_train.kaito_keys import SECTIONS, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What the sections ask for, read and typed."""

    settings: dict[str, object] = field(default_factory=dict)
    lora: dict[str, object] = field(default_factory=dict)
    quantization: dict[str, object] = field(default_factory=dict)
    trainer: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """One sentence for each key that was accepted and has no effect."""


def read_sections(written: Mapping[str, object]) -> Sections:
    """Type KAITO's sections, with or without the outer `training_config`; InputError names the first wrong
    key."""
    outer = written.get("training_config", written)
    sections = _mapping(outer, "training_config")
    result = Sections()
    passed = {"LoraConfig": result.lora, "QuantizationConfig": result.quantization}
    notes = []
    for section, content in sections.items():
        if section not in SECTIONS:
            raise InputError(_unknown(f"section {section}", section, SECTIONS))
        for name, value in _mapping(content, section).items():
            key = _find(section, name)
            if value is None:
                continue
            read = _read(key, f"{section}.{name}", value)
            if key.setting is not None:
                result.settings[key.setting] = read
            elif key.passed:
                passed.get(section, result.trainer)[name] = read
            else:
                notes.append(f"{section}.{name}: {key.note}")
    return Sections(
        settings=result.settings,
        lora=result.lora,
        quantization=result.quantization,
        trainer=result.trainer,
        notes=tuple(notes),
    )


def known_keys() -> dict[str, dict[str, Key]]:
    """Every section's table, for documentation and tests."""
    return {section: dict(table) for section, table in SECTIONS.items()}


def _mapping(value: object, where: str) -> dict[str, object]:
    try:
        return mapping({} if value is None else value)
    except ValueError as error:
        raise InputError(f"training config: {where} is {error}") from error


def _find(section: str, name: str) -> Key:
    if name in SECTIONS[section]:
        return SECTIONS[section][name]
    for other, table in SECTIONS.items():
        if name in table:
            raise InputError(f"training config: {section}.{name} belongs in section {other}; move it there")
    raise InputError(_unknown(f"key {section}.{name}", name, SECTIONS[section]))


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"training config: unknown {what}; {hint}"


def _read(key: Key, where: str, value: object) -> object:
    try:
        return key.read(value)
    except ValueError as error:
        raise InputError(f"training config: {where} is {error}") from error
