"""The folder in which the local back end remembers: what it is called, how it is written and locked.

It is private (0700) and every write is atomic, so a killed command leaves the old file or the new one, never half of
one. What is in it stands in `state`; who only looks for the folder does not load the records.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from kairay.errors import HostError

RAY: Final = "ray.instance"
"""What the instance is locked by; no Workspace has a dot in its name."""

LOCK_SECONDS: Final = 180.0
"""How long one command waits for another that starts or stops Ray."""


class StateFolder:
    """The folder; made when something is first written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls) -> Self:
        """$KAIRAY_STATE_DIR, else kairay/ under the XDG state folder."""
        if given := os.environ.get("KAIRAY_STATE_DIR"):
            return cls(Path(given).expanduser().absolute())
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return cls(Path(base).expanduser().absolute() / "kairay")

    @property
    def token_path(self) -> Path:
        """The token of our Ray instance (0600)."""
        return self.root / "ray-token"

    def folder(self, name: str) -> Path:
        """A private folder inside the state (logs, runs, jobs), made if it is not there."""
        path = self.root / name
        try:
            for part in (self.root, path):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"cannot make {path}: {error.strerror}; KAIRAY_STATE_DIR names another place"
            ) from error
        return path

    def job_log(self, job_id: str) -> Path:
        """Where a job's log is kept once the job has ended."""
        return self.root / "logs" / f"{job_id}.log"

    def token(self) -> str:
        """The token; made the first time."""
        path = self.token_path
        if not path.exists():
            self.write(path, secrets.token_hex(32))
        return path.read_text("utf-8").strip()

    def write(self, path: Path, text: str) -> None:
        """Write a private file whole or not at all; HostError when the disk will not take it."""
        self.folder(path.parent.name if path.parent != self.root else "")
        try:
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise HostError(
                f"cannot write {path}: {error.strerror}; KAIRAY_STATE_DIR names another place"
            ) from error

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: float = 0.0) -> Iterator[None]:
        """Hold a Workspace, or RAY, against other commands; HostError when another has it after `wait` seconds."""
        path = self.folder("locks") / name
        with path.open("a+", encoding="utf-8") as file:
            deadline = time.monotonic() + wait
            while not _try_lock(file.fileno()):
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise HostError(
                        f"another kairay (process {holder}) is at work on {name}; wait for it to end"
                    )
                time.sleep(0.1)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
