"""One pass over one Workspace: observe, plan, apply, report. Only `apply` and `report` write, and only what differs."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kairay.controller.board import NodeBoard
from kairay.controller.compose import owner_of
from kairay.controller.decide import Decision, World, decide, decide_unread
from kairay.controller.events import Recorder
from kairay.controller.held import hold, refuse
from kairay.controller.look import Sources, Views, look
from kairay.controller.models import REFUSAL_LASTS, Models
from kairay.controller.observed import Observed
from kairay.controller.pod_events import PodEvents
from kairay.controller.ray_api import RayApi
from kairay.controller.ray_clusters import RayClusters
from kairay.controller.refusals import NotChangedError, NotMadeError, not_changed, not_made
from kairay.controller.settings import Settings
from kairay.errors import InputError, KairayError, TransientError
from kairay.kube.errors import DeniedError
from kairay.kube.interface import Cluster
from kairay.kube.objects import (
    RAY_JOB,
    SECRET,
    WORKSPACE,
    Key,
    Manifest,
    drop_bookkeeping,
    key_of,
    labels_of,
    uid_of,
    version_of,
)
from kairay.nodes.existing import NodeViews
from kairay.objects.metadata import APPLIED, KAIRAY, MANAGED_BY
from kairay.skus import Sku
from kairay.workspace import Workspace, parse_workspace

WAIT_SECONDS = 3.0
"""Until the next look at what is on its way and tells no watch."""
PROGRESS_SECONDS = 15.0
"""Between two looks at a running job's figures: the most often that its status is written."""
MODEL_SECONDS = REFUSAL_LASTS.total_seconds() + 1
"""Until a model that was refused is asked for again."""

_NAME_TAKEN = "NameTaken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything that a pass talks to."""

    cluster: Cluster
    views: Views
    ray: RayApi
    events: Recorder
    settings: Settings
    skus: Mapping[str, Sku]
    board: NodeBoard
    models: Models
    namespace: str
    """The controller's own."""
    now: Callable[[], datetime]
    lost: Callable[[KairayError], None] = lambda _: None
    """Hears of what could not be read and only people miss."""


