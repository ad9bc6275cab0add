"""`kairay stop`: end what runs for a Workspace, and Ray when nothing is left for it to do. Adapters stay."""

from __future__ import annotations

import shutil

from kairay.errors import InputError, KairayError
from kairay.local.machine import LocalMachine, Machine, delete_app, end_job, is_idle
from kairay.local.ray_instance import RayInstance
from kairay.local.state import Outcome, StateDir, WorkspaceRecord
from kairay.names import ray_service_name, run_name


def stop_workspace(
    state: StateDir, name: str, *, forget: bool = False, machine: Machine | None = None
) -> list[str]:
    """End its service and its job, and our Ray when it is idle then; a sentence for each thing done.

    `forget` also deletes its record, its checkpoints and our copy of its adapter; the output stays. InputError for
    a Workspace that is not known. Stopping what does not run is no error.
    """
    record = state.load(name)
    if record is None:
        raise InputError(f"there is no Workspace {name} here; `kairay status` lists those that are")
    machine = machine or LocalMachine(state)
    ray = machine.find_ray(record.address)
    done = []
    if ray is not None and ray.instance == record.ray:
        done += _stop_app(record, ray, machine) + _stop_job(state, record, ray, machine)
    if ray is not None and ray.owned and is_idle(machine, ray):
        machine.stop_ray()
        done.append("stopped Ray")
    if forget:
        _forget(state, record)
        done.append(f"forgot {name}")
    return done


def stop_all(state: StateDir, *, forget: bool = False, machine: Machine | None = None) -> list[str]:
    """End every Workspace and our Ray, whatever else it does; a Ray that we joined keeps running."""
    machine = machine or LocalMachine(state)
    done = []
    for record in state.workspaces():
        try:
            done += stop_workspace(state, record.name, forget=forget, machine=machine)
        except KairayError:
            # A Ray that does not answer is ended below; a record that cannot be read says so by itself.
            if record.address is not None:
                raise
    if machine.stop_ray():
        done.append("stopped Ray")
    return done


def _stop_app(record: WorkspaceRecord, ray: RayInstance, machine: Machine) -> list[str]:
    if not delete_app(ray_service_name(record.name), ray, machine):
        return []
    return [f"{record.name} serves no more"]


def _stop_job(state: StateDir, record: WorkspaceRecord, ray: RayInstance, machine: Machine) -> list[str]:
    if record.job_id is None or not end_job(record.job_id, ray, machine):
        return []
    state.write(state.job_log(record.job_id), machine.jobs(ray).logs(record.job_id))
    state.save(
        record.model_copy(update={"outcome": Outcome.STOPPED, "message": "stopped", "retryable": True})
    )
    return [f"stopped the job {record.job_id}; `kairay run` goes on from its last checkpoint"]


def _forget(state: StateDir, record: WorkspaceRecord) -> None:
    run = run_name(record.name, record.revision)
    for kind in ("adapters", "data", "runs"):
        shutil.rmtree(state.root / kind / run, ignore_errors=True)
    (state.root / "jobs" / f"{run}.json").unlink(missing_ok=True)
    if record.job_id is not None:
        state.job_log(record.job_id).unlink(missing_ok=True)
    state.delete(record.name)
