"""The plan of a Workspace on the nodes that are there or that may come, and what its Ray pods get of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.drawn_for import Need, find_drawn_for
from kairay.controller.groups import NodeWish, draw_wish
from kairay.controller.observed import Observed
from kairay.controller.settings import Provider, Settings
from kairay.mig import Cutter, is_profile
from kairay.nodes.actions import NodeWord
from kairay.nodes.existing import NodeView, matching, odd_node, sizes_on
from kairay.nodes.interface import GROUP_LABEL, NodeGroup
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_wishes import Wishes
from kairay.presets import Preset
from kairay.ray.pods import Placement, PodSize
from kairay.skus import Device, Sku, SkuKind, find_sku
from kairay.workspace import LabelSelector, Workspace, revision

_MEMORY_SHARE = 0.85
"""Of a machine's memory that its Ray pods get; the rest is the system's and the kubelet's."""
_CUTTERS = {Provider.AKS: Cutter.AKS, Provider.KARPENTER: Cutter.NOBODY, Provider.EXISTING: Cutter.ANYONE}
_UNKNOWN_MEMORY = 16 * 2**30
"""For each GPU of a machine whose memory nobody documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What will run and on which nodes."""

    plan: Plan
    nodes: tuple[NodeView, ...]
    """Nodes with the Workspace's labels; where Kairay brings nodes, those of its group."""
    placement: Placement
    wish: NodeWish | None = None
    """The nodes that Kairay is to bring; None: it brings none."""

    @property
    def group(self) -> NodeGroup | None:
        """The group of nodes that Kairay is to bring."""
        return None if self.wish is None else self.wish.group

    @property
    def sku(self) -> Sku:
        """The chosen size."""
        assert self.plan.chosen is not None, "a plan with problems has no size"
        return self.plan.chosen.sku

    @property
    def gpus_per_node(self) -> int:
        """GPUs, or slices of them, of one node that may be used."""
        assert self.plan.chosen is not None, "a plan with problems has no size"
        return self.plan.chosen.gpus_per_node or 1

    @property
    def need(self) -> Need:
        """What one worker takes of a node."""
        gpus = max(1, _gpus_per_pod(self.plan, self.gpus_per_node))
        mig = self.sku.share if is_profile(self.sku.share) else None
        words = f"{gpus} × {f'{mig} of ' if mig else ''}{self.sku.gpu} ({self.sku.name})"
        return Need(gpus=gpus, words=words, mig=mig)

    def worker(self, gpus: int, settings: Settings) -> tuple[PodSize, int]:
        """A worker pod that holds `gpus`, and the CPUs that Ray may give out on it."""
        if settings.worker is not None:
            size = replace(settings.worker, gpus=settings.advertised_gpus or gpus)
            return size, max(1, int(size.most_cpus))
        share = gpus / max(1, self.sku.gpus)
        cpus = max(1.0, float(int((self.sku.cores - 1) * share)))
        memory = int((self.sku.ram_bytes or _UNKNOWN_MEMORY * self.sku.gpus) * _MEMORY_SHARE * share)
        return PodSize(cpus=cpus, memory=memory, most_cpus=cpus, most_memory=memory, gpus=gpus), int(cpus)