class Reconciler:
    """Passes over Workspaces. It remembers its last status of each, since a cache may be a moment behind."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._written: dict[tuple[str, str], Manifest] = {}
        self._sources = Sources(
            views=tools.views, cluster=tools.cluster, ray=tools.ray, events=PodEvents(tools.cluster, tools.lost),
            clusters=RayClusters(tools.cluster, tools.lost), nodes=NodeViews(),
        )  # fmt: skip

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """One pass; seconds until the next one is wanted, None: when something changes. Raises the error tree."""
        found = self._newest(namespace, name)
        if found is None or "deletionTimestamp" in found["metadata"]:
            self._written.pop((namespace, name), None)
            self._sources.forget((namespace, name))
            self._tools.board.want((namespace, name), None)
            return None
        tools = self._tools
        world = World(
            settings=tools.settings, skus=tools.skus, controller_namespace=tools.namespace,
            words=tools.board.words, heard=tools.board.heard, now=tools.now(),
        )  # fmt: skip
        seen, read = await look(found, self._sources, world.now), _read(found)
        if isinstance(read, Workspace):
            seen = await self._with_model(read, seen, world.now)
        return await self._bring_about(read, seen, world)

    async def _bring_about(
        self, read: Workspace | InputError, seen: Observed, world: World
    ) -> float | None:  # fmt: skip
        workspace = read if isinstance(read, Workspace) else None
        try:
            decision = _decide(read, seen, world)
            waits = await self._apply(seen, decision)
        except (NotMadeError, NotChangedError, DeniedError) as error:
            # Nothing tells when the rule or the quota has changed: tried again, later and later.
            await self._go_on(seen, hold(workspace, seen, error, world))
            raise
        except TransientError as error:
            if error is seen.model_problem:
                await self._go_on(seen, hold(workspace, seen, error, world))
            raise
        except InputError as error:
            decision = refuse(seen, error, world)
            await self._go_on(seen, decision)
            # What is in our place carries no label of ours, so no watch tells when it has gone.
            return _pause(seen, decision, error.reason == _NAME_TAKEN)
        self._want(seen, decision)
        await self._report(seen, decision)
        is_polled = decision.running is not None or decision.waits_for_result
        if isinstance(seen.model_problem, TransientError) and not is_polled:
            # What runs is followed; the model is asked for again, later and later.
            raise seen.model_problem
        return _pause(seen, decision, waits)

    async def _with_model(self, workspace: Workspace, seen: Observed, now: datetime) -> Observed:
        spec = workspace.inference or workspace.tuning
        if spec is None or spec.preset is None or seen.config_problem is not None:
            return seen
        try:
            return replace(seen, preset=await self._tools.models.preset(spec.preset.name, now))
        except (InputError, TransientError) as error:
            return replace(seen, model_problem=error)

    async def _go_on(self, seen: Observed, decision: Decision) -> None:
        """What is not brought about as it is written: what runs of it goes on. Told first, since what has failed may
        fail again."""
        self._want(seen, decision)
        await self._report(seen, decision)
        for manifest in decision.objects:
            key = key_of(manifest)
            # What a rule denies is in status already.
            with suppress(NotMadeError, NotChangedError):
                if key not in seen.live or seen.holds(key):
                    await self._apply_one(seen, manifest)

    def _want(self, seen: Observed, decision: Decision) -> None:
        """What a Workspace with a mistake wanted before, it goes on to want: what runs of it goes on."""
        if decision.wish is not None:
            metadata = seen.workspace["metadata"]
            self._tools.board.want((metadata["namespace"], metadata["name"]), decision.wish)

    def _newest(self, namespace: str, name: str) -> Manifest | None:
        """The Workspace from the cache, or as our last write left it where the cache is behind."""
        found = self._tools.views[WORKSPACE].get(namespace, name)
        written = self._written.get((namespace, name))
        if found is None or written is None or uid_of(found) != uid_of(written):
            return found
        if int(version_of(written) or 0) > int(version_of(found) or 0):
            return written
        return found

    async def _apply(self, seen: Observed, decision: Decision) -> bool:
        """Bring about what differs; True when something of a deleted namesake has to go first."""
        waits = False
        if decision.keys is not None:
            await self._ensure_keys(seen, decision.keys)
        for manifest in decision.objects:
            waits |= await self._apply_one(seen, manifest)
        for key in decision.removals:
            await self._tools.cluster.delete(key, uid=uid_of(seen.live[key]))
        return waits

    async def _apply_one(self, seen: Observed, manifest: Manifest) -> bool:
        key = key_of(manifest)
        live = seen.live.get(key)
        digest = _digest(manifest)
        if live is not None:
            if not seen.owns(live):
                return await self._make_room(key, live)
            if labels_of(live).get(MANAGED_BY) != KAIRAY:
                raise InputError(_made_by_another(key), reason=_NAME_TAKEN)
            if "deletionTimestamp" in live["metadata"]:
                return True
            annotations = live["metadata"].get("annotations") or {}
            # A job in the middle of its work is never edited, whatever a release of ours would draw today.
            if key.kind == RAY_JOB or annotations.get(APPLIED) == digest:
                return False
        told = {**manifest["metadata"].get("annotations", {}), APPLIED: digest}
        metadata = {**manifest["metadata"], "annotations": told}
        try:
            await self._tools.cluster.apply({**manifest, "metadata": metadata})
        except DeniedError as error:
            raise (not_made if live is None else not_changed)(key, error) from error
        return False

    async def _make_room(self, key: Key, live: Manifest) -> bool:
        """Something else has our name: what a deleted Workspace of this name left goes, the rest is not ours."""
        owners = [each.get("kind") for each in live["metadata"].get("ownerReferences", ())]
        if WORKSPACE.kind not in owners:
            raise InputError(
                f"{key} is there already and not Kairay's; rename the Workspace, or delete the object",
                reason=_NAME_TAKEN,
            )
        if "deletionTimestamp" not in live["metadata"]:
            await self._tools.cluster.delete(key, uid=uid_of(live))
        return True

    async def _ensure_keys(self, seen: Observed, name: str) -> None:
        owner = owner_of(seen)
        if await self._tools.cluster.get(Key(SECRET, owner.namespace, name)) is None:
            await self._tools.cluster.apply({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": owner.metadata(name),
                "stringData": {"key-1": f"sk-{secrets.token_urlsafe(32)}"},
            })  # fmt: skip

    async def _report(self, seen: Observed, decision: Decision) -> None:
        status = _plain(decision.status)
        if status == _plain(seen.status):
            return
        metadata = seen.workspace["metadata"]
        written = await self._tools.cluster.apply_status({
            "apiVersion": seen.workspace["apiVersion"], "kind": WORKSPACE.kind,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "status": status,
        })  # fmt: skip
        self._written[metadata["namespace"], metadata["name"]] = drop_bookkeeping(written)
        await self._tools.events.changed(seen, status)


def _read(manifest: Manifest) -> Workspace | InputError:
    try:
        return parse_workspace(manifest)
    except InputError as error:
        return error


def _decide(read: Workspace | InputError, seen: Observed, world: World) -> Decision:
    return decide(read, seen, world) if isinstance(read, Workspace) else decide_unread(seen, read, world)


def _pause(seen: Observed, decision: Decision, waits: bool) -> float | None:
    """Seconds until the next pass over what tells no watch; None: nothing of that kind."""
    if waits or decision.waits_for_result:
        return WAIT_SECONDS
    pauses = [] if seen.hear_again is None else [seen.hear_again]
    if isinstance(seen.model_problem, InputError):
        pauses.append(MODEL_SECONDS)
    if decision.running is not None:
        pauses.append(PROGRESS_SECONDS)
    return min(pauses, default=None)


def _made_by_another(key: Key) -> str:
    """Applying over it would leave its fields in place: a Service would select both controllers' labels, so nobody."""
    delete = f"kubectl -n {key.namespace} delete {key.kind.resource} {key.name}"
    return f"{key} was made for this Workspace by another controller, such as KAITO; to let Kairay take over: {delete}"


def _digest(manifest: Manifest) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(status: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values, so that 1 and 1.0 and order do not count as a change."""
    plain: dict[str, Any] = json.loads(json.dumps(status, sort_keys=True))
    return plain
