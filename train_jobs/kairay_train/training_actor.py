"""The one Ray task of a run: it holds `TorchTrainer.fit()`, and what the workers last said.

It sits beside the driver and asks for no resources. When its node is lost Ray starts it again, and the same
name and storage make Ray Train resume from the last checkpoint.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from kairay_train.job import Fault, Trained, TrainingGroup, WorkerJob
from kairay_train.metrics import Progress


class TrainingActor:
    """Runs one training group; `show` and `progress` may be called meanwhile."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def show(self, progress: Progress) -> None:
        """A worker's word on how far it is."""
        self._progress = progress

    def progress(self) -> Progress | None:
        """The last word, None before the first."""
        return self._progress

    def fit(self, job: WorkerJob, group: TrainingGroup) -> Trained | Fault:
        """Train to the end, resuming what was begun under this name."""
        import ray
        from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        watched = replace(job, watcher=ray.get_runtime_context().current_actor)
        resources: dict[str, float] = {"CPU": group.cpus}
        if group.on_gpu:
            # Where nodes only advertise GPUs they bring the pod; Train would look for a driver.
            resources["GPU"] = group.gpus
        trainer = TorchTrainer(
            _train,
            train_loop_config={"job": watched},
            torch_config=TorchConfig(backend="nccl" if group.on_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=group.workers, use_gpu=group.on_gpu, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=group.name,
                storage_path=str(group.storage),
                failure_config=FailureConfig(max_failures=group.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                worker_runtime_env={"env_vars": worker_environment(group)},
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        result = trainer.fit().return_value
        assert isinstance(result, (Trained, Fault))
        return result


def actor_environment() -> dict[str, str]:
    """Environment of the actor, which Ray Train hands on to its controller and workers."""
    return {
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # or logs fill with the source of print
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how late the end of a run is seen
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    }


def worker_environment(group: TrainingGroup) -> dict[str, str]:
    """Environment of the workers."""
    variables = {
        "OMP_NUM_THREADS": str(group.cpus),  # Ray would say 1 for a worker of one CPU
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        # DeepSpeed compiles a small extension at run time and calls ninja by its bare name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    if not group.on_gpu:
        variables |= {"ACCELERATE_USE_CPU": "true", "DS_ACCELERATOR": "cpu"}
    return variables


def _train(config: dict[str, Any]) -> Trained | Fault | None:
    from kairay_train.trainer import train_worker

    return train_worker(config["job"])
