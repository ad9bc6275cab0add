"""What a user fixed in a config of their own, as a plan takes it: None wherever nothing was said.

A plan keeps what was fixed, checks that it fits, and chooses the rest around it. `kairay.plan_config` reads these
values from a ConfigMap's text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kairay import memory
from kairay.memory import Dtype, Optimizer
from kairay.presets import ModelFacts, TuningFacts

ALL_LINEAR = "all-linear"
"""peft's word for every linear module; any other text is a pattern of whole names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    source: str = ""
    """Where they are written, such as `ConfigMap mine`; empty: nothing is."""
    said: tuple[str, ...] = ()
    """What was written and is planned with, such as `LoraConfig.r 128`."""
    costs: tuple[str, ...] = ()
    """The part of it that may take more memory than the preset's own, in short, the heaviest first: `r 128`."""
    uncounted: tuple[str, ...] = ()
    """What was written, changes the memory, and is not in the estimate; each with what is counted instead."""
    notes: tuple[str, ...] = ()
    """What was written and has no effect, each with who decides it instead, or with what was probably meant."""

    @property
    def because(self) -> str:
        """What of it makes the work large, two things at most, as the end of a sentence; empty when nothing does."""
        return f" with {' and '.join(self.costs[:2])}" if self.costs else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningWishes(_Wishes):
    """What KAITO's `training_config.yaml` fixes of a tuning run."""

    rank: int | None = None
    target_modules: tuple[str, ...] | str | None = None
    """Names, or one pattern of whole names, as peft takes them; `all-linear` is every one."""
    saved_modules: tuple[str, ...] = ()
    """Modules that are trained whole."""
    layers: tuple[int, ...] | None = None
    """Those that get LoRA, by number."""
    dropout: float | None = None
    sequence_length: int | None = None
    micro_batch: int | None = None
    accumulation: int | None = None
    packing: bool | None = None
    checkpointing: bool | None = None
    optimizer: Optimizer | None = None
    weight_bits: float | None = None
    """Of a quantised parameter."""
    dtype: Dtype | None = None
    """Of the base model."""
    compute_dtype: Dtype | None = None
    """Of products with quantised matrices."""
    epochs: float | None = None
    max_steps: int | None = None
    """Optimiser steps of the whole run, whatever the epochs."""
    train_share: float = 1.0
    """Part of the rows that is trained on."""

    def applied(self, facts: TuningFacts, model: ModelFacts) -> TuningFacts:
        """The preset's facts with what the adapter and its rows are like; equal where nothing was said."""
        defaults = facts.defaults
        targets = facts.target_modules
        if self.target_modules is not None:
            targets = _linear_modules(self.target_modules, model)
        layers = defaults.layers
        if isinstance(self.target_modules, str):  # peft takes no layers beside a pattern
            layers = None
        elif self.layers:
            layers = max(1, model.layers - min(self.layers))
        defaults = replace(
            defaults,
            layers=layers,
            rank=self.rank or defaults.rank,
            dropout=defaults.dropout if self.dropout is None else self.dropout,
        )
        return replace(facts, target_modules=targets, defaults=defaults)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingWishes(_Wishes):
    """What the section `vllm` of `inference_config.yaml` fixes of a replica."""

    context_length: int | None = None
    stretched: bool = False
    """The model's own context is no limit: its configuration is changed too."""
    dtype: Dtype | None = None
    kv_dtype: Dtype | None = None
    kv_cache_bytes: int | None = None
    """Of one GPU."""
    utilisation: float | None = None
    """Part of the GPU memory that its driver reports."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    max_requests: int | None = None
    """At once, of one replica."""
    batch_tokens: int | None = None
    """Of one forward pass."""
    eager: bool | None = None
    """No CUDA graphs are recorded."""


Wishes = TuningWishes | ServingWishes

NO_TUNING_WISHES = TuningWishes()
NO_SERVING_WISHES = ServingWishes()


def _linear_modules(named: tuple[str, ...] | str, model: ModelFacts) -> tuple[str, ...]:
    """The model's linear modules that peft would choose: those whose name ends so; all of them for a pattern, which
    may choose fewer (not every pattern can be run here: `plan_patterns`)."""
    shapes = memory.module_shapes(model)
    if isinstance(named, str):
        return tuple(shapes)
    ends = {name.rpartition(".")[2] for name in named}
    return tuple(module for module in shapes if module in ends)
