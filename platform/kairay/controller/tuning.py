"""What becomes of a Workspace's tuning: one RayJob for one revision, and a record that outlives it. Pure.

A revision that has ended is never tuned again by forgetting: its outcome is in status, and the driver finds its
adapter at the output before it asks for a GPU. Only an edit or the annotation `kairay.dev/retry` starts another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kairay.config_maps import TRAINING_KEY, training_sections
from kairay.controller.blueprint import Blueprint
from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.drawn_for import DrawnFor, asked_for, marked
from kairay.controller.ground import Halt
from kairay.controller.observed import Observed
from kairay.controller.record import Outcome, TuningRecord
from kairay.controller.refusals import with_refusal
from kairay.controller.settings import Settings
from kairay.controller.trouble import Trouble
from kairay.controller.unmade import keep_failure, unmade_of_cluster
from kairay.controller.waiting import pod_trouble, waiting_reason
from kairay.controller.work import Work
from kairay.kube.objects import CLAIM, POD, RAY_JOB, Key, Manifest, key_of, labels_of
from kairay.names import adapter_tag, claim_name, ray_name
from kairay.objects.claim import claim
from kairay.objects.configmap import tune_config_map
from kairay.objects.metadata import REVISION_LABEL, Owner
from kairay.ray.cluster_places import model_override, tuning_pods
from kairay.ray.job_word import JobWord, last_word
from kairay.ray.raycluster import RayPods, cluster_spec
from kairay.ray.rayjob import ray_job
from kairay.ray.target import CLUSTER
from kairay.ray.train_job import tune_config
from kairay.registry.reference import ArtifactReference, RemoteReference
from kairay.workspace import Workspace

RETRY = "kairay.dev/retry"
"""Annotation: another value starts a revision that has failed once more."""

_FIGURES = ("steps", "loss", "tokensPerSecond", "resumedFrom")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningDecision:
    """What should be, and what to say of it."""

    record: TuningRecord
    objects: tuple[Manifest, ...] = ()
    """To be there; a RayJob is only made, never edited."""
    removals: tuple[Key, ...] = ()
    started: Condition
    progress: Mapping[str, Any] = field(default_factory=dict)
    held_by: str = Reason.TUNING
    """Why the work does not go on: the kind of its worker's trouble."""
    waits_for_result: bool = False
    """The job has ended well; its figures are still to be fetched."""


def current_job(record: TuningRecord, workspace: str) -> str:
    """The name of the RayJob of a record's revision and attempt."""
    suffix = record.revision if record.attempt <= 1 else f"{record.revision}-{record.attempt}"
    return ray_name(workspace, suffix)


def take_up(record: TuningRecord, *, revision: str, retry: str) -> TuningRecord:
    """The record of this revision: the old one, or a new one that still knows the last adapter."""
    if record.revision != revision:
        return TuningRecord(revision=revision, adapter=record.adapter, retried=retry)
    if _is_retried(record, retry):
        return TuningRecord(
            revision=revision, attempt=record.attempt + 1, adapter=record.adapter, retried=retry
        )
    return record


def has_begun(revision: str, seen: Observed) -> bool:
    """A tuning's revision has a job, or has had one that ended; not one that failed and that its user wants once
    more."""
    record = TuningRecord.parse(seen.status)
    if record.revision == revision and _is_retried(record, seen.annotations.get(RETRY, "")):
        return False
    if record.revision == revision and record.outcome is not None:
        return True
    jobs = (job for job in seen.all(RAY_JOB) if seen.owns(job))
    return any(labels_of(job).get(REVISION_LABEL) == revision for job in jobs)


