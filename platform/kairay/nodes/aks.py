"""GPU nodes from AKS agent pools: one pool per offer of a group, changed in single writes that nobody waits for.

The pool itself is the record. A write returns when AKS accepted it; the next `pools` shows how it goes on, and why it
failed, so a restart forgets nothing. Changes carry the ETag of the listing that they were decided on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from azure.core import MatchConditions
from azure.mgmt.containerservice import models

from kairay.nodes.aks_client import get_pages, open_client, refusals
from kairay.nodes.aks_complaint import Complaint
from kairay.nodes.aks_pools import AgentPool, Network, network_of, owner, read_pool, with_count, write_pool
from kairay.nodes.aks_quota import Quotas
from kairay.nodes.aks_refusals import refusal_of
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import Offer, Pool, PoolSpec, Quota, Refusal, RefusalKind, RefusedError
from kairay.skus import Sku, find_sku

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.policies import SansIOHTTPPolicy

_NO_SUCH_MACHINES = re.compile("cannot find any valid machines to delete", re.IGNORECASE)


class AksProvider:
    """NodeProvider for one AKS cluster; use it in `async with`, which closes its connections and its credential."""

    def __init__(
        self,
        settings: AksSettings,
        credential: AsyncTokenCredential | None,
        *,
        skus: Mapping[str, Sku],
        now: Callable[[], float] = time.monotonic,
        authentication: SansIOHTTPPolicy[Any, Any] | None = None,
    ) -> None:
        self._settings, self._credential, self._skus = settings, credential, skus
        self._client = open_client(settings, credential, authentication)
        self._cluster = (settings.resource_group, settings.cluster)
        self._quotas = Quotas(settings.subscription, lambda url: get_pages(self._client, url), now)
        self._location = settings.location
        self._listed: dict[str, AgentPool] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        if self._credential is not None:
            await self._credential.close()

    async def pools(self) -> tuple[Pool, ...]:
        """All agent pools, by name."""
        with refusals():
            bodies = [pool.as_dict() async for pool in self._client.agent_pools.list(*self._cluster)]
        self._listed = {body["name"]: body for body in bodies}
        return tuple(read_pool(body) for _, body in sorted(self._listed.items()))

    async def ensure(self, spec: PoolSpec, count: int) -> None:
        """Make the pool; AKS itself refuses one whose name is taken."""
        network = Network(nodes=self._settings.subnet) if self._settings.subnet else network_of(self._listed)
        body = write_pool(spec, count, find_sku(spec.offer.instance_type, self._skus), network)
        try:
            await self._put(spec.name, body, spec.offer, match_condition=MatchConditions.IfMissing)
        except RefusedError as error:
            if error.refusal.kind is RefusalKind.CONFLICT:
                raise RefusedError(self._taken(spec)) from error
            raise

    async def scale(self, pool: Pool, count: int) -> None:
        """Write the pool as it was listed, with the new count or, where an autoscaler decides, the new upper bound."""
        changed = with_count(await self._current(pool), count)
        if changed is not None:
            await self._put(
                pool.name,
                changed,
                pool.offer,
                etag=pool.version,
                match_condition=MatchConditions.IfNotModified,
            )

    async def remove(self, pool: Pool, nodes: Iterable[str]) -> None:
        """Delete machines by name; AKS lowers the count itself."""
        _own(pool)
        names = sorted(set(nodes))
        if not names:
            return
        with refusals(pool.offer, unless=_machines_gone):
            await self._client.agent_pools.begin_delete_machines(
                *self._cluster, pool.name, {"machineNames": names}, polling=False
            )
        self._listed.pop(pool.name, None)

    async def delete(self, pool: Pool) -> None:
        """Delete the pool as it was listed."""
        _own(pool)
        with refusals(pool.offer, unless=_pool_gone):
            await self._client.agent_pools.begin_delete(
                *self._cluster,
                pool.name,
                etag=pool.version,
                match_condition=MatchConditions.IfNotModified,
                polling=False,
            )
        self._listed.pop(pool.name, None)

    async def quota(self, offers: Iterable[Offer]) -> Mapping[Offer, Quota]:
        """Usage counters and restrictions of the cluster's region."""
        return await self._quotas.of(offers, self._region, self._skus)

    async def _region(self) -> str:
        if self._location is None:
            with refusals():
                self._location = str((await self._client.managed_clusters.get(*self._cluster)).location)
        return self._location

    async def _current(self, pool: Pool) -> AgentPool:
        """The body that `pool` was read from; read again when another listing has come in between."""
        _own(pool)
        body = self._listed.get(pool.name)
        if body is None or read_pool(body).version != pool.version:
            with refusals(pool.offer):
                body = (await self._client.agent_pools.get(*self._cluster, pool.name)).as_dict()
        if read_pool(body).version != pool.version or owner(body) != pool.group:
            raise RefusedError(_changed(pool))
        return body

    async def _put(self, name: str, body: AgentPool, offer: Offer, **condition: Any) -> None:
        """One write, answered when it is accepted. What AKS alone may set is left out by the SDK's model."""
        with refusals(offer):
            await self._client.agent_pools.begin_create_or_update(
                *self._cluster, name, models.AgentPool(body), polling=False, **condition
            )
        self._listed.pop(name, None)

    def _taken(self, spec: PoolSpec) -> Refusal:
        body = self._listed.get(spec.name)
        whose = "somebody else's" if body is None or owner(body) is None else f"of group {owner(body)}"
        if body is not None and owner(body) == spec.group.name:
            whose = "ours"
        return Refusal(
            kind=RefusalKind.CONFLICT,
            code="PoolExists",
            message=f"the cluster has an agent pool {spec.name} already, {whose}; it is read again, and if it is "
            "not Kairay's it must be deleted or Kairay's group named differently",
        )


def _own(pool: Pool) -> None:
    if pool.group is None:
        raise RefusedError(
            Refusal(
                kind=RefusalKind.INVALID,
                code="ForeignPool",
                message=f"agent pool {pool.name} is not Kairay's (no label and tag of its own); it is left alone",
            )
        )


def _changed(pool: Pool) -> Refusal:
    return Refusal(
        kind=RefusalKind.CONFLICT,
        code="PoolChanged",
        message=f"agent pool {pool.name} was changed since it was listed; it is read again",
    )


def _pool_gone(complaint: Complaint) -> bool:
    return refusal_of(complaint).kind is RefusalKind.GONE


def _machines_gone(complaint: Complaint) -> bool:
    return _NO_SUCH_MACHINES.search(complaint.text) is not None or _pool_gone(complaint)
