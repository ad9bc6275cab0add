"""`kairay stop`: end what runs for a Workspace, and Ray when nothing is left for it to do. Adapters stay."""

from __future__ import annotations

import shutil

from kairay.errors import InputError, KairayError, TransientError
from kairay.local.machine import LocalMachine, Machine, delete_app, end_job
from kairay.local.ray_instance import RayInstance
from kairay.local.state import Outcome, StateDir, WorkspaceRecord
from kairay.names import ray_service_name, run_name


def stop_workspace(
    state: StateDir, name: str, *, forget: bool = False, machine: Machine | None = None
) -> list[str]:
    """End its service and its job, and our Ray when it is idle then; a sentence for each thing done.

    `forget` also deletes its record, its checkpoints, its logs and our copies of its adapters, those of earlier edits
    too; the output stays. InputError for a Workspace that is not known. Stopping what does not run is no error.
    """
    record = state.load(name)
    if record is None:
        raise InputError(f"there is no Workspace {name} here; `kairay status` lists those that are")
    machine = machine or LocalMachine(state)
    ray = _find_ray(record, machine)
    done = []
    if ray is not None and ray.instance == record.ray:
        # What ends with Ray need not be ended first: a replica takes its time over its last requests.
        alone = ray.owned and not _others(record, ray, machine)
        done += _stop_app(record, ray, machine, alone=alone) + _stop_job(state, record, ray, machine)
    if ray is not None and ray.owned and not _others(record, ray, machine):
        machine.stop_ray()
        done.append("stopped Ray")
    if forget:
        _forget(state, record)
        done.append(f"forgot {name}")
    return done


def stop_all(state: StateDir, *, forget: bool = False, machine: Machine | None = None) -> list[str]:
    """End every Workspace and our Ray, whatever else it does; a Ray that we joined keeps running."""
    machine = machine or LocalMachine(state)
    done, silent = [], []
    for record in _records(state, machine):
        try:
            done += stop_workspace(state, record.name, forget=forget, machine=machine)
        except KairayError:
            # A Ray that does not answer is ended below; a record that cannot be read says so by itself.
            if record.address is not None:
                raise
            silent.append(record)
    if machine.stop_ray():
        done.append("stopped Ray")
    for record in silent if forget else ():
        _forget(state, record)
        done.append(f"forgot {record.name}")
    return done


def _records(state: StateDir, machine: Machine) -> tuple[WorkspaceRecord, ...]:
    """All records; one that cannot be read does not keep Ray up, and is told after."""
    try:
        return state.workspaces()
    except KairayError:
        machine.stop_ray()
        raise


def _find_ray(record: WorkspaceRecord, machine: Machine) -> RayInstance | None:
    try:
        return machine.find_ray(record.address)
    except TransientError:
        # Somebody else's Ray that has gone took our application and job with it.
        return None


def _others(record: WorkspaceRecord, ray: RayInstance, machine: Machine) -> bool:
    """Whether the instance serves or works for anybody else; one that has died does not."""
    if not machine.is_alive(ray):
        return False
    apps = machine.serve(ray).read().applications.keys() - {ray_service_name(record.name)}
    return bool(apps or set(machine.jobs(ray).active()) - {record.job_id})


def _stop_app(record: WorkspaceRecord, ray: RayInstance, machine: Machine, *, alone: bool) -> list[str]:
    name = ray_service_name(record.name)
    there = name in machine.serve(ray).read().applications if alone else delete_app(name, ray, machine)
    return [f"{record.name} serves no more"] if there else []


def _stop_job(state: StateDir, record: WorkspaceRecord, ray: RayInstance, machine: Machine) -> list[str]:
    if record.job_id is None or not end_job(record.job_id, ray, machine):
        return []
    state.write(state.job_log(record.job_id), machine.jobs(ray).logs(record.job_id))
    state.save(
        record.model_copy(update={"outcome": Outcome.STOPPED, "message": "stopped", "retryable": True})
    )
    return [f"stopped the job {record.job_id}; `kairay run` goes on from its last checkpoint"]


def _forget(state: StateDir, record: WorkspaceRecord) -> None:
    for revision in {record.revision, *(job.revision for job in record.earlier)}:
        run = run_name(record.name, revision)
        for kind in ("adapters", "data", "runs"):
            shutil.rmtree(state.root / kind / run, ignore_errors=True)
        (state.root / "jobs" / f"{run}.json").unlink(missing_ok=True)
    for job in record.jobs:
        state.job_log(job.job_id).unlink(missing_ok=True)
    state.delete(record.name)
