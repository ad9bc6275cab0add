"""One controller at a time: a Lease that the leader renews and another takes over when it is not renewed.

As client-go's leader election, with its proportions: whoever holds the Lease gives up writing before anybody
else may take it. Clocks of two machines are never compared: a candidate waits for `LEASE_SECONDS` during which it has
not seen the Lease change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from kairay.errors import KairayError, TransientError
from kairay.kube.errors import AbsentError
from kairay.kube.interface import Cluster
from kairay.kube.objects import LEASE, Key, Manifest

LEASE_SECONDS = 15.0
PATIENCE_SECONDS = 12.0
"""Without a renewal for this long a leader is none any more; counted from when the renewal was sent, so that 3 s
remain to end in. It leaves an API server that is starved of processors 7 s for an answer."""
RENEW_SECONDS = 5.0
RETRY_SECONDS = 2.0
NAME = "kairay-controller"


class LeadershipLostError(KairayError):
    """Somebody else may be writing: end at once."""

    reason = "LeadershipLost"


@dataclass(slots=True, kw_only=True)
class Elector:
    """One candidate. `now` is a steady clock in seconds."""

    cluster: Cluster
    namespace: str
    identity: str
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _seen: tuple[str, str] = ("", "")
    _seen_at: float = 0.0
    _renewed_at: float = 0.0
    _trouble: str = "another candidate holds it"

    async def win(self) -> None:
        """Return when we lead."""
        while not await self._try(PATIENCE_SECONDS):
            await self.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Renew until LeadershipLostError."""
        wait = RENEW_SECONDS
        while (left := self._renewed_at + PATIENCE_SECONDS - self.now()) > 0:
            await self.sleep(min(wait, left))
            left = self._renewed_at + PATIENCE_SECONDS - self.now()
            wait = RENEW_SECONDS if left > 0 and await self._try(left) else RETRY_SECONDS
        raise LeadershipLostError(
            f"the Lease could not be renewed for {PATIENCE_SECONDS:.0f} s ({self._trouble}); "
            "another controller takes over"
        )

    async def release(self) -> None:
        """Let the next one take over at once; without an answer it waits until the Lease has expired."""
        with suppress(TransientError, AbsentError, TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                lease = await self._get()
                if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _stamp()}
                    await self.cluster.replace(lease)

    async def _try(self, patience: float) -> bool:
        """Take or renew the Lease; False when another has it or the API server does not answer in time."""
        sent = self.now()
        try:
            # A call that hangs must not outlive the Lease.
            async with asyncio.timeout(patience):
                taken = await self._take()
        except TimeoutError:
            self._trouble = f"no answer for {patience:.1f} s"
            return False
        except (TransientError, AbsentError) as error:
            self._trouble = error.message
            return False
        if taken:
            self._renewed_at = sent
        return taken

    async def _take(self) -> bool:
        lease = await self._get()
        if lease is None:
            await self.cluster.create(self._lease())
            return True
        holder = str(lease["spec"].get("holderIdentity") or "")
        if holder and holder != self.identity and not self._has_expired(lease):
            return False
        # The resourceVersion decides between two who try.
        await self.cluster.replace(self._renewed(lease, holder))
        return True

    def _has_expired(self, lease: Manifest) -> bool:
        spec = lease["spec"]
        seen = (str(spec.get("holderIdentity")), str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self.now()
            return False
        return self.now() - self._seen_at > float(spec.get("leaseDurationSeconds", LEASE_SECONDS))

    async def _get(self) -> Manifest | None:
        return await self.cluster.get(Key(LEASE, self.namespace, NAME))

    def _lease(self) -> Manifest:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": NAME, "namespace": self.namespace},
            "spec": {
                "holderIdentity": self.identity, "leaseDurationSeconds": int(LEASE_SECONDS),
                "acquireTime": _stamp(), "renewTime": _stamp(), "leaseTransitions": 0,
            },
        }  # fmt: skip

    def _renewed(self, lease: Manifest, holder: str) -> Manifest:
        spec = {**lease["spec"], "leaseDurationSeconds": int(LEASE_SECONDS), "renewTime": _stamp()}
        if holder != self.identity:
            changes = int(spec.get("leaseTransitions") or 0) + 1
            spec |= {"holderIdentity": self.identity, "acquireTime": _stamp(), "leaseTransitions": changes}
        return {**lease, "apiVersion": LEASE.api_version, "kind": LEASE.kind, "spec": spec}


def _stamp() -> str:
    """A MicroTime, for people: nobody's clock is compared with it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
