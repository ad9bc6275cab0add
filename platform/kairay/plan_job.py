"""What a tuning job costs on a machine size: hours and dollars from tokens, the model's operations and the
GPU's rate. An estimate; `assumptions` says of what.

Operations of one token: 2 for each parameter forward (Kaplan et al. 2020, "Scaling Laws for Neural Language
Models", section 2.1), 2 for the backward pass to the activations, and 2 more where activations are computed
again (GPUs). The 2 for gradients of the weights do not come: the base model is frozen, and LoRA's own are under
one in a hundred. That is 6, as full training without recomputation. Attention's products among tokens are left
out: under a tenth at rows of 4,096 tokens. Of a mixture of experts only what a token goes through counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kairay import memory
from kairay.gpu_rates import peak_flops
from kairay.plan_tuning import TuningShape
from kairay.presets import ModelFacts, TuningMethod
from kairay.skus import Device, Sku, SkuKind

FLOPS_PER_PARAMETER = 6
UTILISATION = {TuningMethod.LORA: 0.40, TuningMethod.QLORA: 0.32}
"""Part of the peak rate that tuning reaches, assumed. By the factor above, torchtune's published rates (its README,
2025) are 13 % for a 3B model on an A100 without packing and 49 % by QLoRA with packing and compilation; QLoRA of 8B is
0.78 of LoRA there. Ours packs and does not compile: a third, and the same ratio."""
START_SECONDS = 600.0
"""Of each machine before its first step, assumed: node, images, weights. Paid for like work; a machine of one's own
is there."""
CHECKPOINT_SHARE, CHECKPOINT_SECONDS = 0.1, 60.0
"""Checkpoints come each tenth of the run, and at least once a minute (kairay_train.checkpoints)."""
BYTES_PER_TOKEN = 4
"""Of training text, where nothing better is known: 3.5 to 4.5 for English, fewer for other languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """How much there is to learn from."""

    tokens: int
    """Of one epoch."""
    epochs: float
    basis: str
    """How the tokens were counted, in words."""

    @property
    def trained_tokens(self) -> int:
        """Of the whole run."""
        return int(self.tokens * self.epochs)

    def over(self, steps: int, shape: TuningShape) -> TrainingData:
        """The same data for a run of so many optimiser steps."""
        return replace(self, epochs=steps * shape.tokens_per_step / max(1, self.tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCost:
    """An estimate of a tuning job on all its machines; dollars are None where the price is not known."""

    tokens_per_second: float
    usd_per_million_tokens: float | None
    """While it trains, without the start."""
    hours: float | None = None
    """From the first machine to the last step; None: the amount of data is not known."""
    usd: float | None = None
    preemption_usd: float | None = None
    """What losing the machines once costs at most: the work since the last checkpoint, and another start."""

    @property
    def rank(self) -> float | None:
        """What sizes are compared by: dollars for the job, or for a million tokens."""
        return self.usd_per_million_tokens if self.hours is None else self.usd


def estimate_job(
    model: ModelFacts,
    shape: TuningShape,
    sku: Sku,
    *,
    usd_per_hour: float | None,
    data: TrainingData | None,
) -> JobCost | None:
    """The cost of a run of this shape at `usd_per_hour` for all its machines; None where the GPU's rate is not
    known."""
    peak = peak_flops(sku)
    if shape.device is Device.CPU or peak is None:
        return None
    rate = peak * UTILISATION[shape.method] * shape.workers
    per_second = rate / (FLOPS_PER_PARAMETER * active_parameters(model))
    second = None if usd_per_hour is None else usd_per_hour / 3600
    cost = JobCost(
        tokens_per_second=round(per_second, 1),
        usd_per_million_tokens=None if second is None else round(1e6 / per_second * second, 4),
    )
    if data is None:
        return cost
    start = 0.0 if sku.kind is SkuKind.LOCAL else START_SECONDS
    training = data.trained_tokens / per_second
    seconds = start + training
    lost = start + min(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * training)
    return JobCost(
        tokens_per_second=cost.tokens_per_second,
        usd_per_million_tokens=cost.usd_per_million_tokens,
        hours=round(seconds / 3600, 3),
        usd=None if second is None else round(seconds * second, 4),
        preemption_usd=None if second is None else round(lost * second, 4),
    )


def assumptions(method: TuningMethod, *, starts: bool) -> str:
    """What the figures rest on, in one line."""
    start = f"; {START_SECONDS / 60:.0f} minutes until the machines work" if starts else ""
    return (
        f"{FLOPS_PER_PARAMETER} operations per parameter and token, {UTILISATION[method]:.0%} of the GPU's peak rate"
        f" ({method}){start}"
    )


def active_parameters(model: ModelFacts) -> int:
    """Parameters that one token goes through: all, less the experts that are not chosen for it."""
    total = memory.parameter_count(model)
    if model.experts is None or model.experts_per_token is None or model.moe_intermediate_size is None:
        return max(1, total)
    expert = 3 * model.hidden_size * model.moe_intermediate_size
    idle = (model.experts - model.experts_per_token) * expert * (model.moe_layers or model.layers)
    return max(1, total - idle, total // model.experts)
