"""What a pass sees of one Workspace: a frozen copy of the caches, and what Ray itself said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kairay.controller.complaints import Complaint
from kairay.errors import InputError, TransientError
from kairay.kube.objects import POD, Key, Kind, Manifest, labels_of
from kairay.nodes.demand import view_worker
from kairay.nodes.existing import NodeView
from kairay.objects.metadata import KAIRAY, MANAGED_BY
from kairay.presets import Preset
from kairay.ray.job_word import JobWord
from kairay.ray.progress import TuningProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a decision may look at."""

    workspace: Manifest
    """As the API server has it, status included."""
    live: Mapping[Key, Manifest] = field(default_factory=dict)
    """Objects in the Workspace's namespace that carry its label, and those that stand where ours would."""
    nodes: tuple[NodeView, ...] = ()
    """All nodes."""
    config_text: str | None = None
    """Of the ConfigMap that the Workspace names; None when it names none."""
    config_problem: str | None = None
    """Why that text is not there."""
    preset: Preset | None = None
    """The model that the Workspace names."""
    model_problem: InputError | TransientError | None = None
    """Why it is not known."""
    result: JobWord | None = None
    """The last word of the current job, once it has ended and while its head is there."""
    progress: TuningProgress | None = None
    complaints: Mapping[str, tuple[Complaint, ...]] = field(default_factory=dict)
    """What events say of pods that wait, by the pod's UID."""
    ray_clusters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What RayClusters that miss pods say, by name; of those that were asked."""
    hear_again: float | None = None
    """Seconds until events or those clusters are worth another look; None: nothing waits without a watch's word."""

    @property
    def uid(self) -> str:
        """Of the Workspace."""
        return str(self.workspace["metadata"]["uid"])

    @property
    def annotations(self) -> Mapping[str, str]:
        """The Workspace's, as they are written."""
        found: Mapping[str, str] = self.workspace["metadata"].get("annotations") or {}
        return found

    @property
    def status(self) -> Mapping[str, Any]:
        """What was reported before."""
        found: Mapping[str, Any] = self.workspace.get("status") or {}
        return found

    @property
    def has_its_nodes(self) -> bool:
        """It has worker pods, and none of them waits for a place."""
        workers = [pod for each in self.all(POD) if (pod := view_worker(each)) is not None]
        return any(pod.holds for pod in workers) and not any(pod.waits for pod in workers)

    def find(self, kind: Kind, name: str) -> Manifest | None:
        """One of ours by kind and name."""
        return self.live.get(Key(kind, self.workspace["metadata"]["namespace"], name))

    def all(self, kind: Kind) -> tuple[Manifest, ...]:
        """Those of a kind, by name."""
        return tuple(self.live[key] for key in sorted(self.live) if key.kind == kind)

    def holds(self, key: Key) -> bool:
        """It is there, Kairay has made it for this very Workspace, and it is not on its way out."""
        live = self.live.get(key)
        if live is None or not self.owns(live) or "deletionTimestamp" in live["metadata"]:
            return False
        return labels_of(live).get(MANAGED_BY) == KAIRAY

    def owns(self, manifest: Mapping[str, Any]) -> bool:
        """Made for this very Workspace, not for a deleted one of its name."""
        owners = manifest["metadata"].get("ownerReferences", ())
        return any(owner.get("uid") == self.uid for owner in owners)
