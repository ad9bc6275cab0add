"""The tuning half of a run: one job for one revision, followed to its end, its adapter brought to its places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kairay.errors import HostError, JobFailedError, KairayError, TransientError
from kairay.local.jobs import JobInfo, Jobs, JobStatus, job_error
from kairay.local.machine import FoundAdapter, Machine, end_job
from kairay.local.places import TuningPlaces
from kairay.local.ray_instance import RayInstance
from kairay.local.report import Reporter
from kairay.local.result import RunOptions
from kairay.local.state import AdapterRecord, Outcome, StateDir, WorkspaceRecord
from kairay.names import adapter_tag, run_name
from kairay.plan import Plan
from kairay.ray.job_word import last_word
from kairay.ray.progress import TuningProgress
from kairay.ray.target import LOCAL
from kairay.ray.train_job import job_request, tune_config

FIGURES = ("steps", "loss", "tokensPerSecond", "trainingSeconds", "resumedFrom", "peakBytes")
"""What is kept of a job's result line."""


class TuningRun:
    """The tuning of one revision; holds no more than what `observe` found."""

    def __init__(
        self,
        plan: Plan,
        places: TuningPlaces,
        parameters: Mapping[str, Any],
        *,
        revision: str,
        state: StateDir,
        machine: Machine,
        reporter: Reporter,
        options: RunOptions,
    ) -> None:
        self._plan = plan
        self.places = places
        self._parameters = parameters
        self._revision = revision
        self._state = state
        self._machine = machine
        self._reporter = reporter
        self._options = options
        self._end: JobInfo | None = None
        self.submitted = False
        """This run gave Ray a job, or was about to."""
        self.followed = False
        """This run waits for a job, or has."""

    @property
    def ended(self) -> bool:
        """This run has waited for its job's end."""
        return self._end is not None

    def find_kept(self) -> FoundAdapter | None:
        """Our copy of this revision's adapter."""
        return self._of_this_revision(str(self.places.kept))

    def find_published(self) -> FoundAdapter | None:
        """This revision's adapter at the output; raises what a registry that cannot be asked raises."""
        return self._of_this_revision(str(self.places.output))

    def find_job(self, record: WorkspaceRecord, ray: RayInstance) -> JobInfo | None:
        """The last job of this revision, if it was given to this Ray."""
        if record.job_id is None or record.ray != ray.instance:
            return None
        return self._machine.jobs(ray).find(record.job_id)

    def submit(self, record: WorkspaceRecord, ray: RayInstance) -> WorkspaceRecord:
        """Start the next attempt. It is recorded first, so that a run killed right after finds it again."""
        attempt = record.attempt + 1
        if record.superseded is not None:
            self._reporter.note(f"ending {record.superseded}, the job of an earlier revision")
            end_job(record.superseded, ray, self._machine)
        if self.places.data_image is not None:
            self._reporter.stage(f"fetching the data of {self.places.data_image}")
            self._machine.unpack(self.places.data_image, Path(self.places.job.data[0]))
        config = tune_config(
            self._plan, LOCAL, self.places.job,
            revision=self._revision, parameters=self._parameters, model=self._options.model,
        )  # fmt: skip
        self._state.write(Path(self.places.job.config), json.dumps(config, indent=2, sort_keys=True) + "\n")
        request = job_request(self._plan, self.places.job, revision=self._revision, attempt=attempt)
        record = record.model_copy(
            update={
                "attempt": attempt, "job_id": request["submission_id"], "outcome": Outcome.NONE,
                "message": "", "ray": ray.instance, "superseded": None, "training": {},
            }
        )  # fmt: skip
        self._state.save(record)
        self._reporter.stage(f"tuning {self._plan.preset} by {self._plan.method}")
        # Set before the call: interrupted in the middle of it, the job may be there all the same.
        self.submitted = True
        self._machine.jobs(ray).submit(request)
        return record

    def follow(self, record: WorkspaceRecord, ray: RayInstance) -> WorkspaceRecord:
        """Wait for the job's end and report its progress; keeps its log and figures. HostError when Ray is gone."""
        jobs = self._machine.jobs(ray)
        assert record.job_id is not None
        if not self.submitted:
            self._reporter.stage(f"following the job {record.job_id}, which is at work already")
        self.followed = True
        try:
            self._end = self._wait(record.job_id, jobs, ray)
        except HostError as error:
            self._state.save(record.model_copy(update={"outcome": Outcome.STOPPED, "message": error.message}))
            raise
        log = self._keep_log(record.job_id, jobs)
        if self._end.status is JobStatus.SUCCEEDED:
            record = self._with_figures(record, log)
            self._state.save(record)
        return record

    def fail(self, record: WorkspaceRecord) -> KairayError:
        """Record why the followed job gave no adapter; the error to raise."""
        assert self._end is not None
        path = self._state.job_log(self._end.id)
        log = path.read_text("utf-8", errors="replace") if path.exists() else ""
        if self._end.status is JobStatus.SUCCEEDED:
            error: KairayError = JobFailedError(
                f"the tuning job ended well, but no adapter of revision {self._revision} is at {self.places.output}"
                f" (log: {path})"
            )
        else:
            error = job_error(self._end, log, str(path))
        stopped = self._end.status is JobStatus.STOPPED
        self._state.save(
            record.model_copy(
                update={
                    "outcome": Outcome.STOPPED if stopped else Outcome.FAILED,
                    # What lies outside the job (data, disk, a registry) may be mended without an edit of the file.
                    "retryable": stopped or not isinstance(error, JobFailedError),
                    "message": str(error),
                }
            )
        )
        return error

    def keep(self, record: WorkspaceRecord, ray: RayInstance | None) -> WorkspaceRecord:
        """Copy the adapter from the output to our own layout, and lay out its plain files."""
        if ray is not None and not record.training and (job := self.find_job(record, ray)) is not None:
            # The run that started the job did not live to read its result.
            record = self._with_figures(record, self._keep_log(job.id, self._machine.jobs(ray)))
        found = self._machine.copy_adapter(str(self.places.output), str(self.places.kept))
        return self._finish(record, found)

    def publish(self, record: WorkspaceRecord) -> WorkspaceRecord:
        """Bring the adapter that we keep back to the output."""
        self._reporter.stage(f"bringing the adapter to {self.places.output}")
        tag = self.places.output.tag or "latest"
        found = self._machine.copy_adapter(
            str(self.places.kept), str(self.places.output), tags=(adapter_tag(tag, self._revision),)
        )
        return self._finish(record, found)

    def stop(self, record: WorkspaceRecord, ray: RayInstance) -> None:
        """End the job if it is at work, wait until it has ended, keep its log."""
        if record.job_id is None or record.ray != ray.instance:
            return
        if not end_job(record.job_id, ray, self._machine):
            return
        self._keep_log(record.job_id, self._machine.jobs(ray))
        self._state.save(record.model_copy(update={"outcome": Outcome.STOPPED, "message": "stopped"}))

    def note_adapter(self, record: WorkspaceRecord, published: FoundAdapter) -> WorkspaceRecord:
        """The record with the adapter that is there, whoever brought it there."""
        adapter = AdapterRecord(reference=str(self.places.output), digest=published.digest)
        if record.adapter == adapter and record.outcome is Outcome.SUCCEEDED:
            return record
        return self._succeeded(record, adapter)

    def _of_this_revision(self, reference: str) -> FoundAdapter | None:
        found = self._machine.find_adapter(reference)
        return found if found is not None and found.revision == self._revision else None

    def _wait(self, job_id: str, jobs: Jobs, ray: RayInstance) -> JobInfo:
        run = run_name(self._plan.workspace, self._revision)
        started = answered = self._machine.now()
        while True:
            try:
                info = jobs.find(job_id)
            except TransientError:
                self._check_alive(ray, self._machine.now() - answered)
                self._machine.sleep(self._options.poll_seconds)
                continue
            answered = self._machine.now()
            if info is None:
                raise HostError(f"Ray has lost the job {job_id}; run again to go on from its checkpoint")
            if not info.status.is_active:
                return info
            if info.status is JobStatus.PENDING and answered - started > self._options.pending_seconds:
                raise HostError(f"Ray did not start the job {job_id}: {info.message or 'it gives no reason'}")
            progress = self._machine.progress(ray, run)
            if progress is not None:
                self._reporter.progress(progress)
            self._machine.sleep(self._options.poll_seconds)

    def _check_alive(self, ray: RayInstance, silence: float) -> None:
        if not self._machine.is_alive(ray):
            raise HostError(
                "Ray ended while it was tuning, often for want of memory; run again to go on from the checkpoint"
            )
        if silence > self._options.silence_seconds:
            raise TransientError(
                f"Ray has not answered for {silence:.0f} s; run again to go on following the job"
            )

    def _keep_log(self, job_id: str, jobs: Jobs) -> str:
        log = jobs.logs(job_id)
        self._state.write(self._state.job_log(job_id), log)
        return log

    def _with_figures(self, record: WorkspaceRecord, log: str) -> WorkspaceRecord:
        result = last_word(log).result or {}
        figures = {key: result[key] for key in FIGURES if key in result}
        if (steps := figures.get("steps")) and (loss := figures.get("loss")) is not None:
            self._reporter.progress(
                TuningProgress(
                    step=int(steps), total_steps=int(steps), progress=1.0, loss=float(loss),
                    tokens_per_second=figures.get("tokensPerSecond"), eta_seconds=0.0,
                )
            )  # fmt: skip
        return record.model_copy(update={"training": figures})

    def _finish(self, record: WorkspaceRecord, found: FoundAdapter) -> WorkspaceRecord:
        if self.places.files is not None:
            self._machine.unpack(str(self.places.output), self.places.files)
        return self._succeeded(record, AdapterRecord(reference=str(self.places.output), digest=found.digest))

    def _succeeded(self, record: WorkspaceRecord, adapter: AdapterRecord) -> WorkspaceRecord:
        told = {"outcome": Outcome.SUCCEEDED, "message": "", "retryable": True, "adapter": adapter}
        record = record.model_copy(update=told)
        self._state.save(record)
        return record
