"""KAITO's Workspaces on the way to Kairay: what each becomes, what KAITO leaves behind, and the commands in between.

What KAITO makes for a Workspace (its pkg/workspace/manifests): a StatefulSet, a Deployment in old releases, or a Job
when it tunes, and two Services, all owned by the Workspace; and a finalizer, which nobody takes away once KAITO is
gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kairay.cluster.configs import find_config
from kairay.cluster.findings import Unseen
from kairay.errors import InputError, KairayError, TransientError
from kairay.kube.errors import AbsentError
from kairay.kube.interface import Cluster
from kairay.kube.objects import (
    DEPLOYMENT,
    JOB,
    SERVICE,
    STATEFUL_SET,
    WORKSPACE,
    Key,
    Manifest,
    drop_bookkeeping,
    key_of,
    labels_of,
    uid_of,
)
from kairay.objects.metadata import KAIRAY, MANAGED_BY
from kairay.objects.service import HTTP_PORT, RENDEZVOUS_PORT
from kairay.plan import Plan
from kairay.ray.pods import SERVE_PORT
from kairay.workspace import Workspace, parse_workspace

LEFT_KINDS: Final = (STATEFUL_SET, DEPLOYMENT, JOB, SERVICE)
_FINALIZER = "workspace.finalizer.kaito.sh"
_READ = frozenset({"kaito.sh/enablelb"})
"""KAITO's annotations that mean something here."""
_KAITO_PORT, _KAITO_OTHERS = 5000, (6379, 8265)
_GPU = "nvidia.com/gpu"

Planner = Callable[[Workspace, str | None], Plan]
"""The controller's plan of a Workspace with the text of its own config; the error tree says why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """An object that KAITO made for a Workspace."""

    key: Key
    gpus: int = 0
    """That its pods hold."""

    def __str__(self) -> str:
        held = f" ({self.gpus} GPU{'s' if self.gpus > 1 else ''})" if self.gpus else ""
        return f"{self.key.kind.kind} {self.key.name}{held}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One Workspace's way."""

    namespace: str
    name: str
    refused: str = ""
    """Why Kairay does not take it as it is written; empty when it does."""
    before: tuple[str, ...] = ()
    """What to see to before KAITO stops, a sentence each."""
    changes: tuple[str, ...] = ()
    left: tuple[Leftover, ...] = ()
    commands: tuple[str, ...] = ()
    """After KAITO has stopped."""

    @property
    def state(self) -> str:
        """One word for a table."""
        if self.refused:
            return "Refused"
        if self.before:
            return "Decide"
        return "HandOver" if self.commands else "Kairay's"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "namespace": self.namespace, "name": self.name, "state": self.state, "refused": self.refused,
            "before": list(self.before), "changes": list(self.changes), "left": [str(each) for each in self.left],
            "commands": list(self.commands),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the controller will say of a Workspace."""

    refused: str = ""
    """Why it will not take it; empty when it will."""
    sentences: tuple[str, ...] = ()
    """Problems and warnings of its plan."""


async def find_migrations(cluster: Cluster, namespace: str | None, *, plan: Planner) -> list[Migration]:
    """Of every Workspace of a namespace, or of the cluster; InputError when it knows no Workspaces."""
    try:
        workspaces, _ = await cluster.list(WORKSPACE, namespace=namespace, trim=drop_bookkeeping)
    except AbsentError as error:
        raise InputError("this cluster has no Workspaces, so there is nothing to hand over") from error
    owned: list[Manifest] = []
    for kind in LEFT_KINDS:
        found, _ = await cluster.list(kind, namespace=namespace, trim=drop_bookkeeping)
        owned += [each for each in found if labels_of(each).get(MANAGED_BY) != KAIRAY]
    return [draw_migration(each, owned, await look_ahead(cluster, each, plan)) for each in workspaces]


async def look_ahead(cluster: Cluster, manifest: Manifest, plan: Planner) -> Outlook:
    """Plan a Workspace as the controller will, its own config included."""
    try:
        workspace = parse_workspace(manifest)
        work = workspace.inference or workspace.tuning
        if work is None or work.preset is None:
            return Outlook()
        config = await find_config(cluster, workspace, manifest["metadata"]["namespace"])
        drawn = plan(workspace, config if isinstance(config, str) else None)
    except TransientError as error:
        return Outlook(sentences=(error.message,))
    except KairayError as error:
        # The controller too holds what it cannot plan until somebody has done something about it.
        return Outlook(refused=error.message)
    hidden = (config.why,) if isinstance(config, Unseen) else ()
    return Outlook(sentences=(*hidden, *drawn.problems, *drawn.warnings))


def draw_migration(manifest: Manifest, others: Iterable[Manifest], outlook: Outlook) -> Migration:
    """What becomes of one Workspace; `others` are objects that are not Kairay's. Pure."""
    metadata = manifest["metadata"]
    left = tuple(sorted(_left(manifest, others), key=lambda each: (each.key.kind.kind, each.key.name)))
    changes = () if outlook.refused else (*outlook.sentences, *_changes(parse_workspace(manifest), left))
    return Migration(
        namespace=metadata["namespace"], name=metadata["name"], refused=outlook.refused,
        before=tuple(_before(manifest)), changes=tuple(changes), left=left, commands=tuple(_commands(manifest, left)),
    )  # fmt: skip


