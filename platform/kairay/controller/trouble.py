"""A sentence about what holds a pod, what it is about, and how somebody else's words fit into it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kairay.controller.conditions import Reason

MOST_WORDS: Final = 160
"""Characters of somebody else's sentence, so that the remedy has room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which pod it is."""

    namespace: str
    pod: str
    role: str
    """`head` or `worker` of Ray; empty: of the user's own template."""
    own_claim: str
    """The claim that Kairay makes for its Workspace."""
    in_pool: bool
    """Kairay brings its node, and ResourceReady says how far that is."""

    def kubectl(self, rest: str) -> str:
        """A command in the pod's namespace."""
        return f"kubectl -n {self.namespace} {rest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A sentence, and of which kind it is."""

    reason: Reason | None
    """None: it only takes time."""
    message: str
    vague: bool = False
    """It only says that something is late; another says why."""


def shorten(text: str, most: int = MOST_WORDS) -> str:
    """One line, without what changes from one try to the next, cut with an ellipsis."""
    line = " ".join(text.split())
    for pattern, instead in _CHANGES:
        line = re.sub(pattern, instead, line)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


_CHANGES: Final[Sequence[tuple[str, str]]] = (
    (r'^Back-off pulling image "[^"]+": (?:\w+: )?', ""),
    (r'^Failed to pull image "[^"]+": ', ""),
    (r"rpc error: code = \w+ desc = ", ""),
    (r' for sandbox "[0-9a-f]{12,}"', ""),
    (r"\b[0-9a-f]{32,}\b", "…"),
    (r"\b(?:\d{1,3}\.){3}\d{1,3}:\d+->", ""),
    (r"back-off \S+ restarting", "restarting"),
)
