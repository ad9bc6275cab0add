"""Observe a cluster for `kairay doctor`. Nothing is written, and what cannot be read becomes an Unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from kairay.cluster.findings import Unseen
from kairay.cluster.observed import (
    CONTROLLER,
    SYSTEM,
    TABLES,
    AzureSeen,
    KarpenterSeen,
    NodeClass,
    Objects,
    Observed,
)
from kairay.errors import InputError, KairayError
from kairay.kube.interface import Cluster, Right
from kairay.kube.objects import (
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    LEASE,
    NODE,
    NODE_POOL,
    SERVICE_ACCOUNT,
    STORAGE_CLASS,
    WORKSPACE,
    Key,
    Kind,
    Manifest,
    drop_bookkeeping,
)
from kairay.nodes.aks_settings import CLUSTER, GROUP, SUBSCRIPTION, read_aks_settings
from kairay.nodes.karpenter_settings import read_karpenter_settings
from kairay.prices import MOUNTED, PRICES_MAP, VARIABLE

APIS: Final = (WORKSPACE.api_version, "ray.io/v1")
_OURS: Final = ("KAIRAY_", "AZURE_")
_DENIED: Final = "Forbidden"

T = TypeVar("T")


async def observe(
    cluster: Cluster, *, server: str, namespace: str, environment: Mapping[str, str], now: datetime
) -> Observed:
    """Look at everything once; `namespace` is the one that Workspaces are meant for.

    Only this much where the API server does not answer at all.
    """
    version = await _try(_version(cluster))
    seen = Observed(server=server, now=now, version=version, settings=_ours(environment))
    if not seen.answers:
        return seen
    seen = await observe_for_plans(cluster, seen, environment)
    home, settings = seen.namespace, seen.settings
    wanted = () if seen.in_pod else rights_wanted(namespace)
    daemon_sets, classes = await asyncio.gather(_all(cluster, DAEMON_SET), _all(cluster, STORAGE_CLASS))
    seen = replace(
        seen,
        daemon_sets=daemon_sets,
        storage_classes=classes,
        resources={api: await _try(_resources(cluster, api)) for api in APIS},
        lease=await _try(cluster.get(Key(LEASE, home, CONTROLLER))),
        account=await _try(cluster.get(Key(SERVICE_ACCOUNT, home, CONTROLLER))),
        tables={name: await _try(_is_there(cluster, Key(CONFIG_MAP, home, name))) for name in TABLES},
        rights={right: await _try(cluster.may(right)) for right in wanted},
    )
    match seen.provider:
        case "aks":
            return replace(seen, azure=await _azure(settings, environment))
        case "karpenter":
            return replace(seen, karpenter=await _karpenter(cluster, settings))
    return seen


async def observe_for_plans(cluster: Cluster, seen: Observed, environment: Mapping[str, str]) -> Observed:
    """What was seen, and what the controller's plans are made from: its settings, its prices, the nodes."""
    deployments, nodes = await asyncio.gather(_all(cluster, DEPLOYMENT), _all(cluster, NODE))
    seen = replace(seen, deployments=deployments, nodes=nodes, in_pod=is_in_pod(environment))
    home = SYSTEM if seen.controller is None else str(seen.controller["metadata"]["namespace"])
    settings = await _settings(cluster, home, seen.controller, environment)
    prices = await _prices(cluster, home, settings, environment)
    return replace(seen, namespace=home, settings=settings, prices=prices)


def rights_wanted(namespace: str) -> tuple[Right, ...]:
    """What the commands of this tool need in a namespace."""
    ours = {"group": WORKSPACE.group, "resource": WORKSPACE.plural, "namespace": namespace}
    proxies = [
        Right(verb=verb, resource=resource, subresource="proxy", namespace=namespace)
        for resource in ("services", "pods")
        for verb in ("get", "create")
    ]
    return (
        *(Right(verb=verb, **ours) for verb in ("create", "patch", "list")),
        Right(verb="list", resource="pods", namespace=namespace),
        *proxies,
        Right(verb="get", resource="secrets", namespace=namespace),
    )


def is_in_pod(environment: Mapping[str, str]) -> bool:
    """The controller's pod, whose account and identity are Kairay's own, not a person's."""
    return "KUBERNETES_SERVICE_HOST" in environment and "KUBECONFIG" not in environment


