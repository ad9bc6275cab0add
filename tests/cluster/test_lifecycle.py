"""The cluster comes and goes without a trace, whatever happens to its starter. Runs while no cluster is up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebox import holder as holders
from onebox.cluster import Cluster, take_down
from onebox.errors import OneboxError
from onebox.layout import CLONE, Layout
from onebox.packages import check_machine
from onebox.processes import kill_all, parts
from onebox.stop import leftovers
from polling import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LAYOUT = Layout.default()
MOUNT_NOTES = "/run/mount"
"""The `umount` command makes this empty folder when it runs for the first time on a machine."""


@pytest.fixture(autouse=True)
def no_cluster_is_up() -> Iterator[None]:
    """The machine without a cluster, before and after: whatever is there that is somebody's is left alone."""
    try:
        check_machine()
        holder = holders.read(LAYOUT)
        if holder is not None and holder.up and parts():
            pytest.skip(f"the clone in {holder.clone} has a cluster up, which these tests would take down")
        take_down(print)
    except OneboxError as error:
        pytest.skip(str(error))
    yield
    take_down(print)


def test_a_cluster_comes_up_twice_and_leaves_the_machine_as_it_was() -> None:
    before = machine()
    for _ in range(2):
        assert onebox("up").returncode == 0
        assert onebox("status").returncode == 0
        assert onebox("down").returncode == 0
        assert leftovers(LAYOUT) == []
        assert machine() == before


def test_a_second_up_finds_the_cluster_and_another_clone_is_told_who_holds_it(tmp_path: Path) -> None:
    assert onebox("up").returncode == 0
    assert "is up already" in onebox("up").stdout
    hand_to(tmp_path)
    try:
        for command in ("up", "down"):
            refused = onebox(command)
            assert refused.returncode == 1
            assert str(tmp_path) in refused.stderr
            assert "make cluster-down" in refused.stderr
    finally:
        forced = onebox("down", "--force")
    assert forced.returncode == 0
    assert leftovers(LAYOUT) == []


@pytest.mark.parametrize("command", ["up", "down"])
def test_another_clones_cluster_that_was_killed_is_in_nobodys_way(tmp_path: Path, command: str) -> None:
    before = machine()
    assert onebox("up").returncode == 0
    hand_to(tmp_path)
    kill_all()
    done = onebox(command)
    assert done.returncode == 0, done.stderr
    if command == "up":
        assert "cleaning up" in done.stderr
        assert Cluster.running() is not None
        assert onebox("down").returncode == 0
    assert leftovers(LAYOUT) == []
    assert machine() == before


@pytest.mark.parametrize("part", ["etcd", "containerd", "kubelet"])
def test_a_start_that_is_killed_after_a_part_began_is_cleaned_up(part: str) -> None:
    before = machine()
    starter = start_up()
    part_runs(part)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    assert leftovers(LAYOUT) != []
    assert onebox("down").returncode == 0
    assert leftovers(LAYOUT) == []
    assert machine() == before


def test_ctrl_c_in_the_middle_of_a_start_leaves_nothing() -> None:
    starter = start_up()
    part_runs("kube-apiserver")
    starter.send_signal(signal.SIGINT)
    assert starter.wait(timeout=60) == 130
    assert leftovers(LAYOUT) == []
    assert holders.read(LAYOUT) is None


def test_the_next_up_cleans_after_a_killed_one() -> None:
    starter = start_up()
    part_runs("kube-apiserver")
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    up = onebox("up")
    assert up.returncode == 0
    assert "cleaning up" in up.stderr
    assert Cluster.running() is not None
    assert onebox("down").returncode == 0


def test_a_part_that_cannot_run_is_named_with_its_last_words() -> None:
    starter = start_up(stderr=subprocess.PIPE)
    part_runs("etcd")
    os.kill(next(part.pid for part in parts() if part.name == "etcd"), signal.SIGKILL)
    _, said = starter.communicate(timeout=120)
    assert starter.returncode == 1
    assert "etcd ended while waiting for" in said
    assert leftovers(LAYOUT) == []


def hand_to(clone: Path) -> None:
    """Let the running cluster be another clone's."""
    record = json.loads(LAYOUT.holder.read_text())
    LAYOUT.holder.write_text(json.dumps(record | {"clone": str(clone)}))


def onebox(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def start_up(stderr: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("up"), env=environment(), stdout=subprocess.DEVNULL, stderr=stderr, text=True
    )


def part_runs(name: str) -> None:
    eventually(f"{name} runs", lambda: {part.name for part in parts()}, lambda names: name in names)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "onebox", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CLONE / "tests" / "cluster")}


def machine() -> dict[str, str]:
    """What a cluster could change of the machine around it."""
    asked = {
        "links": ["ip", "-br", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "namespaces": ["ip", "netns", "list"],
        "iptables": ["iptables-save"],
    }
    found = {
        name: "\n".join(line for line in run_text(words).splitlines() if not line.startswith("#"))
        for name, words in asked.items()
    }
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found["mounts"] = "\n".join(sorted(line.split()[1] for line in mounts))
    found["settings"] = run_text(["sysctl", "vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops",
                                  "fs.inotify.max_user_instances", "net.ipv4.ip_forward"])  # fmt: skip
    folders = (
        "/run",
        "/run/netns",
        "/run/containerd",
        "/var/lib",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/opt",
        "/etc",
    )
    found["folders"] = "\n".join(
        str(p)
        for f in folders
        if Path(f).is_dir()
        for p in sorted(Path(f).iterdir())
        if str(p) != MOUNT_NOTES
    )
    return found


def run_text(words: list[str]) -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        words, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    ).stdout