def draw_blueprint(
    workspace: Workspace,
    preset: Preset,
    *,
    nodes: tuple[NodeView, ...],
    skus: Mapping[str, Sku],
    settings: Settings,
    today: date,
    pinned: str | None = None,
    wishes: Wishes | None = None,
) -> Blueprint:
    """Plan for the sizes of the nodes with the Workspace's labels; for every known size where there are none.

    A size that was asked for and that none of them has is planned all the same: it may join later. Where Kairay brings
    the nodes every size is weighed. `pinned`, which was chosen before, is kept while it fits: neither a price that
    changes nor nodes that come and go must move a service. `wishes` are what the user's own config fixes. InputError
    for labels that new nodes cannot have.
    """
    selector = workspace.resource.label_selector
    found = () if settings.nodes.come else matching(nodes, selector)
    partition = workspace.resource.partition
    sizes = sizes_on(found, skus, None if partition is None else partition.profile)
    asked = workspace.resource.instance_type
    usable = sizes if sizes and (asked is None or find_sku(asked, sizes) is not None) else skus
    plan = make_plan(
        workspace, preset, skus=usable, machine=None, target=PlanTarget.CLUSTER, now=today, advise=skus,
        cutter=_CUTTERS[settings.nodes.provider], wishes=wishes,
    )  # fmt: skip
    if pinned is not None:
        plan = _keep_choice(plan, pinned)
    wish = draw_wish(workspace, plan, settings) if settings.nodes.come and not plan.problems else None
    group = None if wish is None else wish.group
    if group is not None:
        found = nodes_of(selector, nodes, group)
    if settings.advertised_gpus and not plan.problems:
        plan = _on_processors(plan, workspace, preset, settings, today, wishes)
    if plan.serving is not None and settings.idle_seconds is not None and not _says_idle(workspace):
        plan = replace(plan, serving=replace(plan.serving, idle_seconds=settings.idle_seconds))
    return Blueprint(plan=plan, nodes=found, placement=_placement(workspace, group), wish=wish)


def pinned_size(workspace: Workspace, seen: Observed) -> str | None:
    """The size that was chosen for the same work. Another model to tune is weighed anew: what fitted a large one would
    cost too much for a small one. (A served model never changes.)"""
    told = (seen.status.get("plan") or {}).get("instanceType")
    if workspace.tuning is not None:
        return told if seen.status.get("revision") == revision(workspace, seen.config_text) else None
    drawn_for = find_drawn_for(seen) if told is None else None
    return told if drawn_for is None else drawn_for.size


def moved(plan: Plan, pinned: str | None) -> str | None:
    """Why a plan takes another size than the one that was chosen before, though its operator has given it no nodes of
    another; None: it does not."""
    if pinned is None or plan.chosen is None or plan.asked_for is not None:
        return None
    lost = next((each for each in plan.candidates if each.sku.name == pinned), None)
    # A device plugin that restarts, or a node that goes, takes a size with it that no table knows.
    if plan.chosen.sku.as_found if lost is None else lost.fits:
        return None
    why = "that size is not seen any more" if lost is None else lost.reason
    return f"it would move from {pinned} to {plan.chosen.sku.name}: {why}"


def resource_condition(workspace: Workspace, blueprint: Blueprint, word: NodeWord | None = None) -> Condition:
    """ResourceReady: the plan works, and nodes that can hold one worker are there or come when they are wanted.

    `word` is what the keeper of nodes says of the Workspace's group.
    """
    if blueprint.plan.problems:
        return _not_ready(Reason.CANNOT_BE_PLANNED, " ".join(blueprint.plan.problems))
    selector = workspace.resource.label_selector
    return nodes_condition(selector, blueprint.nodes, blueprint.need, blueprint.group, word)


def nodes_condition(
    selector: LabelSelector, nodes: tuple[NodeView, ...], need: Need, group: NodeGroup | None, word: NodeWord | None
) -> Condition:  # fmt: skip
    """ResourceReady of work that is planned, or that was; `group`: Kairay brings its nodes."""
    if group is not None:
        return _nodes_that_come(nodes, need, word)
    wanted = _selector_text(selector)
    if not nodes:
        return _not_ready(
            Reason.NODES_MISSING,
            f"no node has the labels {wanted}; add a node with {need.words}, or label one: kubectl label node NAME"
            f" {wanted}",
        )
    ready = [node for node in nodes if node.ready]
    if not ready:
        names = ", ".join(node.name for node in nodes[:3])
        return _not_ready(
            Reason.NODES_NOT_READY, f"the nodes with the labels {wanted} are not ready: {names}"
        )
    if (odd := odd_node(ready, need.mig)) is not None:
        return _not_ready(Reason.NODES_CUT_OTHERWISE, odd)
    best = max(ready, key=lambda node: node.gpus)
    if best.gpus < need.gpus:
        return _not_ready(
            Reason.GPUS_MISSING,
            f"node {best.name} advertises {best.gpus} nvidia.com/gpu, {need.words} is needed; check its device plugin",
        )
    count = sum(node.gpus >= need.gpus for node in ready)
    return _ready(Reason.NODES_READY, f"{count} node(s) with the labels {wanted} have room for {need.words}")


