"""What the local back end remembers: the Ray instance and a record per Workspace, beside Ray's token.

Records say what was asked for and what came of it; what runs *now* is always asked.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from kairay.errors import HostError, InputError
from kairay.local.state_folder import StateFolder


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

    def after(self, old: WorkspaceRecord) -> WorkspaceRecord:
        """This record, new, of another revision than `old`. What belongs to the service outlives the change, and so
        do the jobs: one that this revision had before is its job again."""
        kept: dict[str, Any] = {
            key: getattr(old, key) for key in ("application", "route_prefix", "models", "ray")
        }
        kept["earlier"] = tuple(job for job in old.jobs if job.revision != self.revision)
        for job in old.jobs:
            if job.revision == self.revision:
                kept |= {"attempt": job.attempt, "job_id": job.job_id, "training": job.training}
        if old.last_job_id != kept.get("job_id"):
            kept["superseded"] = old.last_job_id
        return self.model_copy(update=kept)


R = TypeVar("R", bound=Record)


class StateDir(StateFolder):
    """The folder with its records."""

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
