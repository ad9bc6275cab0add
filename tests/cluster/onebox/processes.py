"""The parts' processes: start them inside the cluster's namespaces, find them again, end them, whoever started them.

A process is ours when its environment carries our marker or its cgroup lies below ours. Both are set before the program
runs its first instruction, so no part can be lost, even if the starter is killed in between.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onebox.layout import NAME, SYSTEM_PATH, Layout

MARKER = "KAIRAY_CLUSTER_PART"
"""Variable that names the part; containers do not inherit it, their cgroup tells."""
ANCHOR = "anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process of the cluster that runs now."""

    name: str
    pid: int
    memory: int
    """Resident bytes."""


def spawn(layout: Layout, name: str, command: Sequence[str], *, anchor: int | None) -> int:
    """Start `command` as part `name`, inside the anchor's namespaces, its output in logs/<name>.log. Returns the pid.

    nsenter replaces itself by the command, so the pid is the program's.
    """
    enter = [] if anchor is None else [
        "nsenter", f"--net=/proc/{anchor}/ns/net", f"--mount=/proc/{anchor}/ns/mnt", "--",
    ]  # fmt: skip
    environment = {"PATH": SYSTEM_PATH, "HOME": "/root", MARKER: name}
    layout.logs.mkdir(parents=True, exist_ok=True)
    with (layout.logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*enter, *command], env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    _children[process.pid] = process
    return process.pid


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Kept so that an ended child is reaped when somebody asks for it."""


def alive(pid: int) -> bool:
    """Whether the process runs (a dead one that nobody waited for does not)."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        return False
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def parts() -> tuple[Part, ...]:
    """Every process of the cluster that carries our marker, by name."""
    found = [
        Part(name=_name(pid, name), pid=pid, memory=_memory(pid)) for pid in pids() if (name := _marker(pid))
    ]
    return tuple(sorted(found, key=lambda part: (part.name, part.pid)))


def container_pids() -> tuple[int, ...]:
    """Every process in a pod of ours."""
    return tuple(pid for pid in pids() if _in_our_cgroup(pid))


def pids() -> tuple[int, ...]:
    """Every process of this machine that runs now."""
    return tuple(
        pid for entry in Path("/proc").iterdir() if entry.name.isdigit() and alive(pid := int(entry.name))
    )


def kill_all(patience: float = 10.0) -> None:
    """KILL every process of ours until none is left: nothing of a cluster is kept, so nobody need say goodbye.

    The kubelet goes first, or it would start containers again; then containers, then their shims and the rest.
    """
    deadline = time.monotonic() + patience
    _kill(part.pid for part in parts() if part.name == "kubelet")
    while (found := (*container_pids(), *(part.pid for part in parts()))) and time.monotonic() < deadline:
        _kill(found)
        time.sleep(0.05)


def _kill(targets: Iterable[int]) -> None:
    for pid in targets:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _marker(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{MARKER}=".encode()
    return next((v[len(prefix) :].decode() for v in environment.split(b"\0") if v.startswith(prefix)), None)


def _name(pid: int, part: str) -> str:
    """The part, or a shim of it: containerd starts one for each pod, which inherits its environment."""
    try:
        program = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return part
    return "containerd-shim" if program.startswith("containerd-shim") else part


def _in_our_cgroup(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":", 2)[2].startswith(f"/{NAME}/") for line in lines)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the program's name (which may hold spaces)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _memory(pid: int) -> int:
    try:
        return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
