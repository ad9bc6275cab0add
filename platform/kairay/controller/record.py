"""`status.tuning`: what is remembered of a Workspace's tuning, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from kairay.workspace import REVISION_ALGORITHM


class Outcome(StrEnum):
    """How a revision ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """The last adapter that was pushed."""

    image: str
    digest: str
    """Empty when the job's head was gone before it could be asked."""
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRecord:
    """One revision's story so far."""

    revision: str
    attempt: int = 1
    outcome: Outcome | None = None
    job: str = ""
    reason: str = ""
    message: str = ""
    retried: str = ""
    """Value of the retry annotation that this attempt has answered."""
    adapter: AdapterRecord | None = None
    """Of this revision once it has succeeded, until then of an earlier one."""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, status: Mapping[str, Any]) -> Self:
        """From a Workspace's status, whatever an older release or a restored backup left there."""
        told = status.get("tuning") or {}
        adapter = told.get("adapter") or {}
        known = AdapterRecord(
            image=str(adapter.get("image", "")),
            digest=str(adapter.get("digest", "")),
            revision=str(adapter.get("revision", "")),
        )
        outcome = told.get("outcome")
        return cls(
            revision=str(told.get("revision", "")),
            attempt=int(told.get("attempt", 1)),
            outcome=Outcome(outcome) if outcome in set(Outcome) else None,
            job=str(told.get("jobName", "")),
            reason=str(told.get("reason", "")),
            message=str(told.get("message", "")),
            retried=str(told.get("retried", "")),
            adapter=known if known.image and known.revision else None,
            figures={
                key: told[key]
                for key in ("loss", "tokensPerSecond", "resumedFrom", "totalSteps")
                if key in told
            },
        )

    def succeeded(self, *, image: str, digest: str, figures: Mapping[str, Any]) -> Self:
        """The end of a job that pushed its adapter."""
        told = {("totalSteps" if key == "steps" else key): value for key, value in figures.items()}
        adapter = AdapterRecord(image=image, digest=digest, revision=self.revision)
        return replace(self, outcome=Outcome.SUCCEEDED, reason="", message="", adapter=adapter, figures=told)

    def failed(self, *, reason: str, message: str) -> Self:
        """The end of a job without an adapter."""
        return replace(self, outcome=Outcome.FAILED, reason=reason, message=message)

    def to_status(self, progress: Mapping[str, Any]) -> dict[str, Any]:
        """`status.tuning`; fields without a value are left out."""
        done = self.outcome is Outcome.SUCCEEDED
        told = {
            "revision": self.revision,
            "algorithm": REVISION_ALGORITHM,
            "attempt": self.attempt,
            "outcome": None if self.outcome is None else str(self.outcome),
            "jobName": self.job,
            "reason": self.reason,
            "message": self.message,
            "retried": self.retried,
            **_figures({**self.figures, **progress}),
        }
        if done:
            told |= {"progressPercent": 100, "step": self.figures.get("totalSteps")}
        if self.adapter is not None:
            told["adapter"] = {
                "image": self.adapter.image, "digest": self.adapter.digest, "revision": self.adapter.revision,
            }  # fmt: skip
        return {key: value for key, value in told.items() if value not in (None, "")}


def _figures(progress: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: progress[key] for key in ("step", "totalSteps", "resumedFrom") if key in progress}
    told |= {key: round(float(progress[key]), 4) for key in ("loss",) if key in progress}
    told |= {
        key: round(float(progress[key]), 1) for key in ("tokensPerSecond", "etaSeconds") if key in progress
    }
    if "progress" in progress:
        told["progressPercent"] = int(progress["progress"] * 100)
    return told
