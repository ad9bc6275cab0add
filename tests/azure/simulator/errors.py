"""An answer of ARM that is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ArmError(Exception):
    """Status and body of a refusal."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        retry_after: int | None = None,
        wrapped: bool = True,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.retry_after = status, code, retry_after
        error = error_body(code, message, details)
        self.body: dict[str, Any] = {"error": error} if wrapped else error


def error_body(code: str, message: str, details: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Azure's error object."""
    body: dict[str, Any] = {"code": code, "message": message}
    return {**body, "details": [dict(each) for each in details]} if details else body
