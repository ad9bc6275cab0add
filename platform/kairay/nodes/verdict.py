"""What one kind of a cloud's errors means, however a provider's table recognises it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kairay.nodes.interface import Refusal, RefusalKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The half of a table's row that says what follows; the provider's own row adds when it fits."""

    kind: RefusalKind
    avoid: float = 0.0
    """Seconds until the offer is worth another try."""
    avoid_spot: float | None = None
    """The same for spot machines, where it differs."""
    retry: float = 0.0
    """Seconds until the same call is, where the cloud does not say."""
    message: str
    """With the remedy; words in braces are filled in by the provider: {size}, {said} and others."""

    def refusal(
        self, code: str, facts: Mapping[str, object], *, spot: bool, retry_after: float | None = None
    ) -> Refusal:
        """For one error: its code, what fills the message, and the seconds that the cloud itself asked for."""
        differs = spot and self.avoid_spot is not None
        return Refusal(
            kind=self.kind,
            code=code,
            message=self.message.format(**facts),
            avoid_seconds=(self.avoid_spot or 0.0) if differs else self.avoid,
            retry_after=self.retry if retry_after is None else retry_after,
        )
