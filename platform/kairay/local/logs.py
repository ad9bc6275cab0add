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
    """Lines of the last job's log, the last `tail` of them; with `follow`, until the job ends.

    InputError when the Workspace is not known or never had a job.
    """
    record = state.load(name)
    if record is None:
        raise InputError(f"there is no Workspace {name} here; `kairay status` lists those that are")
    if record.job_id is None:
        raise InputError(f"{name} has had no tuning job; only tuning writes a log")
    return _lines(state, record, record.job_id, machine or LocalMachine(state), follow=follow, tail=tail)


def _lines(
    state: StateDir, record: WorkspaceRecord, job_id: str, machine: Machine, *, follow: bool, tail: int | None
) -> Iterator[str]:
    jobs = _find_jobs(record, machine)
    text = _read(state, jobs, job_id)
    lines = text.splitlines()
    yield from lines[-tail:] if tail else lines
    while follow and jobs is not None and (info := jobs.find(job_id)) is not None and info.status.is_active:
        machine.sleep(POLL_SECONDS)
        longer = jobs.logs(job_id)
        # The last line may have been cut while it was written: it is given when it has its end.
        complete = longer.rpartition("\n")[0].splitlines()
        yield from complete[len(lines) :]
        lines = complete if len(complete) > len(lines) else lines


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
