"""An error as Azure wrote it, and the pattern of one kind of error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kairay.nodes.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """An error as Azure wrote it."""

    code: str
    text: str = ""
    details: tuple[Complaint, ...] = ()
    status: int | None = None
    """HTTP's; None: it was found in a pool's status, or there was no answer."""
    retry_after: float | None = None
    """Seconds, from the header."""

    @classmethod
    def read(cls, said: Mapping[str, Any], *, default: str, status: int | None = None) -> Complaint:
        """From JSON: `{code, message, details}` in `error` or bare, or a login's `{error, error_description}`."""
        inner = said.get("error")
        if isinstance(inner, str):
            return cls(code=inner, text=str(said.get("error_description") or ""), status=status)
        said = inner if isinstance(inner, dict) else said
        details = said.get("details")
        return cls(
            code=str(said.get("code") or default),
            text=str(said.get("message") or ""),
            details=tuple(
                cls.read(each, default="")
                for each in (details if isinstance(details, list) else ())
                if isinstance(each, dict)
            ),
            status=status,
        )

    def inside_out(self) -> Iterator[Complaint]:
        """The details before what wraps them."""
        for each in self.details:
            yield from each.inside_out()
        yield self

    @property
    def codes(self) -> tuple[str, ...]:
        """Its code and those that its text quotes: `Code="AllocationFailed"`."""
        return (self.code, *re.findall(r"\bcode\W{1,4}(\w+)", self.text, re.IGNORECASE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Verdict):
    """One kind of error: it fits when one of its patterns is found. `facts_of` and `refusal_of` fill the message in."""

    title: str
    """In a few words, for docs/aks.md; what stands in quotes is Azure's."""
    code: str = ""
    """Regular expression for a whole code."""
    text: str = ""
    """Regular expression somewhere in the text, whatever the case."""
    status: str = ""
    """Regular expression for the whole HTTP status."""

    def fits(self, complaint: Complaint) -> bool:
        """Whether it is this error."""
        return (
            (bool(self.code) and any(re.fullmatch(self.code, code) for code in complaint.codes))
            or (
                bool(self.text)
                and re.search(self.text, complaint.text, re.IGNORECASE | re.DOTALL) is not None
            )
            or (bool(self.status) and re.fullmatch(self.status, str(complaint.status)) is not None)
        )