def decide_tuning(
    work: Work,
    owner: Owner,
    blueprint: Blueprint | Halt,
    record: TuningRecord,
    seen: Observed,
    settings: Settings,
) -> TuningDecision:
    """One look at one revision; `record` is as `take_up` gave it. Without a blueprint no job can be made."""
    name = current_job(record, owner.name)
    jobs = [job for job in seen.all(RAY_JOB) if seen.owns(job)]
    removals = tuple(key_of(job) for job in jobs if job["metadata"]["name"] != name and not _is_going(job))
    job = next((job for job in jobs if job["metadata"]["name"] == name), None)
    if record.outcome is not None:
        removals += _unused(seen, owner, record)
        return TuningDecision(record=record, removals=removals, started=_ended(record))
    if job is None and isinstance(blueprint, Halt):
        waits = _condition(False, blueprint.reason, f"RayJob {name} cannot be made: {blueprint.words}")
        return TuningDecision(record=record, removals=removals, started=waits, held_by=blueprint.reason)
    if job is None:
        assert isinstance(blueprint, Blueprint)
        assert work.read is not None, "what cannot be read is not planned"
        *others, drawn = draw_job(work.read, owner, blueprint, record, seen.config_text, settings)
        drawn_for = DrawnFor(
            asked=asked_for(seen, tuned=None),
            size=blueprint.sku.name,
            need=blueprint.need,
            wish=blueprint.wish,
        )
        waits = _condition(False, Reason.JOB_WAITING, f"RayJob {name} is being made")
        return TuningDecision(
            record=replace(record, job=name), objects=(*others, marked(drawn, drawn_for)), removals=removals,
            started=waits,
        )  # fmt: skip
    return replace(_follow(work, job, replace(record, job=name), seen, settings), removals=removals)