def nodes_of(
    selector: LabelSelector, nodes: Iterable[NodeView], group: NodeGroup | None
) -> tuple[NodeView, ...]:
    """Nodes with the Workspace's labels; where Kairay brings nodes, those of its group."""
    if group is None:
        return matching(nodes, selector)
    return tuple(node for node in nodes if node.labels.get(GROUP_LABEL) == group.name)


def _nodes_that_come(nodes: tuple[NodeView, ...], need: Need, word: NodeWord | None) -> Condition:
    if word is not None:
        return _not_ready(word.refusal or Reason.NODES_COMING, word.message)
    count = sum(node.ready and node.gpus >= need.gpus for node in nodes)
    if count:
        return _ready(
            Reason.NODES_READY, f"{count} node(s) of the Workspace's pool have room for {need.words}"
        )
    return _ready(Reason.NODES_ON_DEMAND, f"no node now; the first worker brings one with {need.words}")


def _keep_choice(plan: Plan, pinned: str) -> Plan:
    chosen = next((each for each in plan.candidates if each.sku.name == pinned and each.fits), None)
    if plan.problems or plan.asked_for is not None or chosen is None or chosen.chosen:
        return plan
    kept = replace(chosen, chosen=True, reason="chosen before, and still fits")
    others = [replace(each, chosen=False) for each in plan.candidates]
    return replace(
        plan,
        candidates=tuple(kept if each.sku.name == pinned else each for each in others),
        chosen=kept,
        tuning=kept.tuning,
        serving=kept.serving,
        usd_per_hour=kept.usd_per_hour,
        job=kept.job,
    )


def _placement(workspace: Workspace, group: NodeGroup | None) -> Placement:
    selector = workspace.resource.label_selector
    labels = dict(selector.match_labels)
    if group is not None:
        labels[GROUP_LABEL] = group.name
    return Placement(
        labels=labels,
        any_of=tuple((each.key, each.values) for each in selector.match_expressions),
        spot=workspace.resource.spot,
    )


def _says_idle(workspace: Workspace) -> bool:
    scaling = workspace.inference.scaling if workspace.inference is not None else None
    return scaling is not None and scaling.idle_seconds is not None


def _gpus_per_pod(plan: Plan, most: int) -> int:
    wanted = [plan.tuning.workers * plan.tuning.gpus_per_worker] if plan.tuning else []
    wanted += [plan.serving.gpus_per_replica] if plan.serving else []
    return min(max(wanted, default=1), most)


def _on_processors(
    plan: Plan, workspace: Workspace, preset: Preset, settings: Settings, today: date, wishes: Wishes | None
) -> Plan:
    """The same plan with the shapes of a processor, for nodes whose GPUs are only advertised."""
    size = settings.worker or settings.head
    cores = max(1, int(size.most_cpus))
    machine = Sku(
        name="a worker's processor", kind=SkuKind.LOCAL, device=Device.CPU, cores=cores, ram_bytes=size.most_memory
    )  # fmt: skip
    own = make_plan(
        workspace, preset, skus={}, machine=machine, target=PlanTarget.LOCAL, now=today, wishes=wishes
    )
    serving = own.serving
    if serving is not None and plan.serving is not None:
        # Each replica has a worker of its own, so one machine's room is no limit.
        serving = replace(
            serving, min_replicas=plan.serving.min_replicas, max_replicas=plan.serving.max_replicas
        )
    return replace(plan, tuning=own.tuning, serving=serving, problems=own.problems)


def _selector_text(selector: LabelSelector) -> str:
    pairs = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    pairs += [f"{each.key}={each.values[0]}" for each in selector.match_expressions]
    return " ".join(pairs)


def _ready(reason: Reason, message: str) -> Condition:
    return Condition(type=Type.RESOURCE_READY, status=True, reason=reason, message=message)


def _not_ready(reason: str, message: str) -> Condition:
    return Condition(type=Type.RESOURCE_READY, status=False, reason=reason, message=message)
