"""AKS's token buckets, as its documentation gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from simulator.clock import Clock
from simulator.errors import ArmError

# (burst, tokens per second); PUT counts per pool, the rest per subscription.
LIMITS = {
    "PUT pool": (20.0, 1 / 60),
    "GET cluster": (60.0, 1.0),
    "GET operation": (200.0, 2.0),
}
OTHER = (60.0, 1.0)


@dataclass(kw_only=True)
class Buckets:
    """What may still be asked."""

    clock: Clock
    limits: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(LIMITS))
    _levels: dict[tuple[str, str | None], tuple[float, float]] = field(default_factory=dict)

    def take(self, call: str, pool: str | None) -> None:
        """One token; ArmError 429 with the seconds until there is one."""
        key = (call, pool) if call == "PUT pool" else (call if call in self.limits else "", None)
        burst, refill = self.limits.get(call, OTHER)
        now = self.clock.now()
        level, then = self._levels.get(key, (burst, now))
        level = min(burst, level + (now - then) * refill)
        if level < 1:
            self._levels[key] = (level, now)
            raise ArmError(
                429,
                "Throttled",
                "The request is throttled. Please retry after the time that Retry-After gives.",
                retry_after=math.ceil((1 - level) / refill),
            )
        self._levels[key] = (level - 1, now)
