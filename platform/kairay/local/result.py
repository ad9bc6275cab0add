"""What a run is asked beside its Workspace, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kairay.local.state import AdapterRecord, WorkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Flags of `kairay run`; times in seconds."""

    port: int = 8000
    """Where models answer."""
    dashboard_port: int = 8265
    address: str | None = None
    """Dashboard of a Ray to join instead of our own instance."""
    retry: bool = False
    """Tune again although this revision failed before."""
    model: str | None = None
    """Weights to use instead of the preset's: a folder or `oci:/folder:tag`."""
    poll_seconds: float = 1.0
    serve_seconds: float = 900.0
    """Until a model must answer; a large one takes minutes to load."""
    pending_seconds: float = 300.0
    """Until Ray must have started a job."""
    silence_seconds: float = 120.0
    """How long Ray may give no answer while it lives; training on every core makes it slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run left behind."""

    name: str
    kind: WorkKind
    revision: str
    tuned: bool
    """The adapter was made in this run; False: it was there, or none was asked for."""
    adapter: AdapterRecord | None
    training: Mapping[str, float | int | str | None] = field(default_factory=dict)
    """steps, loss, tokensPerSecond, trainingSeconds, resumedFrom of the job that made it."""
    url: str | None = None
    models: tuple[str, ...] = ()
    """Served names, the base model first."""
    default_model: str | None = None
    dashboard_url: str | None = None
    seconds: float = 0.0
    """Of the whole run."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "kind": str(self.kind),
            "revision": self.revision,
            "tuned": self.tuned,
            "adapter": self.adapter.model_dump() if self.adapter else None,
            "training": dict(self.training),
            "url": self.url,
            "models": list(self.models),
            "defaultModel": self.default_model,
            "dashboardUrl": self.dashboard_url,
            "seconds": round(self.seconds, 1),
        }
