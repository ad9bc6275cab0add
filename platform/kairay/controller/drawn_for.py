"""What a RayService or a RayJob was drawn for, kept on it as an annotation. Pure.

A later release may count otherwise and refuse what runs. Then this tells whether its user has asked for anything else
since, what it serves, and which nodes its pods go on to want: all of it is lost otherwise when the controller starts
again, whose caches keep no specs of Ray's objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from kairay.controller.groups import IMAGE_FAMILY, NodeWish
from kairay.controller.observed import Observed
from kairay.controller.record import TuningRecord
from kairay.controller.settings import Settings
from kairay.kube.objects import RAY_JOB, RAY_SERVICE, Manifest

DRAWN_FOR: Final = "kairay.dev/drawn-for"
"""Annotation; it is no part of what an operator looks at."""
ENABLE_LB: Final = "kaito.sh/enablelb"
"""KAITO's annotation: exactly `True` asks for a LoadBalancer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one worker takes of a node."""

    gpus: int
    words: str
    """`1 × A100 PCIe (Standard_NC24ads_A100_v4)`."""
    mig: str | None = None
    """Profile of its slices; None: whole GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a service was told."""

    models: tuple[str, ...]
    """The preset, then adapters, by name."""
    fewest: int
    """Replicas; 0: it may sleep."""
    most: int
    tuned: str | None = None
    """Reference of the Workspace's own adapter; None: it has none, or an earlier release has drawn it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFor:
    """What an object was drawn for."""

    asked: str
    """Hash of what its user had written, as `asked_for` gives it."""
    size: str
    """Of its machines, by name."""
    need: Need
    wish: NodeWish | None = None
    """The nodes that Kairay was to bring."""
    served: Served | None = None
    """None: it serves nothing."""


def asked_for(seen: Observed, *, tuned: str | None, exposed: bool | None = None) -> str:
    """Hash of all that a user can change of what is drawn; `tuned` is the reference of their own adapter, `exposed`
    stands in for what is written of it.

    As it is written and not as it is read, so that it is the same in every release.
    """
    written = {
        **{part: seen.workspace.get(part) for part in ("resource", "inference", "tuning")},
        "config": seen.config_text,
        "tuned": tuned,
        "exposed": is_exposed(seen.annotations) if exposed is None else exposed,
        "images": seen.annotations.get(IMAGE_FAMILY),
    }
    text = json.dumps(written, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_exposed(annotations: Mapping[str, str]) -> bool:
    """Asked to be reachable from outside the cluster."""
    return annotations.get(ENABLE_LB) == "True"


def marked(manifest: Manifest, drawn_for: DrawnFor) -> Manifest:
    """The object with its annotation."""
    told = _ADAPTER.dump_json(drawn_for, exclude_defaults=True).decode()
    metadata = manifest["metadata"]
    return {
        **manifest,
        "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), DRAWN_FOR: told}},
    }


def read_drawn_for(manifest: Manifest | None) -> DrawnFor | None:
    """None: there is no such object, or nobody can say what it was drawn for."""
    annotations = ((manifest or {}).get("metadata") or {}).get("annotations") or {}
    try:
        return _ADAPTER.validate_json(annotations.get(DRAWN_FOR, ""))
    except ValidationError:
        return None


def find_drawn_for(seen: Observed) -> DrawnFor | None:
    """Of what is there of the Workspace, a job first while it goes on: what serves meanwhile may be of an earlier
    revision. One that has ended stays, and wants no node."""
    goes_on = TuningRecord.parse(seen.status).outcome is None
    kinds = (RAY_JOB, RAY_SERVICE) if goes_on else (RAY_SERVICE, RAY_JOB)
    live = (each for kind in kinds for each in seen.all(kind) if seen.owns(each))
    return next((found for each in live if (found := read_drawn_for(each)) is not None), None)


def wish_of(seen: Observed, settings: Settings) -> NodeWish | None:
    """The nodes that what is there goes on to want, where Kairay brings nodes."""
    found = find_drawn_for(seen) if settings.nodes.come else None
    return None if found is None else found.wish


_ADAPTER = TypeAdapter(DrawnFor)
