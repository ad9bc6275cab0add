"""What `kairay doctor` says: one sentence for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    """It may do, or it could not be seen."""
    MISSING = "missing"
    """Something that a Workspace waits for will not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Status
    sentence: str
    """What is so; with the remedy where something is to do."""

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {"name": self.name, "status": str(self.status), "sentence": self.sentence}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """In place of a value that could not be read."""

    why: str
    denied: bool = False
    """A permission is missing; nothing is known of the thing itself."""


def ok(name: str, sentence: str) -> Finding:
    """It is as it should be."""
    return Finding(name=name, status=Status.OK, sentence=sentence)


def warning(name: str, sentence: str) -> Finding:
    """It may do."""
    return Finding(name=name, status=Status.WARNING, sentence=sentence)


def missing(name: str, sentence: str) -> Finding:
    """It will not do."""
    return Finding(name=name, status=Status.MISSING, sentence=sentence)


def unseen(name: str, found: Unseen) -> Finding:
    """It could not be looked at."""
    return warning(name, f"not seen: {found.why}")


def is_missing(findings: Iterable[Finding]) -> bool:
    """Whether anything is."""
    return any(each.status is Status.MISSING for each in findings)
