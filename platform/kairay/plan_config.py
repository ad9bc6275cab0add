"""A user's own config as a plan takes it: the ConfigMap of `tuning.config` or `inference.config` -> wishes.

Only keys that change memory, batch or cost become wishes. What the job would refuse of a training config is an
InputError here already, with the ConfigMap, the key, and what is allowed; of vLLM's options only those wishes are read,
all others are the engine's to check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kairay.config_maps import config_of, engine_settings, training_sections
from kairay.errors import InputError
from kairay.memory import INT8_BITS, NF4_PLAIN_BITS, Optimizer
from kairay.plan_config_keys import HEAVIEST, KV_WORDS, OPTIMIZERS, SERVING, TRAINING, Key
from kairay.plan_wishes import ALL_LINEAR, ServingWishes, TuningWishes, Wishes
from kairay.presets import TuningMethod
from kairay.training_config import read_sections
from kairay.values import nearest

if TYPE_CHECKING:
    from kairay.workspace import Workspace

ENGINE = "vllm"
"""The section that is read: the other engine has no key that changes the plan."""
_NEAR = 0.87
"""Likeness of an option and what was meant; vLLM's own options are less like each other (data-parallel-size-local)."""
_MOST = 2**48
"""Of any number: bytes of a GPU are fewer by far."""


def read_config(workspace: Workspace, content: str | None) -> Wishes | None:
    """What the text of the Workspace's ConfigMap fixes; None without a text. InputError for a wrong value."""
    named = config_of(workspace)
    if named is None or content is None:
        return None
    source = f"ConfigMap {named.name}"
    if workspace.tuning is None:
        return read_serving(content, source)
    return read_tuning(content, source, TuningMethod(workspace.tuning.method))


def refused_config(workspace: Workspace, why: str) -> Wishes | None:
    """Nothing is fixed by a config that was refused; None where the Workspace names none."""
    named = config_of(workspace)
    if named is None:
        return None
    kind = ServingWishes if workspace.tuning is None else TuningWishes
    told = f"it is refused, so the preset's own settings are planned with ({why})"
    return kind(source=f"ConfigMap {named.name}", uncounted=(told,))


def read_tuning(content: str, source: str, method: TuningMethod) -> TuningWishes:
    """KAITO's `training_config.yaml`; of two keys for one thing the later one counts, as in the job."""
    notes = _Notes(source)
    sections = read_sections(training_sections(content, source), method, source=source)
    for each in sections.keys:
        if key := TRAINING.get(each.section, {}).get(each.name):
            notes.take(key, each.name, each.place, each.value, shown=each.written)
    found = notes.found
    optim = found.pop("optim", None)
    if optim is not None and optim not in OPTIMIZERS:
        notes.uncounted.append(f"TrainingArguments.optim {optim} counts as {Optimizer.ADAMW} in the memory")
    modules = found.get("target_modules")
    if isinstance(modules, str) and modules != ALL_LINEAR:
        notes.uncounted.append("the pattern LoraConfig.target_modules counts as every linear module")
    eight, double = found.pop("eight_bits", False), found.pop("double_quantised", True)
    steps = found.pop("max_steps", 0)
    return TuningWishes(
        **notes.words(),
        **found,
        optimizer=OPTIMIZERS.get(optim),
        weight_bits=INT8_BITS if eight else None if double else NF4_PLAIN_BITS,
        max_steps=steps if steps > 0 else None,
        notes=sections.notes,
    )


def read_serving(content: str, source: str) -> ServingWishes:
    """The section `vllm` of `inference_config.yaml`; `_` in a key counts as `-`, as for vLLM."""
    notes, slips = _Notes(source), list[str]()
    for written, value in engine_settings(content, ENGINE, source).items():
        name = written.replace("_", "-")
        if key := SERVING.get(name):
            notes.take(key, name, f"{ENGINE}.{name}", value, shown=value)
        elif meant := nearest(name, SERVING, cutoff=_NEAR):
            slips.append(f"{ENGINE}.{written} is not a setting that a plan knows; did you mean {meant}?")
    word = notes.found.pop("kv_word", None)
    if word is not None and word not in KV_WORDS:
        notes.uncounted.append(
            f"vllm.kv-cache-dtype {word} counts as the model's own number format in the memory"
        )
    return ServingWishes(**notes.words(), **notes.found, kv_dtype=KV_WORDS.get(word), notes=tuple(slips))


class _Notes:
    """What was found so far, by the name of the wish."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.found: dict[str, Any] = {}
        self._said: dict[str, str] = {}
        self._costs: dict[str, str] = {}
        self.uncounted: list[str] = []

    def take(self, key: Key, name: str, where: str, value: object, *, shown: object) -> None:
        """Read one value; InputError when it is wrong. `shown` is how it was written."""
        if value is None:
            return
        try:
            read = key.read(value)
        except ValueError as error:
            raise InputError(f"{self._source}: {where} is {error}") from error
        if isinstance(read, int | float) and read > _MOST:
            raise InputError(
                f"{self._source}: {where} is {_shown(shown)[:40]}, which is more than anything can be"
            )
        if key.wish is None:
            self.uncounted += [f"{where} is not counted in the memory"] if key.costs(read) else []
            return
        for told in (self.found, self._said, self._costs):
            told.pop(key.wish, None)
        if read is None:
            return
        self.found[key.wish] = read
        self._said[key.wish] = f"{where} {_shown(shown)}"
        if key.costs(read):
            self._costs[key.wish] = f"{name} {_shown(shown)}"

    def words(self) -> dict[str, Any]:
        """The fields that every kind of wishes has."""
        return {
            "source": self._source,
            "said": tuple(self._said.values()),
            "costs": tuple(self._costs[wish] for wish in HEAVIEST if wish in self._costs),
            "uncounted": tuple(self.uncounted),
        }


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
