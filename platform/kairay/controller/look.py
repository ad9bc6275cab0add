"""Observe: one Workspace out of the caches, and what only Ray itself can say of its job."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from kairay.config_maps import text_in, written_config
from kairay.controller.observed import Observed
from kairay.controller.pod_events import PodEvents
from kairay.controller.ray_api import RayApi
from kairay.controller.ray_clusters import RayClusters
from kairay.controller.record import TuningRecord
from kairay.controller.triggers import WorkspaceName
from kairay.controller.unmade import silent_clusters, silent_job
from kairay.errors import InputError, KairayError, TransientError
from kairay.kube.interface import Cluster
from kairay.kube.objects import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    NODE,
    POD,
    RAY_JOB,
    RAY_SERVICE,
    SECRET,
    SERVICE,
    WORKSPACE,
    Key,
    Kind,
    Manifest,
    key_of,
    labels_of,
)
from kairay.names import claim_name, ray_service_name, run_name
from kairay.nodes.existing import NodeViews
from kairay.objects.metadata import REVISION_LABEL, WORKSPACE_LABEL
from kairay.ray.job_word import JobWord
from kairay.ray.progress import tuning_progress
from kairay.ray.raycluster import ROLE_LABEL
from kairay.workspace_fields import dig

RESULT_PATIENCE = timedelta(seconds=90)
"""How long after a job's end its figures are asked for; its adapter counts without them too."""

WATCHED: Final = (
    WORKSPACE,
    RAY_JOB,
    RAY_SERVICE,
    DEPLOYMENT,
    POD,
    SERVICE,
    CONFIG_MAP,
    CLAIM,
    NETWORK_POLICY,
    NODE,
)
OWNED: Final = (RAY_JOB, RAY_SERVICE, DEPLOYMENT, POD, SERVICE, CONFIG_MAP, CLAIM, NETWORK_POLICY)


class View(Protocol):
    """What is read of a cache."""

    def get(self, namespace: str, name: str) -> Manifest | None:
        """An object."""

    def by_label(self, namespace: str, value: str) -> Iterable[Manifest]:
        """Objects of one Workspace."""

    def all(self) -> Iterable[Manifest]:
        """Every object."""


