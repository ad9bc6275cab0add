"""Observe an AKS cluster and its region's quota for `kairay doctor`, by reads only.

It asks as whoever runs it: a person's `az login`, or the controller's identity when it runs in its pod. Rights to
write cannot be tried without writing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from azure.mgmt.containerservice.aio import ContainerServiceClient

from kairay.cluster.doctor import is_in_pod
from kairay.cluster.findings import Unseen
from kairay.cluster.observed import AzureSeen
from kairay.nodes.aks_client import get_pages, open_client, refusals
from kairay.nodes.aks_login import open_credential
from kairay.nodes.aks_quota import SKUS_VERSION, USAGES_VERSION, Market, read_sizes, read_usages
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import RefusalKind, RefusedError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_WORDS: Final = (
    ("Kairay's identity", "the login that was used"),
    ("it is asked again", "try again"),
    ("; assign the role of docs/aks.md to it on the cluster", "; docs/aks.md has the role for the cluster"),
)
"""The catalogue of refusals speaks for the controller, which waits and asks again; here somebody looks once."""
T = TypeVar("T")
Open = Callable[[AksSettings, Mapping[str, str]], "AsyncTokenCredential | None"]


async def observe_azure(
    settings: AksSettings, environment: Mapping[str, str], *, open_login: Open = open_credential
) -> AzureSeen:
    """Login, cluster, pools, usage counters and sizes; without a login nothing else is asked."""
    in_pod = is_in_pod(environment)
    credential = open_login(settings, environment)
    try:
        login = await _login(settings, credential)
        if isinstance(login, Unseen):
            nothing = Unseen(why="there is no login to Azure", denied=True)
            return AzureSeen(
                settings=settings, in_pod=in_pod, login=login, cluster=nothing, pools=nothing, market=Market(),
                usages=nothing, sizes=nothing,
            )  # fmt: skip
        async with open_client(settings, credential) as client:
            return await _look(client, settings, login, in_pod=in_pod)
    finally:
        if credential is not None:
            await credential.close()


async def _login(settings: AksSettings, credential: AsyncTokenCredential | None) -> str | Unseen:
    if credential is None:
        return f"{settings.endpoint} is asked without a login"

    async def ask() -> str:
        with refusals():
            await credential.get_token(f"{settings.endpoint}/.default")
        return "a token was given"

    return await _try(ask())


async def _look(
    client: ContainerServiceClient, settings: AksSettings, login: str, *, in_pod: bool
) -> AzureSeen:
    names = (settings.resource_group, settings.cluster)
    cluster = await _try(_cluster(client, names))
    pools = await _try(_pools(client, names))
    region = settings.location
    if region is None and not isinstance(cluster, Unseen):
        region = str(cluster.get("location") or "")
    usages: dict[str, Any] | Unseen = Unseen(why="the cluster's region is not known")
    sizes: dict[str, Any] | Unseen = usages
    if region:
        compute = f"/subscriptions/{settings.subscription}/providers/Microsoft.Compute"
        usages = await _try(_usages(client, f"{compute}/locations/{region}/usages"))
        sizes = await _try(_sizes(client, f"{compute}/skus", region))
    return AzureSeen(
        settings=settings,
        in_pod=in_pod,
        login=login,
        cluster=cluster,
        pools=pools,
        market=Market(
            usages={} if isinstance(usages, Unseen) else usages,
            sizes={} if isinstance(sizes, Unseen) else sizes,
        ),
        usages=usages if isinstance(usages, Unseen) else None,
        sizes=sizes if isinstance(sizes, Unseen) else None,
    )


async def _cluster(client: ContainerServiceClient, names: tuple[str, str]) -> dict[str, Any]:
    with refusals():
        return dict((await client.managed_clusters.get(*names)).as_dict())


async def _pools(client: ContainerServiceClient, names: tuple[str, str]) -> tuple[dict[str, Any], ...]:
    with refusals():
        return tuple([dict(pool.as_dict()) async for pool in client.agent_pools.list(*names)])


async def _usages(client: ContainerServiceClient, path: str) -> dict[str, Any]:
    return dict(read_usages(await get_pages(client, f"{path}?api-version={USAGES_VERSION}")))


async def _sizes(client: ContainerServiceClient, path: str, region: str) -> dict[str, Any]:
    url = f"{path}?api-version={SKUS_VERSION}&$filter=location eq '{region}'"
    return dict(read_sizes(await get_pages(client, url), region))


async def _try(work: Awaitable[T]) -> T | Unseen:
    try:
        return await work
    except RefusedError as error:
        why = error.refusal.message
        for theirs, ours in _WORDS:
            why = why.replace(theirs, ours)
        return Unseen(why=why, denied=error.refusal.kind is RefusalKind.DENIED)
