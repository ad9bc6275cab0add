"""Which nodes a Workspace's workers want, and how its plan stays what it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from kairay.controller.blueprint import Blueprint, draw_blueprint, pinned_size, resource_condition
from kairay.controller.board import NodeBoard
from kairay.controller.observed import Observed
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.errors import InputError
from kairay.nodes.actions import NodeWord
from kairay.nodes.existing import NodeView
from kairay.nodes.groups import Sharing
from kairay.nodes.interface import GROUP_LABEL, RefusalKind
from kairay.presets import find_preset
from kairay.skus import load_skus
from kairay.workspace import Workspace, revision

AKS = Settings(nodes=NodeSettings(provider=Provider.AKS))
TODAY = date(2026, 11, 25)
LABELS = {"app": "mine"}


def workspace(
    *, size: str | None = None, spot: bool = False, name: str = "mine", annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> Workspace:  # fmt: skip
    resource: dict[str, Any] = {"labelSelector": {"matchLabels": labels or LABELS}, "spot": spot}
    if size is not None:
        resource["instanceType"] = size
    return Workspace.model_validate({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "resource": resource,
        "metadata": {"name": name, "namespace": "team", "annotations": annotations or {}},
        "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
    })  # fmt: skip


def tuned(preset: str) -> Workspace:
    return Workspace.model_validate({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "resource": {"labelSelector": {"matchLabels": LABELS}}, "metadata": {"name": "mine", "namespace": "team"},
        "tuning": {
            "preset": {"name": preset}, "method": "qlora", "input": {"urls": ["https://example.com/data.jsonl"]},
            "output": {"image": "registry.example.com/mine:v1", "imagePushSecret": "push"},
        },
    })  # fmt: skip


def blueprint(
    written: Workspace,
    settings: Settings = AKS,
    *,
    pinned: str | None = None,
    nodes: tuple[NodeView, ...] = (),
) -> Blueprint:
    return draw_blueprint(
        written, find_preset("phi-3-mini-128k-instruct"), nodes=nodes, skus=load_skus(), settings=settings,
        today=TODAY, pinned=pinned,
    )  # fmt: skip


def test_pods_select_the_group_and_its_nodes_carry_the_workspaces_labels() -> None:
    drawn = blueprint(workspace())
    assert drawn.group is not None
    assert drawn.placement.labels == {"app": "mine", GROUP_LABEL: drawn.group.name}
    assert drawn.group.labels == LABELS
    assert drawn.group.offers[0].instance_type == drawn.sku.name


def test_with_nodes_that_are_there_nothing_is_asked_for() -> None:
    drawn = blueprint(workspace(), Settings())
    assert drawn.group is None
    assert GROUP_LABEL not in drawn.placement.labels


def test_what_stands_in_has_no_less_of_anything() -> None:
    drawn = blueprint(workspace())
    assert drawn.group is not None
    assert len(drawn.group.offers) > 1
    skus, chosen = load_skus(), drawn.sku
    for offer in drawn.group.offers:
        sku = skus[offer.instance_type]
        assert sku.gpus >= chosen.gpus
        assert sku.bytes_per_gpu >= chosen.bytes_per_gpu
        assert sku.ram_bytes >= chosen.ram_bytes
        assert drawn.group.gpus_per_node[offer.instance_type] == sku.gpus
        assert not sku.retired(TODAY)


def test_a_size_that_was_asked_for_is_the_only_one_and_spot_falls_back_to_on_demand() -> None:
    drawn = blueprint(workspace(size="Standard_NC24ads_A100_v4", spot=True))
    assert drawn.group is not None
    assert [str(offer) for offer in drawn.group.offers] == [
        "Standard_NC24ads_A100_v4 (spot)", "Standard_NC24ads_A100_v4",
    ]  # fmt: skip


@pytest.mark.parametrize(("sharing", "same"), [("cluster", True), ("namespace", True), ("workspace", False)])
def test_workspaces_share_a_group_as_the_operator_says(sharing: str, same: bool) -> None:
    settings = replace(AKS, nodes=replace(AKS.nodes, sharing=Sharing(sharing)))
    one, other = blueprint(workspace(), settings).group, blueprint(workspace(name="other"), settings).group
    assert one is not None
    assert other is not None
    assert (one.name == other.name) is same


def test_image_family_and_labels_make_another_group() -> None:
    names = {
        group.name
        for each in (
            workspace(),
            workspace(annotations={"kaito.sh/node-image-family": "azurelinux"}),
            workspace(labels={"app": "other"}),
            workspace(spot=True),
        )
        if (group := blueprint(each).group) is not None
    }
    assert len(names) == 4


def test_a_label_that_only_azure_gives_is_refused_with_what_to_write() -> None:
    labels = {"node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}
    with pytest.raises(InputError, match="instance-type cannot be given to new nodes"):
        blueprint(workspace(labels=labels))


def test_a_choice_stays_when_another_size_becomes_cheaper() -> None:
    first = blueprint(workspace())
    dearer = next(each.sku.name for each in first.plan.candidates if each.fits and not each.chosen)
    kept = blueprint(workspace(), pinned=dearer)
    assert kept.sku.name == dearer
    assert kept.plan.serving == next(
        each.serving for each in first.plan.candidates if each.sku.name == dearer
    )
    assert blueprint(workspace(), pinned="Standard_NC6s_v3").sku.name == first.sku.name, (
        "one that is gone is not kept"
    )


def test_nodes_that_come_and_go_do_not_move_a_service() -> None:
    def node(size: str) -> NodeView:
        labels = {**LABELS, "node.kubernetes.io/instance-type": size}
        return NodeView(name=size, labels=labels, ready=True, gpus=8, cpus=96, memory=2**40)

    dear, cheap = "Standard_NC40ads_H100_v5", "Standard_NC24ads_A100_v4"
    there = Settings()
    assert blueprint(workspace(), there, nodes=(node(dear),)).sku.name == dear
    for nodes in ((), (node(dear), node(cheap))):
        assert blueprint(workspace(), there, nodes=nodes, pinned=dear).sku.name == dear
    assert blueprint(workspace(), there, nodes=(node(cheap),), pinned=dear).sku.name == cheap


def test_the_choice_for_a_model_is_none_for_the_next_one_to_tune() -> None:
    large, small = tuned("llama-3.3-70b-instruct"), tuned("phi-3-mini-4k-instruct")
    status = {"plan": {"instanceType": "Standard_ND96isr_H100_v5"}, "revision": revision(large)}
    seen = Observed(workspace={"status": status})
    assert pinned_size(large, seen) == "Standard_ND96isr_H100_v5"
    assert pinned_size(small, seen) is None
    assert pinned_size(workspace(), seen) == "Standard_ND96isr_H100_v5", "a served model never changes"


def test_resources_are_ready_while_nodes_come_on_demand_and_not_while_they_are_waited_for() -> None:
    drawn = blueprint(workspace())
    calm = resource_condition(workspace(), drawn)
    assert (calm.status, calm.reason) == (True, "NodesOnDemand")
    coming = resource_condition(workspace(), drawn, NodeWord(message="waiting for 1 × T4"))
    assert (coming.status, coming.reason, coming.message) == (False, "NodesComing", "waiting for 1 × T4")
    refused = resource_condition(workspace(), drawn, NodeWord(message="quota", refusal=RefusalKind.QUOTA))
    assert (refused.status, refused.reason) == (False, "QuotaExceeded")


def test_a_node_of_the_group_counts_and_one_with_the_labels_alone_does_not() -> None:
    group = blueprint(workspace()).group
    assert group is not None

    def node(**labels: str) -> NodeView:
        return NodeView(name="n", labels={**LABELS, **labels}, ready=True, gpus=8, cpus=96, memory=2**40)

    with_group = blueprint(workspace(), nodes=(node(**{GROUP_LABEL: group.name}),))
    assert resource_condition(workspace(), with_group).reason == "NodesReady"
    assert resource_condition(workspace(), blueprint(workspace(), nodes=(node(),))).reason == "NodesOnDemand"


def test_a_size_that_was_asked_for_leaves_others_to_be_told_and_several_nodes_are_one_set() -> None:
    wish = blueprint(workspace(size="Standard_NC24ads_A100_v4")).wish
    assert wish is not None
    assert len(wish.instead) == 2
    assert not wish.gang
    open_wish = blueprint(workspace()).wish
    assert open_wish is not None
    assert open_wish.instead == ()


def test_the_board_knows_whose_workers_are_a_set_and_what_would_do_as_well() -> None:
    told: list[tuple[str, str]] = []
    board, wish = NodeBoard(told.append), blueprint(workspace()).wish
    assert wish is not None
    other = wish.group.offers[-1]
    board.want(("team", "mine"), replace(wish, gang=True, instead=(other,)))
    board.want(("team", "plain"), wish)
    assert board.gangs() == {"team/mine"}
    assert board.suggestions() == {wish.group.name: (other,)}
    board.say({wish.group.name: NodeWord(message="waiting")}, [wish.group.name])
    board.say({wish.group.name: NodeWord(message="waiting")}, [wish.group.name])
    assert sorted(told) == [("team", "mine"), ("team", "plain")], "told once, not at every pass"
    board.want(("team", "mine"), None)
    assert board.gangs() == frozenset()