def draw_job(
    workspace: Workspace,
    owner: Owner,
    blueprint: Blueprint,
    record: TuningRecord,
    config_text: str | None,
    settings: Settings,
) -> tuple[Manifest, ...]:
    """The claim, the ConfigMap and the RayJob of one attempt at one revision."""
    plan, tuning = blueprint.plan, workspace.tuning
    assert tuning is not None
    assert plan.tuning is not None
    name, revision = current_job(record, owner.name), record.revision
    parameters = (
        {}
        if config_text is None
        else training_sections(config_text, f"ConfigMap {tuning.config}, {TRAINING_KEY}")
    )
    storage = claim_name(owner.name) if settings.run_storage else None
    pods = tuning_pods(workspace, config_map=name, claim=storage, settings=settings.pods)
    target = replace(CLUSTER, advertised_gpus=settings.advertised_gpus)
    config = tune_config(
        plan, target, pods.job, revision=revision, parameters=parameters, model=model_override(tuning.preset)
    )
    gpus = min(plan.tuning.workers, blueprint.sku.gpus or 1)
    size, cpus = blueprint.worker(gpus, settings)
    labels = {**owner.labels, REVISION_LABEL: revision}
    cluster = cluster_spec(RayPods(
        image=settings.image, labels=labels, head=settings.head, head_parts=pods.head, worker=size,
        worker_parts=pods.worker, worker_cpus=cpus, most_workers=-(-plan.tuning.workers // gpus),
        placement=blueprint.placement, idle_seconds=settings.worker_idle_seconds,
        resources={str(target.tuner_resource): 1},
    ))  # fmt: skip
    job = ray_job(
        plan, owner.metadata(name, {REVISION_LABEL: revision}), cluster,
        config=pods.job.config, revision=revision, attempt=record.attempt,
    )  # fmt: skip
    claims = () if storage is None else (claim(
        owner, storage, size=settings.run_storage, storage_class=settings.storage_class,
        shared=plan.tuning.workers > gpus,
    ),)  # fmt: skip
    return (*claims, tune_config_map(owner, name, config), job)


def served_reference(output: str, record: TuningRecord) -> str | None:
    """Where the service takes the last tuned adapter from: pinned by digest, else by its revision's own tag. `output`
    is where adapters are written."""
    if record.adapter is None:
        return None
    place = ArtifactReference.parse(output)
    if record.adapter.digest and isinstance(place, RemoteReference):
        return f"{place.registry}/{place.repository}@{record.adapter.digest}"
    tag = place.tag or "latest"
    return str(place.with_tag(adapter_tag(tag, record.adapter.revision)))


def _is_retried(record: TuningRecord, retry: str) -> bool:
    return record.outcome is Outcome.FAILED and bool(retry) and retry != record.retried


def _follow(
    work: Work, job: Manifest, record: TuningRecord, seen: Observed, settings: Settings
) -> TuningDecision:
    status = job.get("status") or {}
    deployment, ended = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    name = job["metadata"]["name"]
    if ended == "SUCCEEDED":
        return _succeeded(work, record, seen)
    word = last_word(str(status.get("message") or ""))
    if ended in ("FAILED", "STOPPED") or word.error is not None:
        return _failed(record, word, status)
    if deployment in ("Failed", "ValidationFailed"):
        return _lost(record, status, settings)
    if deployment == "Running" and ended == "RUNNING":
        return _running(record, job, seen)
    trouble = _job_trouble(job, seen)
    message = f"RayJob {name}: {trouble.message if trouble else 'its head is starting'}"
    reason = waiting_reason(trouble, Reason.JOB_WAITING)
    return TuningDecision(record=record, started=_condition(False, reason, message))


def _running(record: TuningRecord, job: Manifest, seen: Observed) -> TuningDecision:
    trouble = _job_trouble(job, seen) if seen.progress is None else None
    name = job["metadata"]["name"]
    if seen.progress is not None:
        told = f"RayJob {name}: step {seen.progress.step} of {seen.progress.total_steps}"
    elif trouble is not None:
        told = f"RayJob {name} waits for its worker: {trouble.message}"
    else:
        told = f"RayJob {name} checks the data or waits for its worker"
    progress = {} if seen.progress is None else seen.progress.to_dict()
    return TuningDecision(
        record=record,
        started=_condition(True, Reason.JOB_RUNNING, told),
        progress=progress,
        held_by=waiting_reason(trouble, Reason.TUNING),
    )


def _job_trouble(job: Manifest, seen: Observed) -> Trouble | None:
    """Of the job's pods: an earlier adapter may be served meanwhile."""
    pods = [pod for pod in seen.all(POD) if REVISION_LABEL in labels_of(pod)]
    status = job.get("status") or {}
    cluster = str(status.get("rayClusterName") or "")
    told = keep_failure(status.get("rayClusterStatus") or {}) or seen.ray_clusters.get(cluster, {})
    unmade = unmade_of_cluster(job["metadata"]["namespace"], cluster, told, pods)
    return with_refusal(pod_trouble(pods, seen.complaints), unmade)


def _succeeded(work: Work, record: TuningRecord, seen: Observed) -> TuningDecision:
    result = seen.result.result if seen.result is not None else None
    if seen.result is None:
        wait = _condition(True, Reason.JOB_RUNNING, "the job has ended; reading its figures")
        return TuningDecision(record=record, started=wait, waits_for_result=True)
    adapter = dict((result or {}).get("adapter", {}))
    done = record.succeeded(
        image=work.output,
        digest=str(adapter.get("digest", "")),
        figures={key: value for key in _FIGURES if (value := (result or {}).get(key)) is not None},
    )
    return TuningDecision(record=done, started=_ended(done))


def _failed(record: TuningRecord, word: JobWord, status: Mapping[str, Any]) -> TuningDecision:
    error = word.error or {}
    message = str(error.get("message") or "") or _tail(status)
    failed = record.failed(
        reason=str(error.get("reason") or status.get("reason") or "JobFailed"), message=message
    )
    return TuningDecision(record=failed, started=_ended(failed))


def _lost(record: TuningRecord, status: Mapping[str, Any], settings: Settings) -> TuningDecision:
    """The head went with the driver, which has said nothing: that is nobody's mistake, so another attempt."""
    if record.attempt >= settings.attempts:
        return _failed(record, JobWord(), status)
    again = replace(record, attempt=record.attempt + 1, job="")
    told = (
        f"the head was lost ({status.get('reason', '')}); attempt {again.attempt} resumes from the checkpoint"
    )
    return TuningDecision(record=again, started=_condition(False, Reason.JOB_WAITING, told))


def _tail(status: Mapping[str, Any]) -> str:
    lines = [line.strip() for line in str(status.get("message") or "").splitlines() if line.strip()]
    return (lines[-1] if lines else str(status.get("reason") or "the job gives no reason"))[:400]


def _unused(seen: Observed, owner: Owner, record: TuningRecord) -> tuple[Key, ...]:
    """The claim of checkpoints, once its adapter is recorded."""
    if record.outcome is not Outcome.SUCCEEDED:
        return ()
    found = seen.find(CLAIM, claim_name(owner.name))
    return () if found is None or _is_going(found) or not seen.owns(found) else (key_of(found),)


def _ended(record: TuningRecord) -> Condition:
    return _condition(True, Reason.JOB_ENDED, record.message or f"revision {record.revision} was tuned")


def _condition(status: bool, reason: str, message: str) -> Condition:
    return Condition(type=Type.JOB_STARTED, status=status, reason=reason, message=message)


def _is_going(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]
