"""Which nodes a Workspace's workers want where Kairay brings them: the plan's size, then what stands in. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kairay.controller.settings import Settings
from kairay.errors import InputError
from kairay.nodes.groups import group_name, tenant_of
from kairay.nodes.interface import NodeGroup, Offer
from kairay.plan import Plan
from kairay.skus import Sku
from kairay.workspace import Workspace

IMAGE_FAMILY = "kaito.sh/node-image-family"
"""KAITO's annotation."""
_MOST_SIZES = 4
"""Sizes that are tried for one Workspace; more only hide from people what they will pay."""
_RESERVED = ("kubernetes.io", "k8s.io", "kubernetes.azure.com", "karpenter.sh")
"""Whose labels nobody may give to a node that a provider makes."""


def draw_group(workspace: Workspace, plan: Plan, settings: Settings) -> NodeGroup:
    """The group of a plan that works; InputError where its labels cannot be given to new nodes."""
    assert plan.chosen is not None, "a plan with problems wants no nodes"
    metadata, spot = workspace.metadata, workspace.resource.spot
    tenant = tenant_of(settings.nodes.sharing, metadata.namespace or "default", metadata.name)
    labels = node_labels(workspace)
    sizes = tuple(_sizes(plan))
    kinds = (True, False) if spot else (False,)
    offers = tuple(Offer(instance_type=sku.name, spot=kind) for kind in kinds for sku in sizes)
    family = metadata.annotations.get(IMAGE_FAMILY)
    return NodeGroup(
        name=group_name(tenant=tenant, primary=offers[0], image_family=family, labels=labels),
        offers=offers,
        gpus_per_node={sku.name: sku.gpus for sku in sizes},
        labels=labels,
        tenant=tenant,
        image_family=family,
    )


def node_labels(workspace: Workspace) -> dict[str, str]:
    """What its nodes have to carry: the selector's labels, and the first value of each choice."""
    selector = workspace.resource.label_selector
    labels = {**selector.match_labels, **{each.key: each.values[0] for each in selector.match_expressions}}
    for key in sorted(labels):
        domain = key.partition("/")[0] if "/" in key else ""
        if any(domain == reserved or domain.endswith(f".{reserved}") for reserved in _RESERVED):
            raise InputError(
                f"resource.labelSelector: {key} cannot be given to new nodes, its prefix belongs to Kubernetes or the "
                f"provider; name labels of your own, and write a size as resource.instanceType"
            )
    return dict(sorted(labels.items()))


def _sizes(plan: Plan) -> Iterable[Sku]:
    """The chosen size, then the others that hold the same pods, by price; only the one that was asked for, if any."""
    assert plan.chosen is not None
    chosen = plan.chosen.sku
    yield chosen
    if plan.asked_for is not None:
        return
    others = [each.sku for each in plan.candidates if each.fits and each.sku.name != chosen.name]
    yield from [sku for sku in others if _stands_in(sku, chosen)][: _MOST_SIZES - 1]


def _stands_in(sku: Sku, chosen: Sku) -> bool:
    """Pods that are drawn for `chosen` run on it: no less of anything, and the same kind of numbers."""
    more = sku.gpus >= chosen.gpus and sku.bytes_per_gpu >= chosen.bytes_per_gpu and sku.cores >= chosen.cores
    return (
        more
        and sku.ram_bytes >= chosen.ram_bytes
        and sku.share is None
        and (sku.vendor, sku.architecture) == (chosen.vendor, chosen.architecture)
        and (sku.bf16 or not chosen.bf16)
        and sku.usd_per_hour is not None
    )
