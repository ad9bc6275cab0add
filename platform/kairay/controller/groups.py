"""Which nodes a Workspace's workers want where Kairay brings them: the plan's size, then what stands in. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kairay.controller.settings import Settings
from kairay.errors import InputError
from kairay.mig import MigProfile, is_profile
from kairay.nodes.groups import group_name, is_below, tenant_of
from kairay.nodes.interface import NodeGroup, Offer
from kairay.plan import Plan
from kairay.plan_candidates import Candidate
from kairay.skus import Sku
from kairay.workspace import Workspace

IMAGE_FAMILY = "kaito.sh/node-image-family"
"""KAITO's annotation."""
_MOST_SIZES = 4
"""Sizes that are tried for one Workspace; more only hide from people what they will pay."""
_MOST_SUGGESTIONS = 2
_RESERVED = ("kubernetes.io", "k8s.io", "kubernetes.azure.com", "karpenter.sh")
"""Whose labels nobody may give to a node that a provider makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWish:
    """What a Workspace wants of nodes that Kairay brings."""

    group: NodeGroup
    gang: bool = False
    """Its workers are of no use unless all are there."""
    instead: tuple[Offer, ...] = ()
    """What would do as well, were the Workspace not to name a size; only ever told, never asked for."""


def draw_wish(workspace: Workspace, plan: Plan, settings: Settings) -> NodeWish:
    """The nodes of a plan that works; InputError where its labels cannot be given to new ones."""
    group = draw_group(workspace, plan, settings)
    assert plan.chosen is not None
    most = workspace.resource.max_hourly_cost_usd
    others = () if plan.asked_for is None else [each for each in _others(plan) if _within(each, most)]
    return NodeWish(
        group=group,
        gang=plan.tuning is not None and plan.tuning.nodes > 1,
        instead=tuple(Offer(instance_type=each.sku.name) for each in others[:_MOST_SUGGESTIONS]),
    )


def draw_group(workspace: Workspace, plan: Plan, settings: Settings) -> NodeGroup:
    """The group of a plan that works; InputError where its labels cannot be given to new nodes."""
    assert plan.chosen is not None, "a plan with problems wants no nodes"
    metadata, spot = workspace.metadata, workspace.resource.spot
    tenant = tenant_of(settings.nodes.sharing, metadata.namespace or "default", metadata.name)
    labels = node_labels(workspace)
    taken = tuple(_taken(plan))
    sizes = tuple(each.sku for each in taken)
    kinds = (True, False) if spot else (False,)
    most = workspace.resource.max_hourly_cost_usd
    offers = tuple(
        Offer(instance_type=each.sku.name, spot=kind)
        for kind in kinds
        for each in taken
        if kind or _within(each, most)
    )
    family, share = metadata.annotations.get(IMAGE_FAMILY), sizes[0].share
    mig = MigProfile.parse(share).size if share is not None and is_profile(share) else None
    return NodeGroup(
        name=group_name(tenant=tenant, primary=offers[0], image_family=family, labels=labels, mig=mig),
        offers=offers,
        gpus_per_node={sku.name: sku.gpus for sku in sizes},
        labels=labels,
        tenant=tenant,
        image_family=family,
        mig=mig,
    )


def node_labels(workspace: Workspace) -> dict[str, str]:
    """What its nodes have to carry: the selector's labels, and the first value of each choice."""
    selector = workspace.resource.label_selector
    labels = {**selector.match_labels, **{each.key: each.values[0] for each in selector.match_expressions}}
    for key in sorted(labels):
        if is_below(key, _RESERVED):
            raise InputError(
                f"resource.labelSelector: {key} cannot be given to new nodes, its prefix belongs to Kubernetes or the "
                f"provider; name labels of your own, and write a size as resource.instanceType"
            )
    return dict(sorted(labels.items()))


def _within(candidate: Candidate, most: float | None) -> bool:
    """As ordinary machines it costs no more: a plan of spot machines is judged at their price alone."""
    price = candidate.sku.usd_per_hour
    return most is None or (price is not None and round(candidate.nodes * price, 4) <= most)


def _taken(plan: Plan) -> Iterable[Candidate]:
    """The chosen size, then the others that hold the same pods, as ranked; only the one that was asked for, if any."""
    assert plan.chosen is not None
    chosen = plan.chosen
    yield chosen
    if plan.asked_for is None:
        yield from [each for each in _others(plan) if _stands_in(each.sku, chosen.sku)][: _MOST_SIZES - 1]


def _others(plan: Plan) -> Iterable[Candidate]:
    """Other sizes that fit, in the order in which the plan ranks them."""
    return (each for each in plan.candidates if each.fits and not each.chosen)


def _stands_in(sku: Sku, chosen: Sku) -> bool:
    """Pods that are drawn for `chosen` run on it: no less of anything, and the same kind of numbers."""
    more = sku.gpus >= chosen.gpus and sku.bytes_per_gpu >= chosen.bytes_per_gpu and sku.cores >= chosen.cores
    return (
        more
        and sku.ram_bytes >= chosen.ram_bytes
        and sku.share == chosen.share
        and (sku.vendor, sku.architecture) == (chosen.vendor, chosen.architecture)
        and (sku.bf16 or not chosen.bf16)
        and sku.usd_per_hour is not None
    )
