"""The figures and names in Azure's sentences: how much of which quota, which permission is missing."""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 240
"""Characters of Azure's own words in a condition's message."""

_FAMILY: Final = (
    r"approved (?P<it>.+?) Cores quota",
    r"for family (?P<it>\S+?) (?:for|in) region",
    r"quota for (?P<it>\S+Family)",
)
_REGION: Final = (r"Location: (?P<it>\w+)", r"for (?:region|location) (?P<it>\w+)")
_LIMIT: Final = (r"Current Limit: (?P<it>\d+)", r"Maximum allowed: (?P<it>\d+)")
_USED: Final = (r"Current Usage: (?P<it>\d+)", r"Current in use: (?P<it>\d+)")
_WANTED: Final = (
    r"Additional Required: (?P<it>\d+)",
    r"Additional requested: (?P<it>\d+)",
    r"requested(?: quota)? (?P<it>\d+)",
)
_LEFT: Final = (r"remaining (?P<it>\d+)", r"left regional vcpu quota (?P<it>\d+)")
# A linked refusal first names the action that is allowed, then the one that is not.
_ACTION: Final = (
    r"does not have[^;]*perform action(?:\(s\))? '(?P<it>[^']+)'",
    r"perform action(?:\(s\))? '(?P<it>[^']+)'",
)
_NAMESPACE: Final = (r"namespace '?(?P<it>Microsoft\.\w+)",)


def facts_of(text: str) -> dict[str, str]:
    """What a catalogue message may name; a word that fits where the text does not say."""
    return {
        "family": _find(_FAMILY, text) or "the size's family",
        "figures": _figures(text),
        "ask": "ask for more under Quotas > Compute in the Azure portal",
        "action": _find(_ACTION, text) or "a permission",
        "namespace": _find(_NAMESPACE, text) or "Microsoft.ContainerService",
    }


def first_sentence(text: str) -> str:
    """Azure's words without line breaks, up to the first full stop or a bearable length."""
    line = " ".join(text.split())
    sentence = re.split(r"(?<=[a-z)'\"]{2})\. (?=[A-Z])", line, maxsplit=1)[0].rstrip(".")
    return sentence if len(sentence) <= _LONGEST else sentence[: _LONGEST - 1].rstrip() + "…"


def _figures(text: str) -> str:
    """`: 96 of 100 vCPUs are used and 64 more are needed in eastus`, with as much of it as the text says."""
    used, limit, wanted, left = (_find(each, text) for each in (_USED, _LIMIT, _WANTED, _LEFT))
    region = _find(_REGION, text)
    parts = [
        f"{used} of {limit} vCPUs are used" if used and limit else None,
        f"{left} vCPUs are left" if left else None,
        f"{wanted}{' more' if used else ''} are needed" if wanted else None,
    ]
    said = " and ".join(part for part in parts if part)
    return f" ({said}{f' in {region}' if region else ''})" if said else ""


def _find(patterns: tuple[str, ...], text: str) -> str | None:
    found = (re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
    return next((match["it"] for match in found if match), None)
