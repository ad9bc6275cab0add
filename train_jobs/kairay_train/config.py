"""What one tuning run is asked to do: the JSON of `--config`, or the same built from flags.

`TuneConfig` is the contract between Kairay's control side, which writes the file, and this job, which reads
it. Numbers that a person left out are None here; `settings.resolve` fills them from the preset.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from kairay.errors import InputError
from kairay.presets import TuningMethod


class Device(StrEnum):
    """What the workers compute on."""

    CPU = "cpu"
    CUDA = "cuda"


class DataType(StrEnum):
    """What the workers compute in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


Count = Annotated[int, Field(ge=1)]


class TuneConfig(BaseModel):
    """One tuning run, as the driver reads it; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    """Name of the run; the same name and storage resume it."""
    workspace: str
    """Name of the Workspace, for metrics and annotations; the run's own name when there is none."""
    revision: str | None = None
    """Revision of the Workspace; None: derived from the request and the data."""
    preset: str
    model: str | None = None
    """A folder, `oci:DIR:TAG` or a hub id to use instead of the preset's sources."""
    method: TuningMethod = TuningMethod.QLORA
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, folders or http(s) URLs."""
    output: str
    """`oci:/dir:tag` or `registry/repository:tag`."""
    storage: Path
    """Where checkpoints go; every node of the run must see it."""
    workers: Count = 1
    gpus_per_worker: Annotated[int, Field(ge=0)] = 0
    """Waited for before training starts; with device cpu they only bring the pod, where nodes advertise GPUs that
    they lack."""
    cpus_per_worker: Count = 1
    device: Device = Device.CPU
    dtype: DataType = DataType.FLOAT32
    sequence_length: Count | None = None
    """Tokens of a packed row."""
    micro_batch: Count | None = None
    """Packed rows (without packing: rows) of one forward pass on one worker."""
    accumulation: Count | None = None
    packing: bool = True
    deepspeed: Literal["zero2"] | None = None
    gpu_wait_seconds: Annotated[float, Field(gt=0)] = 3600
    tuner_resource: str | None = None
    """A Ray resource of the pods that see `storage`; the training actor runs on one of them. None: beside the
    driver, which sees it too."""
    max_failures: Annotated[int, Field(ge=-1)] = 3
    """How often a lost worker group is started again; -1: always."""
    checkpoint_steps: Count | None = None
    """Optimiser steps between checkpoints; None: about ten a run, and at least one a minute."""
    parameters: dict[str, object] = Field(default_factory=dict)
    """KAITO's training_config sections."""

    @model_validator(mode="after")
    def _devices_agree(self) -> TuneConfig:
        if self.device is Device.CUDA and self.gpus_per_worker == 0:
            raise ValueError("device is cuda, so gpusPerWorker must be at least 1")
        if not self.storage.is_absolute():
            raise ValueError(f"storage {self.storage} must be an absolute path: workers have another folder")
        return self

    def request_digest(self, data_digest: str) -> str:
        """Six hex characters that name a run without a Workspace: what was asked for, and the data's
        content."""
        asked = self.model_dump(mode="json", include={"preset", "model", "method", "output", "parameters"})
        canonical = json.dumps({**asked, "data": data_digest}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:6]


def load_config(path: Path) -> TuneConfig:
    """The run described by a JSON file; InputError names the file and the first wrong field."""
    try:
        written = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        return TuneConfig.model_validate_json(written)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """The first thing pydantic found wrong, as `field: what`."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
