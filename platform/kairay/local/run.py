"""`kairay run`: observe, decide the next step, do it, look again, until what the Workspace asks for is there.

Nothing is remembered between steps that the next look would not find, so a run that was killed at any line is
taken up by the next one. A run that ends early gives back what it started: its job, an application that does not
answer yet, and the Ray instance when nothing else uses it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from kairay.errors import InputError, JobFailedError, KairayError
from kairay.local.machine import LocalMachine, Machine, is_idle
from kairay.local.places import (
    ConfigMaps,
    find_adapters,
    find_engine_config,
    find_parameters,
    find_revision,
    find_tuning_places,
)
from kairay.local.ray_instance import RayInstance
from kairay.local.report import Reporter
from kairay.local.result import RunOptions, RunResult
from kairay.local.service_run import ServiceRun, ServiceState
from kairay.local.state import Outcome, StateDir, WorkKind, WorkspaceRecord
from kairay.local.steps import Observed, Step, next_step
from kairay.local.tuning_run import TuningRun
from kairay.names import run_name
from kairay.plan import Plan
from kairay.ray.target import ServedAdapter
from kairay.workspace import Workspace

__all__ = ["RunOptions", "RunResult", "run_workspace"]


def run_workspace(
    workspace: Workspace,
    plan: Plan,
    config_maps: ConfigMaps,
    *,
    base_dir: Path,
    state: StateDir,
    reporter: Reporter,
    options: RunOptions | None = None,
    machine: Machine | None = None,
) -> RunResult:
    """Bring a Workspace to where its file wants it on this machine, from whatever is there already.

    `base_dir` is the file's folder: relative hostPaths start there. Raises the error tree; KeyboardInterrupt
    passes after what this run started has ended.
    """
    name = workspace.metadata.name
    if plan.problems:
        raise InputError(f"{name} cannot run on this machine: {'; '.join(plan.problems)}")
    with state.lock(name):
        run = _Run(
            workspace, plan, config_maps,
            base_dir=base_dir, state=state, reporter=reporter,
            options=options or RunOptions(), machine=machine or LocalMachine(state),
        )  # fmt: skip
        return run.to_the_end()


class _Run:
    """One call of `kairay run`."""

    def __init__(
        self,
        workspace: Workspace,
        plan: Plan,
        config_maps: ConfigMaps,
        *,
        base_dir: Path,
        state: StateDir,
        reporter: Reporter,
        options: RunOptions,
        machine: Machine,
    ) -> None:
        self._plan, self._state, self._reporter = plan, state, reporter
        self._options, self._machine = options, machine
        self._started = machine.now()
        self._ray: RayInstance | None = None
        self._tuned = False
        revision = find_revision(workspace, config_maps, base_dir)
        self._record = _take_up(state, workspace, plan, revision, options, self._started)
        self._tuning: TuningRun | None = None
        adapters, default = find_adapters(workspace, base_dir), None
        if workspace.tuning is not None:
            places = find_tuning_places(workspace, base_dir, state.root, run_name(plan.workspace, revision))
            self._tuning = TuningRun(
                plan, places, find_parameters(workspace, config_maps),
                revision=revision, state=state, machine=machine, reporter=reporter, options=options,
            )  # fmt: skip
            default = workspace.metadata.name
            adapters = (ServedAdapter(name=default, source=str(places.kept)),)
        self._service: ServiceRun | None = None
        if plan.serving is not None and plan.serves:
            self._service = ServiceRun(
                plan, adapters, find_engine_config(workspace, config_maps, str(plan.serving.engine)),
                default_model=default, state=state, machine=machine, reporter=reporter, options=options,
            )  # fmt: skip

    def to_the_end(self) -> RunResult:
        """Step by step; gives back what was started when it ends early."""
        self._state.save(self._record)
        for warning in self._plan.warnings:
            self._reporter.note(warning)
        try:
            result = self._loop()
            if self._service is None:
                self._release_ray()
        except KairayError:
            self._give_back(stop_job=False)
            raise
        except BaseException:
            self._give_back(stop_job=True)
            raise
        self._reporter.done(result)
        return result

    def _loop(self) -> RunResult:
        while True:
            seen, service = self._observe()
            step = next_step(seen)
            if step is Step.DONE:
                return self._result(service)
            self._apply(step, service)

    def _observe(self) -> tuple[Observed, ServiceState | None]:
        if self._ray is None and (found := self._machine.find_ray(self._options.address)) is not None:
            self._join(found)
        tuning, ray = self._tuning, self._ray
        kept = published = None
        job = service = None
        if tuning is not None:
            # The job first: one that ends between two looks has pushed its adapter before the second.
            job = tuning.find_job(self._record, ray) if ray is not None else None
            kept, published = tuning.find_kept(), tuning.find_published()
            if kept and published:
                self._record = tuning.note_adapter(self._record, published)
        if self._service is not None and ray is not None and (tuning is None or (kept and published)):
            service = self._service.observe(self._record, ray)
        failed = self._record.outcome is Outcome.FAILED and not self._record.retryable
        return Observed(
            tunes=tuning is not None,
            serves=self._service is not None,
            kept=kept is not None,
            published=published is not None,
            failed_before=failed and not self._options.retry,
            ray=ray is not None,
            job=job.status if job else None,
            awaited=tuning is not None and tuning.submitted and not tuning.ended,
            ended=tuning is not None and tuning.ended,
            app=service.app.status if service and service.app else None,
            app_is_current=service is not None and service.is_current,
            answers=service is not None and service.answers,
            deployed=self._service is not None and self._service.deployed,
        ), service

    def _apply(self, step: Step, service: ServiceState | None) -> None:
        match step:
            case Step.START_RAY:
                self._start_ray()
            case Step.SERVE | Step.WAIT_SERVE | Step.FAIL_SERVE:
                self._apply_to_service(step, service)
            case _:
                self._apply_to_tuning(step)

    def _start_ray(self) -> None:
        options = self._options
        self._reporter.stage(
            "starting Ray on this machine" if options.address is None else f"joining {options.address}"
        )
        self._join(
            self._machine.ensure_ray(
                dashboard_port=options.dashboard_port, serve_port=options.port, address=options.address
            )
        )

    def _join(self, ray: RayInstance) -> None:
        self._ray = ray
        if ray.serve_port != self._options.port:
            self._reporter.note(
                f"models answer on port {ray.serve_port}, which Ray was started with; `kairay stop --all` first"
                " to change it"
            )

    def _apply_to_tuning(self, step: Step) -> None:
        tuning, ray = self._tuning, self._ray
        assert tuning is not None
        match step:
            case Step.REFUSE:
                raise JobFailedError(
                    f"this revision failed before: {self._record.message}; edit the file, or try it again with --retry"
                )
            case Step.KEEP:
                self._record = tuning.keep(self._record, ray)
            case Step.PUBLISH:
                self._record = tuning.publish(self._record)
            case Step.FAIL_TUNE:
                raise tuning.fail(self._record)
            case Step.TUNE:
                assert ray is not None
                self._record = tuning.submit(self._record, ray)
                self._tuned = True
            case _:
                assert ray is not None
                self._record = tuning.follow(self._record, ray)
                self._tuned = True

    def _apply_to_service(self, step: Step, seen: ServiceState | None) -> None:
        service, ray = self._service, self._ray
        assert service is not None
        assert ray is not None
        assert seen is not None
        if step is Step.SERVE:
            if self._tuning is not None and not self._tuned:
                self._reporter.stage(f"the adapter of revision {self._record.revision} is there already")
            self._record = service.deploy(self._record, ray, seen)
        elif step is Step.WAIT_SERVE:
            service.wait(self._record, ray)
        else:
            self._record, error = service.fail(self._record, seen)
            raise error

    def _result(self, service: ServiceState | None) -> RunResult:
        serves = self._service if service is not None else None
        return RunResult(
            name=self._record.name,
            kind=self._record.kind,
            revision=self._record.revision,
            tuned=self._tuned,
            adapter=self._record.adapter,
            training=self._record.training,
            url=service.url if service else None,
            models=serves.models if serves else (),
            default_model=serves.default_model if serves else None,
            dashboard_url=self._ray.dashboard_url if self._ray else None,
            seconds=self._machine.now() - self._started,
        )

    def _give_back(self, *, stop_job: bool) -> None:
        """End what this run started and nobody can use. Trouble on the way does not hide why the run ended."""
        ray = self._ray
        if ray is not None:
            with contextlib.suppress(KairayError):
                if (
                    stop_job
                    and self._tuning is not None
                    and (self._tuning.submitted or self._tuning.followed)
                ):
                    self._reporter.note(
                        "stopping the tuning job; `kairay run` goes on from its last checkpoint"
                    )
                    self._tuning.stop(self._record, ray)
            with contextlib.suppress(KairayError):
                self._delete_unready(ray)
        with contextlib.suppress(KairayError):
            self._release_ray()

    def _delete_unready(self, ray: RayInstance) -> None:
        service = self._service
        if service is None or not service.deployed or service.observe(self._record, ray).answers:
            return
        service.delete(ray)
        self._record = self._record.model_copy(update={"application": None})
        self._state.save(self._record)

    def _release_ray(self) -> None:
        """Stop the instance that this run started, unless it serves or works for somebody."""
        ray = self._ray
        if ray is None or not ray.started_by_us or not is_idle(self._machine, ray):
            return
        self._machine.stop_ray()
        self._ray = None


def _take_up(
    state: StateDir, workspace: Workspace, plan: Plan, revision: str, options: RunOptions, now: float
) -> WorkspaceRecord:
    """The record of this revision, or a new one with what outlives a change of revision."""
    name = workspace.metadata.name
    kind = WorkKind.TUNING if workspace.tuning is not None else WorkKind.INFERENCE
    old = state.load(name)
    if old is not None and old.revision == revision and old.kind is kind:
        return old.model_copy(update={"address": options.address, "preset": plan.preset})
    new = WorkspaceRecord(
        name=name, kind=kind, preset=plan.preset, revision=revision, started_at=now, address=options.address
    )
    return new if old is None else new.after(old)
