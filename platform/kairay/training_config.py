"""KAITO's `training_config.yaml`, key by key, as the plan and the job read it.

What each key does is said in the tables of `training_keys`; a key or section that is in no table is an InputError, and
so are keys that contradict each other. The job refuses nothing of a config that is not refused here, so that the plan
can say it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kairay.errors import InputError
from kairay.presets import TuningMethod
from kairay.training_keys import SECTIONS, Key
from kairay.values import mapping, nearest

SOURCE: Final = "training config"
"""What a message begins with, where nobody knows what the sections were written in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadKey:
    """One key that was written with a value."""

    section: str
    name: str
    key: Key
    written: object
    value: object
    """What was written, read."""

    @property
    def place(self) -> str:
        """`LoraConfig.r`."""
        return f"{self.section}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What the sections ask for, read and typed."""

    keys: tuple[ReadKey, ...] = ()
    """As they were written; of two for one thing the later one counts."""
    settings: dict[str, object] = field(default_factory=dict)
    lora: dict[str, object] = field(default_factory=dict)
    quantization: dict[str, object] = field(default_factory=dict)
    trainer: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """One sentence for each key that was accepted and has no effect."""


def read_sections(written: Mapping[str, object], method: TuningMethod, *, source: str = SOURCE) -> Sections:
    """Type KAITO's sections, with or without the outer `training_config`, of a run that is tuned by `method`.

    InputError names the first wrong key, or those that contradict each other; it begins with `source`.
    """
    sections = _mapping(written.get("training_config", written), source, "training_config")
    result = Sections(keys=tuple(_read_keys(sections, source)))
    passed = {"LoraConfig": result.lora, "QuantizationConfig": result.quantization}
    notes = []
    for each in result.keys:
        if each.key.setting is not None:
            result.settings[each.key.setting] = each.value
        elif each.key.passed:
            passed.get(each.section, result.trainer)[each.name] = each.value
        else:
            notes.append(f"{each.place}: {each.key.note}")
    read = Sections(
        keys=result.keys,
        settings=result.settings,
        lora=result.lora,
        quantization=result.quantization,
        trainer=result.trainer,
        notes=tuple(notes),
    )
    for fault in _contradictions(read, method):
        raise InputError(f"{source}: {fault}")
    return read


def quantised_bits(sections: Sections, method: TuningMethod) -> int | None:
    """4 or 8 of a quantised base model, None for a plain one."""
    if method is TuningMethod.LORA:
        return None
    return 8 if sections.settings.get("load_in_8bit") else 4


def known_keys() -> dict[str, dict[str, Key]]:
    """Every section's table, for documentation and tests."""
    return {section: dict(table) for section, table in SECTIONS.items()}


def _read_keys(sections: Mapping[str, object], source: str) -> Iterator[ReadKey]:
    for section, content in sections.items():
        if section not in SECTIONS:
            raise InputError(f"{source}: {_unknown(f'section {section}', section, SECTIONS)}")
        for name, value in _mapping(content, source, section).items():
            key = _find(section, name, source)
            if value is None:
                continue
            try:
                read = key.read(value)
            except ValueError as error:
                raise InputError(f"{source}: {section}.{name} is {error}") from error
            yield ReadKey(section=section, name=name, key=key, written=value, value=read)


def _find(section: str, name: str, source: str) -> Key:
    if name in SECTIONS[section]:
        return SECTIONS[section][name]
    for other, table in SECTIONS.items():
        if name in table:
            raise InputError(f"{source}: {section}.{name} belongs in section {other}; move it there")
    raise InputError(f"{source}: {_unknown(f'key {section}.{name}', name, SECTIONS[section])}")


def _contradictions(sections: Sections, method: TuningMethod) -> Iterator[str]:
    """Keys that cannot go together, or not with the method; most of them peft or bitsandbytes would refuse on a GPU."""
    settings, lora = sections.settings, sections.lora
    four, eight = settings.get("load_in_4bit"), settings.get("load_in_8bit")
    if four and eight:
        yield f"{_places(sections, 'load_in_4bit', 'load_in_8bit')} are both true; keep one"
    if method is TuningMethod.LORA and (four or eight):
        where = _places(sections, "load_in_4bit" if four else "load_in_8bit")
        yield f"{where} is true and method lora does not quantise; use qlora, or leave it out"
    if method is TuningMethod.QLORA and four is False and not eight:
        where = _places(sections, "load_in_4bit")
        yield f"{where} is false and method qlora quantises; leave it out, set load_in_8bit, or use lora"
    if isinstance(settings.get("target_modules"), str):
        for name in ("layers_to_transform", "layers_pattern"):
            if name in lora:
                yield f"LoraConfig.{name} needs LoraConfig.target_modules as a list of names"
    if lora.get("layers_pattern") and "layers_to_transform" not in lora:
        yield "LoraConfig.layers_pattern needs LoraConfig.layers_to_transform; add it, or leave both out"
    if lora.get("lora_bias") and lora.get("use_dora"):
        yield "LoraConfig.lora_bias and LoraConfig.use_dora do not go together; keep one"
    if lora.get("lora_bias") and not isinstance(lora.get("init_lora_weights", True), bool):
        yield "LoraConfig.lora_bias needs LoraConfig.init_lora_weights true or false; leave one out"


def _places(sections: Sections, *settings: str) -> str:
    """Where the values of these settings that count are written."""
    found = {each.key.setting: each.place for each in sections.keys}
    return " and ".join(found[each] for each in settings)


def _mapping(value: object, source: str, where: str) -> dict[str, object]:
    try:
        return mapping({} if value is None else value)
    except ValueError as error:
        raise InputError(f"{source}: {where} is {error}") from error


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = nearest(name, known, cutoff=0.5)
    hint = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}"
    return f"unknown {what}; {hint}"
