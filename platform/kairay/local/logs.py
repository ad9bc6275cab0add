"""The log of a tuning job: from Ray while it knows the job, afterwards from our own copy."""

from __future__ import annotations

from collections.abc import Iterator

from kairay.errors import InputError, TransientError
from kairay.local.jobs import Jobs
from kairay.local.machine import LocalMachine, Machine
from kairay.local.state import StateDir, WorkspaceRecord

POLL_SECONDS = 1.0


def read_logs(
    state: StateDir,
    name: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    machine: Machine | None = None,
) -> Iterator[str]:
    """Lines of the log of the last job that ran, of whatever revision, the last `tail` of them; with `follow`, until
    the job ends.

    InputError when the Workspace is not known or never had a job.
    """
    record = state.load(name)
    if record is None:
        raise InputError(f"there is no Workspace {name} here; `kairay status` lists those that are")
    if record.last_job_id is None:
        raise InputError(f"{name} has had no tuning job; only tuning writes a log")
    return _lines(state, record, record.last_job_id, machine or LocalMachine(state), follow=follow, tail=tail)


def other_log(state: StateDir, name: str) -> str | None:
    """A sentence where the last job that ran is not that of the revision which `kairay status` shows; else None."""
    record = state.load(name)
    if record is None or record.superseded is None:
        return None
    told = f"this is the log of {record.superseded}, the last job that ran, of an earlier edit of {name}"
    if record.job_id is None:
        return told
    path = state.job_log(record.job_id)
    return f"{told}; the log of {record.job_id}, the job of the file as it is now, is {path}"


def _lines(
    state: StateDir, record: WorkspaceRecord, job_id: str, machine: Machine, *, follow: bool, tail: int | None
) -> Iterator[str]:
    jobs = _find_jobs(record, machine)
    followed = jobs if follow else None
    # Asked before each read, so that the read after the job's end has its last lines.
    active = followed is not None and _is_active(followed, job_id)
    lines = _split(_read(state, jobs, job_id), is_growing=active)
    yield from lines[-tail:] if tail else lines
    given = len(lines)
    while followed is not None and active:
        machine.sleep(POLL_SECONDS)
        active = _is_active(followed, job_id)
        lines = _split(followed.logs(job_id), is_growing=active)
        yield from lines[given:]
        given = max(given, len(lines))


def _is_active(jobs: Jobs, job_id: str) -> bool:
    info = jobs.find(job_id)
    return info is not None and info.status.is_active


def _split(text: str, *, is_growing: bool) -> list[str]:
    """Lines; the last one of a log that grows may be cut, and is left out until it has its end."""
    return (text.rpartition("\n")[0] if is_growing else text).splitlines()


def _find_jobs(record: WorkspaceRecord, machine: Machine) -> Jobs | None:
    try:
        ray = machine.find_ray(record.address)
    except TransientError:
        return None
    return machine.jobs(ray) if ray is not None and ray.instance == record.ray else None


def _read(state: StateDir, jobs: Jobs | None, job_id: str) -> str:
    text = ""
    if jobs is not None:
        try:
            text = jobs.logs(job_id)
        except TransientError:
            text = ""
    path = state.job_log(job_id)
    return text or (path.read_text("utf-8", errors="replace") if path.exists() else "")
