"""Whether Karpenter can bring nodes: its kinds, and the node class that Kairay's pools name. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kairay.cluster.findings import Finding, Unseen, missing, ok, unseen
from kairay.cluster.observed import KarpenterSeen, Observed
from kairay.kube.objects import NODE_CLAIM, NODE_POOL, Manifest

_KINDS = {each.plural: each.kind for each in (NODE_POOL, NODE_CLAIM)}


def check_karpenter(seen: Observed) -> Iterator[Finding]:
    """Nothing where it brings no nodes."""
    if isinstance(seen.karpenter, Unseen):
        yield missing("Karpenter", seen.karpenter.why)
    elif seen.karpenter is not None:
        yield _kinds(seen.karpenter)
        yield _node_class(seen.karpenter)


def _kinds(seen: KarpenterSeen) -> Finding:
    name = "Karpenter"
    if isinstance(seen.pools, Unseen):
        return unseen(name, seen.pools)
    if lacking := [kind for plural, kind in _KINDS.items() if plural not in seen.pools]:
        return missing(
            name,
            f"the cluster knows no {' and no '.join(lacking)} (karpenter.sh/v1); turn node auto-provisioning on "
            "(az aks update --node-provisioning-mode Auto), or install Karpenter",
        )
    return ok(name, "NodePool and NodeClaim (karpenter.sh/v1)")


def _node_class(seen: KarpenterSeen) -> Finding:
    name, found = "node class", seen.node_class
    if isinstance(found, Unseen):
        return unseen(name, found)
    if found is None:
        return missing(
            name,
            f"there is no {seen.wanted}; create it, or name another in KAIRAY_KARPENTER_NODE_CLASS_GROUP, _KIND and "
            "_NAME",
        )
    ready = _ready(found)
    if ready is not None and ready.get("status") == "True":
        return ok(name, f"{seen.wanted} is ready")
    said = (ready or {}).get("message") or (ready or {}).get("reason") or "its status says nothing yet"
    return missing(
        name, f"{seen.wanted} is not ready: {said}; see kubectl describe {seen.wanted.kind.lower()}"
    )


def _ready(found: Manifest) -> dict[str, str] | None:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == "Ready"), None)
