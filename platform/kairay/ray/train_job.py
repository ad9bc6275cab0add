"""The tuning job: what the driver reads, and what Ray's Jobs API (or a RayJob) is told to run. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from kairay.names import run_name, shorten
from kairay.plan import Plan
from kairay.ray.target import JobPlaces, Target

JOB_ID_LIMIT = 120


def entrypoint(config: str) -> str:
    """The driver's command line; `config` is the file it reads."""
    return f"python -m kairay_train.qlora --config {shlex.quote(config)}"


def job_id(workspace: str, revision: str, attempt: int) -> str:
    """Ray's submission id; another attempt at a revision is another job."""
    suffix = f"-{revision}-{attempt}"
    return shorten(f"kairay-{workspace}", JOB_ID_LIMIT - len(suffix)) + suffix


def job_request(plan: Plan, places: JobPlaces, *, revision: str, attempt: int) -> dict[str, Any]:
    """The body of `POST /api/jobs/`."""
    return {
        "entrypoint": entrypoint(places.config),
        "submission_id": job_id(plan.workspace, revision, attempt),
        "metadata": {
            "kairay.workspace": plan.workspace,
            "kairay.revision": revision,
            "kairay.preset": plan.preset,
        },
    }


def tune_config(
    plan: Plan,
    target: Target,
    places: JobPlaces,
    *,
    revision: str,
    parameters: Mapping[str, Any],
    model: str | None = None,
) -> dict[str, Any]:
    """The JSON that the entrypoint reads (`kairay_train.config.TuneConfig`).

    `parameters` are KAITO's sections and win over the plan's numbers; `model` replaces the preset's weights.
    """
    shape = plan.tuning
    assert shape is not None, "a plan without a tuning shape has no job"
    return {
        "run": run_name(plan.workspace, revision),
        "workspace": plan.workspace,
        "revision": revision,
        "preset": plan.preset,
        "model": model,
        "method": str(shape.method),
        "data": list(places.data),
        "output": places.output,
        "storage": places.storage,
        "workers": shape.workers,
        "gpusPerWorker": shape.gpus_per_worker or target.advertised_gpus,
        "cpusPerWorker": shape.cpus_per_worker,
        "device": str(shape.device),
        "dtype": str(shape.dtype),
        "sequenceLength": shape.sequence_length,
        "microBatch": shape.micro_batch,
        "accumulation": shape.accumulation,
        "packing": True,
        "deepspeed": "zero2" if shape.gpus_per_worker and shape.workers > 1 else None,
        "gpuWaitSeconds": target.gpu_wait_seconds,
        "maxFailures": target.max_failures,
        "tunerResource": target.tuner_resource,
        "checkpointSteps": None,
        "parameters": dict(parameters),
    }
