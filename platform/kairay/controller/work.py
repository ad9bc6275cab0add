"""What has to be known of a Workspace to follow what runs of it: as it is read, or, where this release cannot read it,
as it is written. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from kairay.controller.drawn_for import asked_for, read_drawn_for
from kairay.controller.observed import Observed
from kairay.controller.record import TuningRecord
from kairay.controller.settings import Settings
from kairay.kube.objects import RAY_JOB, labels_of
from kairay.objects.metadata import REVISION_LABEL
from kairay.ray.cluster_places import adapter_output, volume_output
from kairay.references import ImageReference
from kairay.registry.reference import ArtifactReference
from kairay.workspace import LabelSelector, Workspace, revision
from kairay.workspace_fields import dig


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is served or tuned."""

    read: Workspace | None
    """None: this release cannot read it, so nothing of it can be drawn."""
    revision: str
    """Of what cannot be read, the one that it was drawn with; empty: what is there was drawn for something else."""
    tunes: bool
    output: str = ""
    """Where a tuned adapter is written, as pods see it."""
    serves_adapter: bool = False
    """A tuned adapter is to be served."""
    selector: LabelSelector | None
    """Of nodes; None: it cannot be read."""


def read_work(workspace: Workspace, seen: Observed, settings: Settings) -> Work:
    """Of a Workspace that can be read."""
    tuning, selector = workspace.tuning, workspace.resource.label_selector
    mine = revision(workspace, seen.config_text)
    if tuning is None:
        return Work(read=workspace, revision=mine, tunes=False, selector=selector)
    return Work(
        read=workspace, revision=mine, tunes=True, output=adapter_output(workspace), selector=selector,
        # A field that is not written has the operator's default.
        serves_adapter=tuning.serve and (settings.serve_by_default or "serve" in tuning.model_fields_set),
    )  # fmt: skip


def written_work(seen: Observed, settings: Settings) -> Work:
    """Of a Workspace that cannot be read. InputError: not even where its adapter goes."""
    selector = _selector(seen)
    tuning = seen.workspace.get("tuning")
    if tuning is None:
        mine = str(seen.status.get("revision") or "")
        return Work(read=None, revision=mine, tunes=False, selector=selector)
    serve = dig(tuning, "serve")
    return Work(
        read=None, revision=_drawn_revision(seen), tunes=True, output=_written_output(seen), selector=selector,
        serves_adapter=serve is True or (serve is None and settings.serve_by_default),
    )  # fmt: skip


def _selector(seen: Observed) -> LabelSelector | None:
    try:
        return LabelSelector.model_validate(dig(seen.workspace, "resource", "labelSelector"))
    except ValidationError:
        return None


def _drawn_revision(seen: Observed) -> str:
    """Of the job that was drawn for what is written now; it stays when it has ended. Who reaches its service later is
    no part of it."""
    asked = {asked_for(seen, tuned=None, exposed=each) for each in (True, False)}
    for job in seen.all(RAY_JOB):
        drawn_for = read_drawn_for(job) if seen.owns(job) else None
        if drawn_for is not None and drawn_for.asked in asked:
            return labels_of(job).get(REVISION_LABEL, "")
    return ""


def _written_output(seen: Observed) -> str:
    record = TuningRecord.parse(seen.status)
    if record.adapter is not None:
        return record.adapter.image
    if dig(seen.workspace, "tuning", "output", "volumeSource") is not None:
        return volume_output(str(seen.workspace["metadata"]["name"]))
    image = ImageReference.parse(str(dig(seen.workspace, "tuning", "output", "image")))
    return str(ArtifactReference.parse(str(image)))