Views = Mapping[Kind, View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Whom a pass asks; one for all passes."""

    views: Views
    cluster: Cluster
    ray: RayApi
    events: PodEvents
    clusters: RayClusters
    nodes: NodeViews

    def forget(self, name: WorkspaceName) -> None:
        """A Workspace that is gone."""
        self.events.forget(name)
        self.clusters.forget(name)


async def look(manifest: Manifest, sources: Sources, now: datetime) -> Observed:
    """Everything that a decision needs, of a Workspace as it is written; what Ray does not answer is left out, never an
    error."""
    views = sources.views
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    live = {key_of(each): each for kind in OWNED for each in views[kind].by_label(namespace, name)}
    for kind, other in _places(name):
        if (found := views[kind].get(namespace, other)) is not None:
            live.setdefault(Key(kind, namespace, other), found)
    text, problem = _config(manifest, namespace, views)
    pods = [each for key, each in live.items() if key.kind == POD]
    heard = await sources.events.hear(
        (namespace, name), pods, lambda claim: views[CLAIM].get(namespace, claim), now
    )
    seen = Observed(
        workspace=manifest,
        live=live,
        nodes=sources.nodes.of(views[NODE].all()),
        config_text=text,
        config_problem=problem,
        complaints=heard.complaints,
        hear_again=heard.again,
    )
    seen = await _ask_clusters(seen, sources.clusters, now)
    if not manifest.get("tuning"):
        return seen
    if problem is None and _is_to_begin(seen):
        seen = replace(seen, config_problem=_missing_data(manifest, namespace, views))
    return await _ask_ray(seen, sources, now)


async def _ask_clusters(seen: Observed, clusters: RayClusters, now: datetime) -> Observed:
    """Of what misses pods and does not say why."""
    metadata, pods = seen.workspace["metadata"], seen.all(POD)
    silent = [each for job in seen.all(RAY_JOB) if seen.owns(job) for each in silent_job(job, pods)]
    service = seen.find(RAY_SERVICE, ray_service_name(metadata["name"]))
    if service is not None and seen.owns(service):
        silent += silent_clusters(service, pods)
    told = await clusters.ask((metadata["namespace"], metadata["name"]), silent, now)
    pauses = [each for each in (seen.hear_again, told.again) if each is not None]
    return replace(seen, ray_clusters=told.statuses, hear_again=min(pauses, default=None))


def _places(name: str) -> tuple[tuple[Kind, str], ...]:
    """Where our objects will stand, whoever's stands there now."""
    return (
        (RAY_SERVICE, ray_service_name(name)),
        (SERVICE, name),
        (DEPLOYMENT, name),
        (NETWORK_POLICY, name),
        (CLAIM, claim_name(name)),
    )


def _config(manifest: Manifest, namespace: str, views: Views) -> tuple[str | None, str | None]:
    place = written_config(manifest)
    if place is None:
        return None, None
    found = views[CONFIG_MAP].get(namespace, place.name)
    try:
        return text_in(place, None if found is None else found.get("data") or {}, namespace), None
    except InputError as error:
        return None, error.message


def _is_to_begin(seen: Observed) -> bool:
    """No job of this Workspace is there, and none has ended."""
    return TuningRecord.parse(seen.status).outcome is None and not any(map(seen.owns, seen.all(RAY_JOB)))


def _missing_data(manifest: Manifest, namespace: str, views: Views) -> str | None:
    """A pod whose ConfigMap is not there only says that it is being made; Kubernetes tells why in events alone."""
    volume = dig(manifest, "tuning", "input", "volumeSource", "configMap")
    name = dig(volume, "name")
    if name is None or dig(volume, "optional") or views[CONFIG_MAP].get(namespace, str(name)) is not None:
        return None
    return f"tuning.input: there is no ConfigMap {name} in namespace {namespace}; apply it"


async def _ask_ray(seen: Observed, sources: Sources, now: datetime) -> Observed:
    job = _current_job(seen)
    if job is None:
        return seen
    status = job.get("status") or {}
    pods = [
        pod for pod in seen.all(POD) if labels_of(pod).get("ray.io/cluster") == status.get("rayClusterName")
    ]
    if status.get("jobStatus") == "SUCCEEDED":
        word = await _last_word(seen, status, pods, sources, now)
        return seen if word is None else replace(seen, result=word)
    if status.get("jobStatus") != "RUNNING":
        return seen
    addresses = sorted(str(pod["status"]["podIP"]) for pod in pods if (pod.get("status") or {}).get("podIP"))
    progress = tuning_progress(await sources.ray.metrics(addresses), _run(job))
    return replace(seen, progress=progress)


async def _last_word(
    seen: Observed, status: Mapping[str, object], pods: list[Manifest], sources: Sources, now: datetime
) -> JobWord | None:
    """None: try again soon."""
    head = next((pod for pod in pods if labels_of(pod).get(ROLE_LABEL) == "head"), None)
    address = ((head or {}).get("status") or {}).get("podIP")
    ended = str(status.get("endTime") or "")
    late = bool(ended) and now - datetime.fromisoformat(ended) > RESULT_PATIENCE
    if address is None:
        return JobWord() if late or head is None else None
    try:
        token = await _token(seen, str(status["rayClusterName"]), sources.cluster)
        word = await sources.ray.last_word(str(address), token, str(status["jobId"]))
    except KairayError:
        return JobWord() if late else None
    return word


async def _token(seen: Observed, ray_cluster: str, cluster: Cluster) -> str:
    """The token that KubeRay's operator made for this cluster."""
    key = Key(SECRET, seen.workspace["metadata"]["namespace"], ray_cluster)
    secret = await cluster.get(key)
    try:
        return base64.b64decode((secret or {})["data"]["auth_token"]).decode()
    except (KeyError, binascii.Error) as error:
        raise TransientError(f"{key} has no auth_token yet") from error


def _current_job(seen: Observed) -> Manifest | None:
    record = TuningRecord.parse(seen.status)
    if record.outcome is not None or not record.job:
        jobs = [job for job in seen.all(RAY_JOB) if seen.owns(job)]
        return jobs[-1] if record.outcome is None and len(jobs) == 1 else None
    found = seen.find(RAY_JOB, record.job)
    return found if found is not None and seen.owns(found) else None


def _run(job: Manifest) -> str:
    """The name under which the job's gauges are, whichever attempt it is."""
    return run_name(labels_of(job).get(WORKSPACE_LABEL, ""), labels_of(job).get(REVISION_LABEL, ""))
