"""`kairay run` interrupted for real: killed and taken up again, then Ctrl-C, which leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kairay.local.ports import free_ports
from kairay.local.processes import find_marked
from kairay.local.state import StateDir
from kairay.local.stop import stop_all

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

WORKSPACE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: long}
resource: {labelSelector: {matchLabels: {app: long}}}
tuning:
  preset: {name: smollm2-135m-instruct}
  method: qlora
  config: long
  input: {volumeSource: {hostPath: {path: rows.jsonl}}}
  output: {volumeSource: {hostPath: {path: out}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: long}
data:
  training_config.yaml: |
    training_config:
      TrainingArguments: {max_steps: 100000, save_steps: 5}
"""


def test_a_killed_run_is_followed_by_the_next_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(WORKSPACE)
    rows = [{"prompt": f"What is {n} plus {n}?", "completion": str(2 * n)} for n in range(50)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    state = StateDir(tmp_path / "state")
    try:
        first = start(tmp_path, state)
        wait_until(lambda: status(tmp_path, state).get("progress") is not None, first)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        record = state.load_ray()
        assert record is not None
        assert find_marked(record.instance)

        second = start(tmp_path, state)
        wait_until(lambda: "at work already" in printed(tmp_path), second)
        second.send_signal(signal.SIGINT)
        second.communicate(timeout=60)
        assert second.returncode == 130
        assert "goes on from its last checkpoint" in printed(tmp_path)
        assert status(tmp_path, state)["state"] == "Stopped"
        # The second run did not start Ray, so it is not its to end.
        assert stop_all(state) == ["stopped Ray"]
        assert find_marked(record.instance) == []
        assert not Path(record.temp_dir).exists()
    finally:
        stop_all(state)


def start(folder: Path, state: StateDir) -> subprocess.Popen[bytes]:
    dashboard, port = free_ports(2)
    command = [sys.executable, "-m", "kairay.cli.main", "run", "long.yaml"]
    with (folder / "run.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--port", str(port), "--dashboard-port", str(dashboard)],
            cwd=folder, env=environment(state), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def printed(folder: Path) -> str:
    """What the run said, without the line breaks of a narrow log."""
    return " ".join((folder / "run.log").read_text().split())


def status(folder: Path, state: StateDir) -> dict[str, object]:
    command = [sys.executable, "-m", "kairay.cli.main", "status", "long", "-o", "json"]
    done = subprocess.run(
        command, cwd=folder, env=environment(state), capture_output=True, text=True, check=False
    )
    found: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def environment(state: StateDir) -> dict[str, str]:
    return {**os.environ, "KAIRAY_STATE_DIR": str(state.root)}


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Poll while the run lives; pytest's time-out ends a wait that has no end."""
    while not holds():
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.5)
