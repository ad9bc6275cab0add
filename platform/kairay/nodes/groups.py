"""Which nodes belong together: names of groups and pools, whose they are, and one group for several Workspaces.

Names are hashes, since an AKS pool's name has 12 characters and a Workspace's does not fit. All hashes of a kind have
one length, so that no name is another's beginning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

from kairay.nodes.interface import POOL_NAME_LIMIT, NodeGroup, Offer

POOL_PREFIX: Final = "kw"
"""A pool's name begins with a letter, and people see whose it is."""

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_HASH_CHARACTERS: Final = POOL_NAME_LIMIT - len(POOL_PREFIX)
"""51 bits: among 5,000 names (as many as AKS allows nodes) two are alike once in 290 million clusters."""


class Sharing(StrEnum):
    """Who may use one another's nodes."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    WORKSPACE = "workspace"


def tenant_of(sharing: Sharing, namespace: str, workspace: str) -> str:
    """`NodeGroup.tenant` of a Workspace."""
    table = {Sharing.CLUSTER: "", Sharing.NAMESPACE: namespace, Sharing.WORKSPACE: f"{namespace}/{workspace}"}
    return table[sharing]


def group_name(
    *, tenant: str, primary: Offer, image_family: str | None = None, labels: Mapping[str, str] | None = None,
    mig: str | None = None,
) -> str:  # fmt: skip
    """A group's name: ten characters of what makes nodes usable for the same pods.

    Offers that may stand in for the first do not count: Workspaces that differ in them share the group.
    """
    parts = [tenant, primary.instance_type, primary.spot, image_family or "", sorted((labels or {}).items())]
    # Names of groups of whole GPUs are older than slices.
    return _hashed(parts if mig is None else [*parts, mig])


def pool_name(group: str, offer: Offer) -> str:
    """The provider's pool for one offer of a group, within AKS' `[a-z][a-z0-9]{0,11}`."""
    return POOL_PREFIX + _hashed([group, offer.instance_type, offer.spot])


def is_below(key: str, domains: Iterable[str]) -> bool:
    """Whether a label's prefix is one of these domains, or part of one."""
    prefix, slash, _ = key.partition("/")
    return bool(slash) and any(prefix == each or prefix.endswith(f".{each}") for each in domains)


def merge_groups(groups: Iterable[NodeGroup]) -> dict[str, NodeGroup]:
    """One group for each name, whatever the order in which they come.

    Only offers that all of its Workspaces accept are left, since any of their pods may land on any of its nodes;
    they are in the order of the sum of their places, then by name.
    """
    by_name: dict[str, list[NodeGroup]] = {}
    for group in groups:
        by_name.setdefault(group.name, []).append(group)
    return {name: _merged(by_name[name]) for name in sorted(by_name)}


def _merged(groups: list[NodeGroup]) -> NodeGroup:
    first = groups[0]
    common = set(first.offers).intersection(*(group.offers for group in groups))
    offers = sorted(common, key=lambda offer: (sum(group.offers.index(offer) for group in groups), offer))
    sizes = {key: count for group in groups for key, count in group.gpus_per_node.items()}
    kept = {offer.instance_type: sizes[offer.instance_type] for offer in sorted(offers)}
    return replace(first, offers=tuple(offers), gpus_per_node=kept)


def _hashed(parts: list[object]) -> str:
    number = int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest())
    digits = []
    for _ in range(_HASH_CHARACTERS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)
