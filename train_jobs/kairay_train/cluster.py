"""The driver's way to Ray: connect, wait for the workers' resources, start the training actor, watch it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kairay.errors import HostError, JobFailedError
from kairay_train.config import TuneConfig
from kairay_train.job import Fault, Trained, TrainingGroup, WorkerJob
from kairay_train.metrics import Progress
from kairay_train.training_actor import TrainingActor, actor_environment

POLL_SECONDS = 1.0
TUNER_SHARE = 0.01
"""Of the resource that marks pods with the storage; there is one per pod."""
_COORDINATOR = "AutoscalingCoordinator"
"""Ray 2.60's name and namespace of it."""
ACTOR_RESTARTS = 10
"""How often the training actor comes back; each time training goes on from its last checkpoint."""


@contextmanager
def connected(config: TuneConfig) -> Iterator[None]:
    """A connection to the Ray that this process belongs to (RAY_ADDRESS), else a private Ray for this run.

    Ray reads its token settings when it is imported: `private_token` comes before this module.
    """
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="WARNING")
    else:
        ray.init(
            address="local",
            num_cpus=config.workers * config.cpus_per_worker,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
        )
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray puts its own in their place
    try:
        yield
    finally:
        ray.shutdown()


def await_resources(config: TuneConfig) -> None:
    """Return when all workers have room at the same time, or JobFailedError after gpuWaitSeconds.

    One placement group asks for everything at once, so that no part of it is held while the rest is missing;
    on a cluster that asks the autoscaler for the nodes.
    """
    bundle = {"CPU": float(config.cpus_per_worker)}
    if config.tuner_resource:
        bundle[config.tuner_resource] = TUNER_SHARE
    if config.gpus_per_worker:
        bundle["GPU"] = float(config.gpus_per_worker)
    group = placement_group([bundle] * config.workers, strategy="PACK")
    try:
        ray.get(group.ready(), timeout=config.gpu_wait_seconds)
    except GetTimeoutError:
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
        raise JobFailedError(
            f"no room for {config.workers} worker(s) of {wanted} after {config.gpu_wait_seconds:g} s; "
            "free some, or ask for fewer workers",
            reason="GpuNeverCame" if config.gpus_per_worker else "CpuNeverCame",
        ) from None
    finally:
        remove_placement_group(group)


def train(
    job: WorkerJob,
    group: TrainingGroup,
    *,
    show: Callable[[Progress], None],
) -> Trained:
    """Run the training actor to its end; JobFailedError or HostError say why there is no adapter."""
    actor = (
        ray.remote(TrainingActor)
        .options(
            num_cpus=0,
            max_concurrency=4,
            max_restarts=ACTOR_RESTARTS,
            max_task_retries=ACTOR_RESTARTS,
            runtime_env={"env_vars": actor_environment()},
            **_where_storage_is(group),
        )
        .remote()
    )
    try:
        return _watch(actor, actor.fit.remote(job, group), show)
    finally:
        ray.kill(actor)
        if group.tuner_resource is not None:
            _release_worker_pods()


def _release_worker_pods() -> None:
    """End the detached actor that Ray Train leaves beside its controller: with it a pod never counts as idle, and its
    GPU is paid for until the cluster goes. The cluster is this job's own."""
    try:
        ray.kill(ray.get_actor(_COORDINATOR, namespace=_COORDINATOR))
    except ValueError:
        return  # there is none


def _where_storage_is(group: TrainingGroup) -> dict[str, Any]:
    if group.tuner_resource is not None:
        return {"resources": {group.tuner_resource: TUNER_SHARE}}
    here = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=here, soft=True)}


def _watch(actor: Any, result: Any, show: Callable[[Progress], None]) -> Trained:
    try:
        while not ray.wait([result], timeout=POLL_SECONDS)[0]:
            progress = ray.get(actor.progress.remote())
            if progress is not None:
                show(progress)
        outcome = ray.get(result)
    except RayTaskError as error:
        raise JobFailedError(f"training failed: {last_words(str(error.cause or error))}") from error
    except RayActorError as error:
        raise JobFailedError(f"training was lost: {last_words(str(error))}") from error
    if isinstance(outcome, Fault):
        raise _fault_error(outcome)
    assert isinstance(outcome, Trained)
    show(outcome.progress)
    return outcome


def _fault_error(fault: Fault) -> HostError | JobFailedError:
    if fault.out_of_memory:
        return HostError(
            f"training ran out of memory: {fault.message}; lower sequenceLength or microBatch",
            reason="OutOfMemory",
        )
    if fault.disk_full:
        return HostError(f"training ran out of disk: {fault.message}; free some space", reason="DiskFull")
    return JobFailedError(f"training failed: {fault.kind}: {fault.message}")


def last_words(text: str) -> str:
    """The last line of a traceback, which is the error itself."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason was given"
