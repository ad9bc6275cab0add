"""Failures that a test asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.errors import ArmError, error_body


@dataclass(kw_only=True)
class Fault:
    """One failure: of a call at once, or of the operation that the call began."""

    code: str
    message: str = "injected"
    status: int = 409
    """HTTP's, for a call."""
    operation: bool = False
    """The call is accepted and its operation fails; ARM wraps the code in ReconcileVMSSAgentPoolFailed."""
    call: str = "PUT pool"
    """As in the log; empty: any."""
    size: str | None = None
    spot: bool | None = None
    zone: str | None = None
    pool: str | None = None
    times: int | None = None
    """Then it is over; None: always."""
    retry_after: int | None = None
    wrapped: bool = True
    """In `{"error": …}`, as nearly all are."""
    details: tuple[Mapping[str, Any], ...] = ()
    arrive: int = 0
    """Machines that come although the operation fails."""

    def fits(self, call: str, pool: str | None, properties: Mapping[str, Any]) -> bool:
        """Whether it strikes this call; properties are those of the pool as it would be."""
        if self.times == 0 or (self.call and self.call != call):
            return False
        wants = (
            (self.pool, pool),
            (self.size, properties.get("vmSize")),
            (self.spot, properties.get("scaleSetPriority") == "Spot"),
        )
        zones = properties.get("availabilityZones") or ()
        return all(want in (None, has) for want, has in wants) and (self.zone is None or self.zone in zones)

    def strike(self) -> Fault:
        """Count it."""
        if self.times is not None:
            self.times -= 1
        return self

    def as_call(self) -> ArmError:
        """The answer."""
        return ArmError(
            self.status,
            self.code,
            self.message,
            details=self.details,
            retry_after=self.retry_after,
            wrapped=self.wrapped,
        )

    def as_operation(self) -> dict[str, Any]:
        """The error of the operation, and of the pool's status afterwards."""
        inner = error_body(self.code, self.message, self.details)
        if self.code == "ReconcileVMSSAgentPoolFailed":
            return inner
        said = f'VMSSAgentPoolReconciler retry failed: Code="{self.code}"'
        return error_body("ReconcileVMSSAgentPoolFailed", said, [inner])
