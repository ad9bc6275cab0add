"""What a user's LoraConfig names of a model, its modules and layers, beside what the model has.

peft finds a module by the end of its path (`q_proj`, `self_attn.q_proj`), by one pattern of whole paths, or all linear
ones by a word. Of a list it silently leaves out what it does not find; where it finds nothing it fails, and only in the
job (peft.tuners.tuners_utils.check_target_module_exists). Every preset that can be tuned has a dense decoder whose
modules are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kairay import memory
from kairay.plan_patterns import matches_any
from kairay.plan_wishes import ALL_LINEAR, TuningWishes
from kairay.presets import ModelFacts, Preset
from kairay.values import nearest

_EMBEDDINGS: Final = ("embed_tokens", "lm_head")
_NORMS: Final = ("norm", "input_layernorm", "post_attention_layernorm")
_OF_OTHERS: Final = frozenset({
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "in_proj", "gate_proj", "up_proj", "down_proj",
    "gate_up_proj", "query_proj", "key_proj", "value_proj", "query", "key", "value", "query_key_value", "c_attn",
    "c_proj", "c_fc", "Wqkv", "dense", "fc1", "fc2", "r_proj", "q_a_proj", "q_b_proj", "kv_b_proj", "embed_in",
    "embed_out", "embed_positions", "word_embeddings", "wte", "x_proj", "dt_proj", "z_proj", "g_proj", "b_proj",
    "a_proj", "kv_proj", "in_proj_qkv",
})  # fmt: skip
"""Modules of other families (most by peft.utils.constants): no slips of the pen in a config that serves several."""
_NEAR: Final = 0.7
"""Likeness of a name and what was meant: a letter or two."""
_PLAIN: Final = re.compile(r"\w[\w.-]*")
"""A pattern that can only match itself, but for a dot."""


def lora_faults(wishes: TuningWishes, preset: Preset) -> Iterator[str]:
    """What peft would find none of, or not find as it was meant; each with what was probably meant."""
    if preset.tuning is None:
        return
    yield from _target_faults(wishes.target_modules, preset)
    for name in wishes.saved_modules:
        if meant := _meant_to_save(name, preset.model):
            yield f"LoraConfig.modules_to_save {name} is no module of {preset.name}; did you mean {meant}?"
    beyond = [str(layer) for layer in wishes.layers or () if layer >= preset.model.layers]
    if beyond:
        yield (
            f"LoraConfig.layers_to_transform {', '.join(beyond)} is beyond {preset.name}, which has layers 0 to"
            f" {preset.model.layers - 1}"
        )


def uncounted_modules(wishes: TuningWishes, model: ModelFacts) -> tuple[str, ...]:
    """Modules that were named for LoRA, are no linear ones of the model, and no slips of the pen."""
    named = wishes.target_modules
    if named is None or isinstance(named, str):
        return ()
    shapes = memory.module_shapes(model)
    return tuple(name for name in named if _end(name) not in shapes and not _meant(name, model))


def _target_faults(named: tuple[str, ...] | str | None, preset: Preset) -> Iterator[str]:
    if named is None:
        return
    if isinstance(named, str):
        yield from _pattern_faults(named, preset)
        return
    what, model = "LoraConfig.target_modules", preset.model
    slips = {name: meant for name in named if (meant := _meant(name, model))}
    astray = _astray(named, model)
    for name, meant in (slips | astray).items():
        yield f"{what} {name} is no module of {preset.name}; did you mean {meant}?"
    if not slips and not astray and not any(_end(name) in _targets(model) for name in named):
        fault = (
            f"{', '.join(named)} is nothing of {preset.name} that LoRA goes to"
            if named
            else "is an empty list"
        )
        yield f"{what} {fault}; name some of {', '.join(memory.module_shapes(model))}"


def _astray(named: tuple[str, ...], model: ModelFacts) -> dict[str, str]:
    """Names with a path that ends in a module of the model and is the end of none of its paths, each with the path
    that was meant; not where another name of the list finds that module, as in a list for several families."""
    paths = memory.module_paths(model) or ()
    found = {_end(path) for path in paths if _finds(named, path)}
    short = {_end(path): ".".join(path.split(".")[-2:]) for path in paths}
    return {name: short[end] for name in named if (end := _end(name)) in short and end not in found}


def _finds(named: tuple[str, ...], path: str) -> bool:
    """Whether peft finds this module by one of the names."""
    return any(path == name or path.endswith(f".{name}") for name in named)


def _pattern_faults(pattern: str, preset: Preset) -> Iterator[str]:
    """A pattern that matches nothing; one name instead of a list is what people write, and peft takes it for one."""
    paths = memory.module_paths(preset.model)
    if pattern.lower() == ALL_LINEAR or paths is None:
        return
    try:
        found = matches_any(pattern, paths)
    except ValueError as error:
        yield f"LoraConfig.target_modules {pattern} is not in a list, so it is a pattern, and it is none: {error}"
        return
    if found is not False:
        return
    if _PLAIN.fullmatch(pattern) and not pattern.startswith("model."):
        yield _name_as_pattern(pattern, preset)
        return
    inside = paths[1:-1]
    yield (
        f"LoraConfig.target_modules {pattern} is a pattern of whole paths and matches none of {preset.name}, which go"
        f" from {inside[0]} to {inside[-1]}; mend it, or write a list, of"
        f" {', '.join(memory.module_shapes(preset.model))}"
    )


def _name_as_pattern(pattern: str, preset: Preset) -> str:
    known = _targets(preset.model)
    meant = (
        _end(pattern)
        if _end(pattern) in known
        else nearest(_end(pattern), [*known, ALL_LINEAR], cutoff=_NEAR)
    )
    remedy = {
        None: f"write a list, of {', '.join(memory.module_shapes(preset.model))}",
        ALL_LINEAR: f"did you mean {ALL_LINEAR}?",
    }.get(meant, f"write a list: [{meant}]")
    return (
        f"LoraConfig.target_modules {pattern} is not in a list, so it is a pattern of whole paths, and {preset.name}"
        f" has no such path; {remedy}"
    )


def _meant(name: str, model: ModelFacts) -> str | None:
    """The module that a slip of the pen stands for; None for a name that is known, here or elsewhere."""
    end, known = _end(name), _targets(model)
    return None if end in known or end in _OF_OTHERS else nearest(end, known, cutoff=_NEAR)


def _meant_to_save(name: str, model: ModelFacts) -> str | None:
    """The same of a module that is trained whole: peft finds it by the last letters of its path."""
    known = _targets(model)
    if name in _OF_OTHERS or any(each.endswith(_end(name)) for each in (*known, *_NORMS)):
        return None
    return nearest(_end(name), known, cutoff=_NEAR)


def _targets(model: ModelFacts) -> tuple[str, ...]:
    """Everything that LoRA may go to."""
    return (*memory.module_shapes(model), *_EMBEDDINGS)


def _end(name: str) -> str:
    return name.rpartition(".")[2]
