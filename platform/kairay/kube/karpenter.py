"""GPU nodes from Karpenter: Azure's node auto-provisioning, AWS, or any other that is built on Karpenter's core.

Kairay writes one NodePool for each offer of a group and sets how many nodes it may have; Karpenter looks at pods that
wait and brings and removes nodes itself. So every pool has bounds, and nodes need not be removed by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.kube.errors import AbsentError, ConflictError, DeniedError
from kairay.kube.interface import Cluster
from kairay.kube.objects import EVENT, NODE_CLAIM, NODE_POOL, Key, Manifest, uid_of
from kairay.nodes.interface import Offer, Pool, PoolSpec, Quota, Refusal, RefusalKind, RefusedError
from kairay.nodes.karpenter_complaints import FAILED_EVENTS
from kairay.nodes.karpenter_pools import (
    POOL_OF_NODE,
    claims_of,
    generation_of,
    owner,
    read_pools,
    with_limit,
    write_pool,
)
from kairay.nodes.karpenter_settings import KarpenterSettings
from kairay.skus import Sku, find_sku

_EVENTS_OF_CLUSTER: Final = "default"
"""Where events about objects without a namespace are."""
_FORBIDDEN: Final = "Forbidden"


class KarpenterProvider:
    """NodeProvider for a cluster that Karpenter serves. It holds nothing but its arguments."""

    def __init__(
        self,
        cluster: Cluster,
        settings: KarpenterSettings,
        *,
        skus: Mapping[str, Sku],
        idle_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        """`idle_seconds`: an empty node stays so long; Karpenter counts them."""
        self._cluster, self._settings, self._skus = cluster, settings, skus
        self._idle_seconds, self._now = idle_seconds, now

    async def pools(self) -> tuple[Pool, ...]:
        """All NodePools, by name: a list of them, of their NodeClaims and, where nodes may be missing, of events."""
        with _refusals():
            bodies, _ = await self._cluster.list(NODE_POOL)
            claims, _ = await self._cluster.list(NODE_CLAIM)
            pools = read_pools(bodies, claims, (), self._now())
            if not any(pool.group is not None and not _is_full(pool) for pool in pools):
                return pools
            events, _ = await self._cluster.list(EVENT, namespace=_EVENTS_OF_CLUSTER, trim=_trim_event)
            return read_pools(bodies, claims, events, self._now())

    async def ensure(self, spec: PoolSpec, count: int) -> None:
        """Make the NodePool, with room for `count` nodes."""
        size = find_sku(spec.offer.instance_type, self._skus)
        body = write_pool(spec, count, size, self._settings, self._idle_seconds)
        with _refusals(
            f"NodePool {spec.name} is there already; it is read again, and if it is not Kairay's it must be deleted"
        ):
            await self._cluster.create(body)

    async def scale(self, pool: Pool, count: int) -> None:
        """Raise the limit to `count` nodes; a higher one stays."""
        with _refusals(_changed(pool)):
            body = await self._current(pool)
            if body is None:
                raise _refused(RefusalKind.GONE, "NotFound", f"NodePool {pool.name} was deleted")
            if (raised := with_limit(body, count)) is not None:
                await self._cluster.replace(raised)

    async def remove(self, pool: Pool, nodes: Iterable[str]) -> None:
        """Delete the NodeClaims of these nodes; Karpenter drains them. The limit stays, since it is no count."""
        names = frozenset(nodes)
        with _refusals(_changed(pool)):
            _own(pool, pool.group)
            for claim in await self._claims(pool):
                if (claim.get("status") or {}).get("nodeName") in names:
                    await self._cluster.delete(_key_of_claim(claim), uid=uid_of(claim))

    async def delete(self, pool: Pool) -> None:
        """Delete the NodePool, unless it has got a node meanwhile: deleting it would drain that."""
        with _refusals(_changed(pool)):
            body = await self._current(pool)
            if body is None:
                return
            if claims := claims_of(pool.name, await self._claims(pool)):
                raise _refused(
                    RefusalKind.CONFLICT, "PoolNotEmpty",
                    f"NodePool {pool.name} has {len(claims)} node(s), which would go with it; it is read again",
                )  # fmt: skip
            await self._cluster.delete(Key(NODE_POOL, "", pool.name), uid=uid_of(body))

    async def quota(self, offers: Iterable[Offer]) -> Mapping[Offer, Quota]:
        """Nothing: Karpenter does not tell what may still be had."""
        return {}

    async def _claims(self, pool: Pool) -> list[Manifest]:
        claims, _ = await self._cluster.list(NODE_CLAIM, labels={POOL_OF_NODE: pool.name})
        return claims

    async def _current(self, pool: Pool) -> Manifest | None:
        """The NodePool as it was read, or None; RefusedError when it was written since or is not ours."""
        _own(pool, pool.group)
        body = await self._cluster.get(Key(NODE_POOL, "", pool.name))
        if body is None:
            return None
        _own(pool, owner(body))
        if body["metadata"].get("generation", 0) != generation_of(pool.version) or owner(body) != pool.group:
            raise _refused(RefusalKind.CONFLICT, "Conflict", _changed(pool))
        return body


@contextmanager
def _refusals(conflict: str = "") -> Iterator[None]:
    """Inside, every error of the API server becomes a RefusedError; `conflict` is the sentence for a 409."""
    try:
        yield
    except RefusedError:
        raise
    except ConflictError as error:
        raise _refused(RefusalKind.CONFLICT, error.reason, conflict or error.message, 1.0) from error
    except AbsentError as error:
        raise _refused(
            RefusalKind.UNAVAILABLE, "KarpenterMissing",
            "Karpenter is not installed: the cluster has no NodePools (karpenter.sh/v1); turn node auto-provisioning "
            "on, or install Karpenter, or choose another provider of nodes (docs/karpenter.md)", 60.0,
        ) from error  # fmt: skip
    except TransientError as error:
        raise _refused(
            RefusalKind.UNAVAILABLE, error.reason, f"the API server: {error.message}", error.retry_after
        ) from error
    except InputError as error:
        raise _refused(
            RefusalKind.INVALID, error.reason, f"the API server refuses {error.message}"
        ) from error
    except DeniedError as error:
        raise _refused(
            RefusalKind.POLICY, error.reason, f"a rule of the cluster forbids it: {error.message}"
        ) from error
    except KairayError as error:
        denied = isinstance(error, HostError) or error.reason == _FORBIDDEN
        kind = RefusalKind.DENIED if denied else RefusalKind.UNAVAILABLE
        raise _refused(kind, error.reason, f"the API server: {error.message}") from error


def _refused(kind: RefusalKind, code: str, message: str, retry_after: float = 0.0) -> RefusedError:
    return RefusedError(Refusal(kind=kind, code=code, message=message, retry_after=retry_after))


def _own(pool: Pool, group: str | None) -> None:
    if group is None:
        raise _refused(
            RefusalKind.INVALID, "ForeignPool",
            f"NodePool {pool.name} is not Kairay's (no labels of its own); it is left alone",
        )  # fmt: skip


def _changed(pool: Pool) -> str:
    return f"NodePool {pool.name} was changed since it was listed; it is read again"


def _is_full(pool: Pool) -> bool:
    return pool.bounds is not None and pool.count >= pool.bounds[1]


def _key_of_claim(claim: Manifest) -> Key:
    return Key(NODE_CLAIM, "", claim["metadata"]["name"])


def _trim_event(event: Manifest) -> Manifest:
    """What is read of an event; nothing of those that are about something else."""
    if event.get("reason") not in FAILED_EVENTS:
        return {"metadata": {}}
    return {
        "metadata": {"creationTimestamp": event["metadata"].get("creationTimestamp")},
        "involvedObject": event.get("involvedObject"),
        "reason": event["reason"],
        "message": event.get("message"),
        "lastTimestamp": event.get("lastTimestamp"),
        "eventTime": event.get("eventTime"),
    }
