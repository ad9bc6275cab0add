"""Workspaces of a cluster, as a person at a terminal handles them: apply, look, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kairay.errors import InputError
from kairay.kube.errors import AbsentError, DeniedError
from kairay.kube.interface import Cluster
from kairay.kube.objects import POD, RAY_JOB, RAY_SERVICE, SECRET, WORKSPACE, Key, Manifest, labels_of
from kairay.objects.metadata import WORKSPACE_LABEL
from kairay.ray.raycluster import ROLE_LABEL
from kairay.workspace import load_documents

NOT_INSTALLED = (
    "this cluster has no Workspaces; install Kairay: kubectl apply --server-side -k kuberay/install"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a Workspace's Ray cluster."""

    pod: Key
    token: str
    """Of Ray; never shown."""
    job_id: str | None
    """Of the tuning job, where it has one."""


async def apply_file(cluster: Cluster, path: Path, namespace: str) -> list[str]:
    """Apply every Workspace and ConfigMap of a file; a sentence for each. InputError for faults, before any write."""
    load_documents(path)
    done = []
    for manifest in _documents(path):
        metadata = {"namespace": namespace, **manifest["metadata"]}
        try:
            await cluster.apply({**manifest, "metadata": metadata})
        except AbsentError as error:
            known = manifest["kind"] != WORKSPACE.kind or "namespaces" in error.message
            raise InputError(error.message if known else NOT_INSTALLED) from error
        except DeniedError as error:
            raise InputError(error.message) from error
        done.append(f"{manifest['kind']} {metadata['name']} applied in namespace {metadata['namespace']}")
    return done


async def find_workspaces(cluster: Cluster, namespace: str, name: str | None) -> list[Manifest]:
    """All of a namespace, or one; InputError when that is not there."""
    try:
        found, _ = await cluster.list(WORKSPACE, namespace=namespace)
    except AbsentError as error:
        raise InputError(NOT_INSTALLED) from error
    chosen = [each for each in found if name in (None, each["metadata"]["name"])]
    if name is not None and not chosen:
        names = ", ".join(each["metadata"]["name"] for each in found) or "none"
        raise InputError(f"there is no Workspace {name} in namespace {namespace}; there are: {names}")
    return chosen


async def delete_workspace(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete it with all that it made; the adapter in the registry stays. InputError when it is not there."""
    await find_workspaces(cluster, namespace, name)
    await cluster.delete(Key(WORKSPACE, namespace, name))


async def find_head(cluster: Cluster, namespace: str, name: str) -> Head:
    """The head that works for a Workspace now: of its job while that is there, else of its service."""
    await find_workspaces(cluster, namespace, name)
    labels = {WORKSPACE_LABEL: name, ROLE_LABEL: "head"}
    pods, _ = await cluster.list(POD, namespace=namespace, labels=labels)
    jobs, _ = await cluster.list(RAY_JOB, namespace=namespace, labels={WORKSPACE_LABEL: name})
    services, _ = await cluster.list(RAY_SERVICE, namespace=namespace, labels={WORKSPACE_LABEL: name})
    clusters: list[tuple[str, str | None]] = [(_cluster_of(job), _job_id(job)) for job in jobs]
    clusters += [(_active(service), None) for service in services]
    for ray_cluster, job_id in clusters:
        for pod in pods:
            if ray_cluster and labels_of(pod).get("ray.io/cluster") == ray_cluster:
                secret = await cluster.get(Key(SECRET, namespace, ray_cluster))
                token = _decode((secret or {}).get("data") or {}, "auth_token")
                return Head(pod=Key(POD, namespace, pod["metadata"]["name"]), token=token, job_id=job_id)
    raise InputError(
        f"{name} has no Ray cluster now: a finished job's goes after ten minutes; `kairay status {name} --cluster`"
    )


def _documents(path: Path) -> list[Manifest]:
    found = [each for each in yaml.safe_load_all(path.read_text("utf-8")) if isinstance(each, dict)]
    return [each for each in found if each.get("kind") in (WORKSPACE.kind, "ConfigMap")]


def _cluster_of(job: Manifest) -> str:
    return str((job.get("status") or {}).get("rayClusterName") or "")


def _job_id(job: Manifest) -> str:
    return str((job.get("status") or {}).get("jobId") or "")


def _active(service: Manifest) -> str:
    status = service.get("status") or {}
    return str((status.get("activeServiceStatus") or {}).get("rayClusterName") or "")


def _decode(data: Mapping[str, Any], key: str) -> str:
    import base64

    return base64.b64decode(data.get(key, "")).decode()
