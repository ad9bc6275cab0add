"""Processes of one Ray instance: found by the mark in their environment, ended for certain.

Ray's workers leave the process group of `ray start`, and a job's driver leaves its session, so neither names
the whole family. The mark does: whatever the instance starts inherits it, also after its parent has died.
No process without the mark is ever touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

MARK = "KAIRAY_RAY_INSTANCE"
"""Environment variable with the instance's name."""

LOST_AND_FOUND_SECONDS = 3.0


def spawn_detached(command: Sequence[str], environment: Mapping[str, str], log: Path) -> psutil.Process:
    """Start a process in a session of its own: it outlives us, and the terminal's Ctrl-C passes it by."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # Python ignores SIGPIPE, and a command under nohup SIGHUP; the child gets the defaults.
    defaults = [signal.SIGPIPE, signal.SIGHUP, signal.SIGINT]
    pid = os.posix_spawn(
        command[0], list(command), dict(environment), file_actions=actions, setsid=True, setsigdef=defaults
    )
    return psutil.Process(pid)


def find_process(pid: int | None, create_time: float) -> psutil.Process | None:
    """The process with this pid, unless it has ended or the pid was given to another since."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - create_time) > 1 or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def find_marked(instance: str) -> list[psutil.Process]:
    """Every live process of ours that carries the mark of an instance."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == instance:
                found.append(process)
    return found


def end_instance(instance: str, leader: psutil.Process | None, *, grace: float) -> None:
    """End the leader politely, wait `grace` seconds, then end for certain what is left of the instance."""
    members = _family(leader) | set(find_marked(instance))
    if leader is not None:
        _signal([leader], signal.SIGTERM)
        psutil.wait_procs([leader], timeout=grace)
        psutil.wait_procs(members, timeout=LOST_AND_FOUND_SECONDS)
    # Twice: a process may have started another while it was being ended.
    for _ in range(2):
        left = {p for p in members if _is_alive(p)} | set(find_marked(instance))
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=LOST_AND_FOUND_SECONDS)


def _family(leader: psutil.Process | None) -> set[psutil.Process]:
    if leader is None:
        return set()
    try:
        return {leader, *leader.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        # psutil compares the start time first, so a recycled pid is never hit.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