async def _try(work: Awaitable[T]) -> T | Unseen:
    try:
        return await work
    except KairayError as error:
        return Unseen(why=error.message, denied=error.reason == _DENIED)


async def _all(cluster: Cluster, kind: Kind) -> Objects:
    found = await _try(cluster.list(kind, trim=drop_bookkeeping))
    return found if isinstance(found, Unseen) else tuple(found[0])


async def _version(cluster: Cluster) -> str:
    found = await cluster.discover("/version") or {}
    return str(found.get("gitVersion", "unknown"))


async def _resources(cluster: Cluster, api: str) -> frozenset[str]:
    found = await cluster.discover(f"/apis/{api}") or {}
    return frozenset(str(each["name"]) for each in found.get("resources") or ())


async def _is_there(cluster: Cluster, key: Key) -> bool:
    return await cluster.get(key) is not None


async def _settings(
    cluster: Cluster, home: str, controller: Manifest | None, environment: Mapping[str, str]
) -> dict[str, str]:
    """As the controller sees them: its own `env` before its ConfigMap; this machine's where it says nothing."""
    found = await _try(cluster.get(Key(CONFIG_MAP, home, CONTROLLER)))
    data = {} if found is None or isinstance(found, Unseen) else found.get("data") or {}
    return {**_ours(environment), **data, **_written(controller)}


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Kairay's variables here; a person's own price file is none of the controller's."""
    foreign = () if is_in_pod(environment) else (VARIABLE,)
    return {key: value for key, value in environment.items() if key.startswith(_OURS) and key not in foreign}


async def _prices(
    cluster: Cluster, home: str, settings: Mapping[str, str], environment: Mapping[str, str]
) -> str | Unseen | None:
    """As the file lies in the controller's pod, else out of the ConfigMap that is mounted there."""
    if is_in_pod(environment):
        path = Path(settings.get(VARIABLE) or MOUNTED)
        try:
            return path.read_text("utf-8") if path.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            return Unseen(why=f"{path} cannot be read: {error}")
    found = await _try(cluster.get(Key(CONFIG_MAP, home, PRICES_MAP)))
    return found if isinstance(found, Unseen) else ((found or {}).get("data") or {}).get(MOUNTED.name)


def _written(controller: Manifest | None) -> dict[str, str]:
    template = ((controller or {}).get("spec") or {}).get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or ()
    return {
        each["name"]: str(each["value"])
        for container in containers
        for each in container.get("env") or ()
        if "value" in each
    }


async def _azure(settings: Mapping[str, str], environment: Mapping[str, str]) -> AzureSeen | Unseen:
    try:
        found = read_aks_settings(settings)
    except InputError as error:
        return Unseen(why=error.message)
    if found is None:
        return Unseen(why=f"the provider aks needs {SUBSCRIPTION}, {GROUP} and {CLUSTER}; set them")
    try:
        from kairay.cluster.doctor_azure import observe_azure
    except ModuleNotFoundError as error:
        return Unseen(
            why=f"Azure's clients are not installed here ({error.name} is missing); install kairay[azure]"
        )
    return await observe_azure(found, environment)


async def _karpenter(cluster: Cluster, settings: Mapping[str, str]) -> KarpenterSeen | Unseen:
    try:
        named = read_karpenter_settings(settings)
    except InputError as error:
        return Unseen(why=error.message)
    wanted = NodeClass(group=named.node_class_group, kind=named.node_class_kind, name=named.node_class_name)
    return KarpenterSeen(
        pools=await _try(_resources(cluster, NODE_POOL.api_version)),
        wanted=wanted,
        node_class=await _try(_node_class(cluster, wanted)),
    )


async def _node_class(cluster: Cluster, wanted: NodeClass) -> Manifest | None:
    """Its version and plural are the server's to say."""
    group = await cluster.discover(f"/apis/{wanted.group}")
    api = ((group or {}).get("preferredVersion") or {}).get("groupVersion")
    listed = await cluster.discover(f"/apis/{api}") if api else None
    for each in (listed or {}).get("resources") or ():
        if each.get("kind") == wanted.kind and "/" not in each["name"]:
            kind = Kind(str(api), wanted.kind, str(each["name"]), namespaced=False)
            return await cluster.get(Key(kind, "", wanted.name))
    return None
