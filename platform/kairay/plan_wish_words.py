"""What a plan says of a user's own settings: what it was planned with, what is not counted, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kairay.config_maps import config_of
from kairay.plan_modules import lora_faults, uncounted_modules
from kairay.plan_replica import can_split
from kairay.plan_wishes import ServingWishes, TuningWishes, Wishes
from kairay.presets import Preset

if TYPE_CHECKING:
    from kairay.workspace import Workspace

_WIDEST = 64
"""GPUs that a remedy looks among; no machine has as many."""


def wish_faults(wishes: Wishes | None, preset: Preset, *, local: bool) -> Iterator[str]:
    """What the model cannot do, whatever the machine."""
    if isinstance(wishes, TuningWishes):
        yield from (f"{wishes.source}: {fault}" for fault in lora_faults(wishes, preset))
    elif isinstance(wishes, ServingWishes) and not local:
        yield from _serving_faults(wishes, preset)


def wish_warnings(
    workspace: Workspace, wishes: Wishes | None, preset: Preset, *, local: bool
) -> Iterator[str]:
    """What was planned with, and what was not."""
    if wishes is None:
        yield from _unseen(workspace)
        return
    if isinstance(wishes, ServingWishes) and local:
        if wishes.said:
            yield f"{wishes.source}: the section vllm is for GPUs of a cluster and is not used on this machine"
        return
    if wishes.said:
        yield f"planned with {wishes.source}: {', '.join(wishes.said)}"
    for sentence in wishes.uncounted:
        yield f"{wishes.source}: {sentence}"
    if isinstance(wishes, TuningWishes):
        yield from _tuning_warnings(wishes, preset)
    for note in wishes.notes:
        yield f"{wishes.source}: {note}"


def _serving_faults(wishes: ServingWishes, preset: Preset) -> Iterator[str]:
    model, source = preset.model, wishes.source
    length, tensor, stages = wishes.context_length, wishes.tensor_parallel, wishes.pipeline_parallel
    if length is not None and length > model.context_length and not wishes.stretched:
        yield (
            f"{source}: max-model-len {length:,} is more than the {model.context_length:,} tokens that {preset.name}"
            " was made for; lower it"
        )
    if tensor is not None and not can_split(model, tensor):
        able = [str(size) for size in range(1, _WIDEST) if can_split(model, size)]
        yield (
            f"{source}: tensor-parallel-size {tensor} does not divide the heads and matrices of {preset.name};"
            f" use one of {', '.join(able)}"
        )
    if stages is not None and stages > model.layers:
        yield f"{source}: pipeline-parallel-size {stages} is more than the {model.layers} layers of {preset.name}"


def _unseen(workspace: Workspace) -> Iterator[str]:
    if (place := config_of(workspace)) is not None:
        yield f"{place.field}: ConfigMap {place.name} was not seen; planned with the preset's own settings"


def _tuning_warnings(wishes: TuningWishes, preset: Preset) -> Iterator[str]:
    length, most = wishes.sequence_length, preset.model.context_length
    if length is not None and length > most:
        yield (
            f"{wishes.source}: rows of {length:,} tokens are longer than the {most:,} that {preset.name} was made for"
        )
    if wishes.rank is not None and wishes.rank > preset.model.hidden_size:
        yield (
            f"{wishes.source}: LoraConfig.r {wishes.rank:,} is more than the width of {preset.name},"
            f" {preset.model.hidden_size:,}: LoRA has more parameters than its modules then; some 8 to 128 are usual"
        )
    if unknown := uncounted_modules(wishes, preset.model):
        yield (
            f"{wishes.source}: LoraConfig.target_modules {', '.join(unknown)} is not among the linear modules that"
            f" {preset.name} is known to have; it is not counted"
        )
