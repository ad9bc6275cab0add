"""What passes between the driver, the training actor and the workers: values without heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairay_train.adapter import AdapterFiles
from kairay_train.config import Device
from kairay_train.metrics import Progress
from kairay_train.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """What each worker is given."""

    run: str
    workspace: str
    model: Path
    settings: Settings
    device: Device
    threads: int
    deepspeed: Mapping[str, object] | None
    table: Any
    """Object reference of the PackTable."""
    watcher: Any = None
    """Actor with a method `show(Progress)`, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingGroup:
    """The workers of a run and where they keep checkpoints."""

    name: str
    storage: Path
    workers: int
    cpus: int
    gpus: int
    """Of each worker."""
    on_gpu: bool
    """They compute on them; False where nodes only advertise GPUs."""
    max_failures: int
    tuner_resource: str | None = None
    """A Ray resource of the pods that see `storage`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the first worker hands back."""

    adapter: AdapterFiles
    progress: Progress
    peak_bytes: int
    """Largest resident size of the first worker's process."""
    dequantised_bytes: int
    """Weights that were held as plain numbers instead of 4 bits; 0: none."""
    cached_layers: int
    """Lowest layers whose work was done once per row instead of once per epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why training cannot work however often it is tried; retrying is for lost workers."""

    kind: str
    message: str
    out_of_memory: bool = False
    disk_full: bool = False


ZERO2: Mapping[str, object] = {
    "zero_optimization": {"stage": 2, "overlap_comm": False, "contiguous_gradients": True},
    "zero_allow_untested_optimizer": True,
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
}
"""DeepSpeed's configuration for `deepspeed: zero2`: gradients and optimiser state are split over the
workers."""
