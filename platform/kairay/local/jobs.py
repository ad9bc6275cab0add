"""Ray's Jobs API: submit, watch and stop one job, and read its last word.

A job's last JSON line is its result or its error; nothing else of a log is parsed. STOPPED is never success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Protocol

from kairay.errors import DataError, HostError, InputError, JobFailedError, KairayError, TransientError
from kairay.local.dashboard import Dashboard, refused
from kairay.ray.job_word import last_word


class JobStatus(StrEnum):
    """States of a Ray job, as Ray spells them."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_active(self) -> bool:
        """Whether the job may still do something."""
        return self in (JobStatus.PENDING, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """One job, as Ray sees it."""

    id: str
    status: JobStatus
    message: str = ""
    exit_code: int | None = None
    """Of the entrypoint, once it has ended."""


class Jobs(Protocol):
    """What a run needs of the Jobs API; `JobsClient` talks to Ray, `fake.FakeJobs` is for tests."""

    def submit(self, request: Mapping[str, Any]) -> str:
        """Start a job (`entrypoint`, `submission_id`, ...); its id. An id submitted again changes nothing."""

    def find(self, job_id: str) -> JobInfo | None:
        """The job now; None when this Ray does not know it."""

    def active(self) -> list[str]:
        """Ids of all jobs that are pending or running, whoever submitted them."""

    def logs(self, job_id: str) -> str:
        """All that the driver wrote so far; empty when this Ray does not know the job."""

    def stop(self, job_id: str) -> None:
        """Ask the job to end; no error when it has ended."""


class JobsClient:
    """The Jobs API of a running Ray."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def submit(self, request: Mapping[str, Any]) -> str:
        """Start a job; an id that exists already counts as submitted."""
        answer = self._dashboard.call("POST", "/api/jobs/", dict(request))
        # A duplicate id is an HTTP 500 whose text says so (Ray 2.60).
        if answer.ok or "already exists" in answer.text:
            return str(request["submission_id"])
        raise refused(f"take the job {request['submission_id']}", answer)

    def find(self, job_id: str) -> JobInfo | None:
        """The job now; None when this Ray does not know it."""
        answer = self._dashboard.call("GET", f"/api/jobs/{job_id}")
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if not answer.ok:
            raise TransientError(f"Ray would not show the job {job_id}: {answer.text.strip()[:200]}")
        return _as_info(job_id, answer.json())

    def active(self) -> list[str]:
        """Ids of all jobs that are pending or running; drivers that were not submitted count too."""
        answer = self._dashboard.call("GET", "/api/jobs/")
        if not answer.ok:
            raise TransientError(f"Ray would not list its jobs: {answer.text.strip()[:200]}")
        found = [
            (job.get("submission_id") or job.get("job_id") or "?", job.get("status")) for job in answer.json()
        ]
        return sorted(name for name, status in found if status in (JobStatus.PENDING, JobStatus.RUNNING))

    def logs(self, job_id: str) -> str:
        """All that the driver wrote so far."""
        answer = self._dashboard.call("GET", f"/api/jobs/{job_id}/logs")
        return str(answer.json().get("logs", "")) if answer.ok else ""

    def stop(self, job_id: str) -> None:
        """Ask the job to end: SIGTERM, and SIGKILL after a few seconds."""
        answer = self._dashboard.call("POST", f"/api/jobs/{job_id}/stop")
        if not answer.ok and answer.status != HTTPStatus.NOT_FOUND:
            raise refused(f"stop the job {job_id}", answer)


_BY_EXIT_CODE: Final[dict[int, type[KairayError]]] = {
    leaf.exit_code: leaf for leaf in (InputError, DataError, HostError, TransientError)
}
"""The driver leaves with the exit code of the error tree, so its failure keeps its meaning here."""


def job_error(info: JobInfo, log: str, log_path: str) -> KairayError:
    """The error for a job that did not succeed, with the job's own sentence and where its log is."""
    word = last_word(log)
    if word.error is not None:
        message = str(word.error.get("message", info.message))
        reason = str(word.error.get("reason") or "") or None
        kind = _BY_EXIT_CODE.get(info.exit_code or 0, JobFailedError)
        # A fault in a person's own file is the whole story; for the rest the log may say more.
        told = message if issubclass(kind, InputError) else f"{message} (log: {log_path})"
        return kind(told, reason=reason)
    if info.status is JobStatus.STOPPED:
        return JobFailedError(
            f"the tuning job was stopped; run again to go on from its checkpoint (log: {log_path})"
        )
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), info.message)
    return JobFailedError(f"the tuning job ended without a result: {last[:400]} (log: {log_path})")


def _as_info(job_id: str, data: Mapping[str, Any]) -> JobInfo:
    return JobInfo(
        id=job_id,
        status=JobStatus(data["status"]),
        message=data.get("message") or "",
        exit_code=data.get("driver_exit_code"),
    )