def _left(manifest: Manifest, others: Iterable[Manifest]) -> Iterator[Leftover]:
    uid = uid_of(manifest)
    for each in others:
        owners = each["metadata"].get("ownerReferences", ())
        if any(owner.get("uid") == uid for owner in owners):
            yield Leftover(key=key_of(each), gpus=_gpus(each))


def _gpus(manifest: Manifest) -> int:
    spec = manifest.get("spec") or {}
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    limits = [((each.get("resources") or {}).get("limits") or {}).get(_GPU, 0) for each in containers]
    pods = spec.get("parallelism", 1) if manifest["kind"] == JOB.kind else spec.get("replicas", 1)
    if manifest["kind"] == JOB.kind and (manifest.get("status") or {}).get("completionTime"):
        return 0
    return int(pods) * sum(map(int, limits))


def _before(manifest: Manifest) -> Iterator[str]:
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    status = manifest.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    if "tuning" in manifest and "tuning" not in status and conditions.get("WorkspaceSucceeded") == "True":
        yield (
            "KAITO has tuned it, which Kairay cannot know: it would tune once more, on GPUs. Delete it first (its "
            f"adapter stays where it is): kubectl -n {namespace} delete workspace {name}"
        )
    for owner in manifest["metadata"].get("ownerReferences", ()):
        yield (
            f"it belongs to {owner['kind']} {owner['name']}, which Kairay does not know: nothing scales it any more, "
            "and it goes when that goes"
        )


def _changes(workspace: Workspace, left: tuple[Leftover, ...]) -> Iterator[str]:
    spec = workspace.inference or workspace.tuning
    assert spec is not None
    if spec.preset is not None:
        if any(each.key.kind == SERVICE for each in left):
            gone = " and ".join(map(str, _KAITO_OTHERS))
            yield (
                f"its Service keeps its name and port {HTTP_PORT} and gets another address; behind it is port"
                f" {SERVE_PORT} in place of {_KAITO_PORT}; {gone} go, {RENDEZVOUS_PORT} comes"
            )
    else:
        yield "its pods run in a Deployment, its Service leads from port 80 to the first port of the containers"
    if workspace.tuning is not None and workspace.tuning.serve:
        yield "the tuned model is served when tuning ends; tuning.serve: false stops at the adapter, as KAITO does"
    for key in sorted(workspace.metadata.annotations):
        if key.startswith("kaito.sh/") and key not in _READ:
            yield f"the annotation {key} means nothing to Kairay"


def _commands(manifest: Manifest, left: tuple[Leftover, ...]) -> Iterator[str]:
    metadata = manifest["metadata"]
    namespace = metadata["namespace"]
    if left:
        objects = " ".join(f"{each.key.kind.resource}/{each.key.name}" for each in left)
        yield f"kubectl -n {namespace} delete {objects}"
    finalizers = metadata.get("finalizers") or []
    if _FINALIZER in finalizers:
        path = f"/metadata/finalizers/{finalizers.index(_FINALIZER)}"
        patch = f'[{{"op": "test", "path": "{path}", "value": "{_FINALIZER}"}}, {{"op": "remove", "path": "{path}"}}]'
        yield f"kubectl -n {namespace} patch workspace {metadata['name']} --type=json -p '{patch}'"
