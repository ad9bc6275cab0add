"""A folder with a Workspace's file, a state folder, and a machine that exists in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kairay.local.fake import FakeJobs, FakeMachine
from kairay.local.machine import FoundAdapter
from kairay.local.result import RunOptions, RunResult
from kairay.local.run import run_workspace
from kairay.local.state import Outcome, StateDir
from kairay.ray.progress import TuningProgress
from kairay.workspace import parse_documents
from planning import plan_on_laptop

TUNING = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: demo}
resource: {labelSelector: {matchLabels: {app: demo}}}
tuning:
  preset: {name: smollm2-135m-instruct}
  method: qlora
  input: {volumeSource: {hostPath: {path: train.jsonl}}}
  output: {volumeSource: {hostPath: {path: out}}}
"""
INFERENCE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: base}
resource: {labelSelector: {matchLabels: {app: base}}}
inference:
  preset: {name: smollm2-135m-instruct}
"""


@dataclass
class Notes:
    """A Reporter that remembers."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    progresses: list[TuningProgress] = field(default_factory=list)
    results: list[RunResult] = field(default_factory=list)

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: TuningProgress) -> None:
        self.progresses.append(progress)

    def done(self, result: RunResult) -> None:
        self.results.append(result)


class KilledError(BaseException):
    """Stands for SIGKILL."""


class World:
    """A folder with a file and its data, a state folder, and a machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "train.jsonl").write_text('{"text": "a"}\n')
        self.state = StateDir(folder / "state")
        self.machine = FakeMachine()
        self.notes = Notes()
        self.jobs().on_success = self.train

    def jobs(self) -> FakeJobs:
        return self.machine.fake_jobs

    def train(self, request: Mapping[str, Any]) -> None:
        """What a job that succeeds leaves: an adapter of its revision at the output."""
        revision = request["metadata"]["kairay.revision"]
        self.put(self.output, revision)

    @property
    def output(self) -> str:
        return f"oci:{self.folder}/out:demo"

    def put(self, reference: str, revision: str) -> None:
        self.machine.adapters[reference] = FoundAdapter(
            reference=reference, digest="sha256:1", revision=revision
        )

    def run(self, text: str = TUNING, **options: Any) -> RunResult:
        documents = parse_documents(text, "demo.yaml")
        workspace = documents.workspaces[0]
        plan = plan_on_laptop(workspace)
        return run_workspace(
            workspace, plan, documents.config_maps,
            base_dir=self.folder, state=self.state, reporter=self.notes,
            options=RunOptions(**options), machine=self.machine,
        )  # fmt: skip

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Let something happen when the run has waited so long."""
        self.machine.events.append((self.machine.slept + seconds, event))

    def run_until_killed(self, seconds: float) -> None:
        """A run that SIGKILL ends: Ray is deaf to whatever it would tidy up."""

        def strike() -> None:
            self.machine.silent = True
            raise KilledError

        self.after(seconds, strike)
        with pytest.raises(KilledError):
            self.run()
        self.machine.silent = False

    @property
    def outcome(self) -> Outcome:
        record = self.state.load("demo")
        assert record is not None
        return record.outcome
