"""What the local back end remembers: a folder with Ray's token, the Ray instance and a record per Workspace.

The folder is private (0700) and every write is atomic, so a killed command leaves the old record or the new
one, never half of one. Records say what was asked for and what came of it; what runs *now* is always asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from kairay.errors import HostError, InputError

RAY = "ray.instance"
"""What the instance is locked by; no Workspace has a dot in its name."""

LOCK_SECONDS = 180.0
"""How long one command waits for another that starts or stops Ray."""


class WorkKind(StrEnum):
    """What a Workspace asks for."""

    TUNING = "tuning"
    INFERENCE = "inference"


class Outcome(StrEnum):
    """How the tuning of a revision ended, or that it has not."""

    NONE = "None"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"


class Record(BaseModel):
    """Base of what is read back: keys of another version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class AdapterRecord(Record):
    """An adapter that was made: where it is for the user, and its manifest's digest."""

    reference: str
    digest: str


class JobRecord(Record):
    """The last job of one revision, and what came of it."""

    revision: str
    job_id: str
    attempt: int
    """Jobs submitted for this revision."""
    training: dict[str, float | int | str | None] = {}
    """Figures of the job's result line."""


class RayRecord(Record):
    """The Ray instance that we started."""

    instance: str
    """Random name; every process of the instance carries it in its environment."""
    pid: int | None
    """`ray start --block`; None until it has been spawned."""
    create_time: float
    """Of that process, in seconds since the epoch: a recycled pid has another."""
    version: str
    gcs_port: int
    dashboard_port: int
    agent_port: int
    metrics_port: int
    serve_port: int
    temp_dir: str
    log: str


class WorkspaceRecord(Record):
    """What is known of a Workspace that `kairay run` was given."""

    name: str
    kind: WorkKind
    preset: str
    revision: str
    started_at: float
    """Seconds since the epoch."""
    attempt: int = 0
    """Jobs submitted for this revision."""
    job_id: str | None = None
    superseded: str | None = None
    """The last job that was submitted where it is of another revision; it has to end before another starts."""
    earlier: tuple[JobRecord, ...] = ()
    """Jobs of other revisions that the Workspace has had, one each: a return to one finds its job again."""
    outcome: Outcome = Outcome.NONE
    retryable: bool = True
    """Whether another attempt may go without being asked for."""
    message: str = ""
    adapter: AdapterRecord | None = None
    training: dict[str, float | int | str | None] = {}
    """Figures of the job's result line."""
    application: str | None = None
    """Digest of the Serve application that was deployed."""
    route_prefix: str | None = None
    models: tuple[str, ...] = ()
    ray: str | None = None
    """Instance that the job or the application was given to."""
    address: str | None = None
    """Dashboard of a Ray that is not ours; None: our own instance."""

    @property
    def last_job_id(self) -> str | None:
        """The last job that was submitted, of whatever revision."""
        return self.superseded or self.job_id

    @property
    def jobs(self) -> tuple[JobRecord, ...]:
        """The jobs of every revision, this one's last."""
        if self.job_id is None:
            return self.earlier
        own = JobRecord(
            revision=self.revision, job_id=self.job_id, attempt=self.attempt, training=self.training
        )
        return (*self.earlier, own)


R = TypeVar("R", bound=Record)


class StateDir:
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

    def load_ray(self) -> RayRecord | None:
        """The instance we started, if there is a record of one; it need not live."""
        return self._read(self.root / "ray.json", RayRecord)

    def save_ray(self, record: RayRecord) -> None:
        """Remember the instance."""
        self.write(self.root / "ray.json", record.model_dump_json(by_alias=True, indent=2))

    def clear_ray(self) -> None:
        """Forget the instance."""
        (self.root / "ray.json").unlink(missing_ok=True)

    def load(self, name: str) -> WorkspaceRecord | None:
        """The record of a Workspace."""
        return self._read(self._record_path(name), WorkspaceRecord)

    def save(self, record: WorkspaceRecord) -> None:
        """Remember a Workspace."""
        self.write(self._record_path(record.name), record.model_dump_json(by_alias=True, indent=2))

    def delete(self, name: str) -> None:
        """Forget a Workspace."""
        self._record_path(name).unlink(missing_ok=True)

    def workspaces(self) -> tuple[WorkspaceRecord, ...]:
        """All records, by name."""
        paths = sorted((self.root / "workspaces").glob("*.json"))
        found = [self._read(path, WorkspaceRecord) for path in paths]
        return tuple(record for record in found if record is not None)

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

    def _record_path(self, name: str) -> Path:
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"{name!r} is not the name of a Workspace")
        return self.root / "workspaces" / f"{name}.json"

    def _read(self, path: Path, kind: type[R]) -> R | None:
        try:
            return kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(
                f"cannot read {path}: {error.strerror}; KAIRAY_STATE_DIR names another place"
            ) from error
        except ValidationError as error:
            raise HostError(f"{path} is not a record of ours any more; remove it and run again") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
