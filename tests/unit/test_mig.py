"""Slices of GPUs: which there are, who can cut them, and that they are true from the plan to the node."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from kairay.controller.blueprint import Blueprint, draw_blueprint, resource_condition
from kairay.controller.conditions import Condition
from kairay.controller.settings import NodeSettings, Provider, Settings
from kairay.errors import InputError
from kairay.mig import Cutter, MigProfile, aks_profile, aks_size, cut, profiles_of
from kairay.nodes.existing import NodeView, view_node
from kairay.plan import PlanTarget, make_plan
from kairay.presets import find_preset
from kairay.skus import Sku, load_skus
from kairay.workspace import Workspace

GIB = 2**30
A100, H100, T4 = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5", "Standard_NC4as_T4_v3"
A100_40, H200, GB200 = "Standard_ND96asr_v4", "Standard_ND96isr_H200_v5", "Standard_ND128isr_NDR_GB200_v6"
EIGHT_A100 = "Standard_ND96amsr_A100_v4"
TODAY = date(2026, 11, 25)
PRODUCT = "NVIDIA-A100-SXM4-80GB"
SMALL = "smollm2-135m-instruct"


def sku(name: str) -> Sku:
    return load_skus()[name]


def workspace(partition: dict[str, Any] | None, *, size: str | None = None, replicas: int = 1) -> Workspace:
    resource: dict[str, Any] = {"labelSelector": {"matchLabels": {"app": "mine"}}}
    resource |= {} if partition is None else {"partition": partition}
    resource |= {} if size is None else {"instanceType": size}
    return Workspace.model_validate({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "resource": resource,
        "metadata": {"name": "mine", "namespace": "team"},
        "inference": {"preset": {"name": SMALL}, "scaling": {"minReplicas": 1, "maxReplicas": replicas}},
    })  # fmt: skip


def slices(profile: str) -> dict[str, Any]:
    return {"mode": "mig", "profile": profile}


def settings(provider: Provider) -> Settings:
    return Settings(nodes=NodeSettings(provider=provider))


def drawn(
    written: Workspace,
    *nodes: NodeView,
    provider: Provider = Provider.EXISTING,
    preset: str = SMALL,
) -> Blueprint:
    return draw_blueprint(
        written, find_preset(preset), nodes=nodes, skus=load_skus(), settings=settings(provider), today=TODAY
    )


def said(written: Workspace, *nodes: NodeView, provider: Provider = Provider.EXISTING) -> Condition:
    return resource_condition(written, drawn(written, *nodes, provider=provider))


def node(
    name: str = "n1",
    gpus: int = 7,
    *,
    product: str | None = f"{PRODUCT}-MIG-1g.10gb",
    mib: int = 9728,
    size: str | None = None,
    **resources: str,
) -> NodeView:
    """As NVIDIA's device plugin and feature discovery write it."""
    labels = {"app": "mine", "nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "0"}
    if product is not None:
        labels |= {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": str(mib)}
    if size is not None:
        labels["node.kubernetes.io/instance-type"] = size
    room = {"cpu": "24", "memory": "220Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return view_node({
        "metadata": {"name": name, "labels": labels},
        "status": {
            "allocatable": {**room, **{key.replace("__", "-"): value for key, value in resources.items()}},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })  # fmt: skip


def whole(name: str = "n1", gpus: int = 1, size: str | None = None) -> NodeView:
    return node(name, gpus, product=PRODUCT, mib=81920, size=size)


# NVIDIA's MIG user guide: A100 80 GB, H100 NVL 94 GB, H200 141 GB, A100 40 GB. Names are rounded, slices are not.
@pytest.mark.parametrize(
    ("size", "profile", "count", "gib", "aks"),
    [
        (A100, "1g.10gb", 7, 10, "MIG1g"),
        (A100, "1g.20gb", 4, 20, None),
        (A100, "1g.10gb+me", 1, 10, None),
        (A100, "2g.20gb", 3, 20, "MIG2g"),
        (A100, "3g.40gb", 2, 40, "MIG3g"),
        (A100, "4g.40gb", 1, 40, "MIG4g"),
        (A100, "7g.80gb", 1, 80, "MIG7g"),
        (H100, "1g.12gb", 7, 11.75, "MIG1g"),
        (H100, "1g.24gb", 4, 23.5, None),
        (H100, "2g.24gb", 3, 23.5, "MIG2g"),
        (H100, "3g.47gb", 2, 47, "MIG3g"),
        (H200, "1g.18gb", 56, 17.625, "MIG1g"),
        (H200, "2g.35gb", 24, 35, "MIG2g"),
        (H200, "3g.71gb", 16, 70.5, "MIG3g"),
        (A100_40, "1g.5gb", 56, 5, "MIG1g"),
        (A100_40, "2g.10gb", 24, 10, "MIG2g"),
    ],
)
def test_a_gpu_is_cut_into_as_many_slices_as_nvidia_says(
    size: str, profile: str, count: int, gib: float, aks: str | None
) -> None:
    made = cut(sku(size), profile)
    assert (made.gpus, made.bytes_per_gpu / GIB, made.share) == (count, gib, profile)
    if aks is not None:
        assert cut(sku(size), profile, Cutter.AKS) == made
        assert aks_profile(MigProfile.parse(profile).size) == aks
        assert aks_size(aks) == MigProfile.parse(profile).size
    else:
        with pytest.raises(
            InputError, match=rf"AKS cannot cut its GPUs into .*; it makes {profiles_of(sku(size))[0]}"
        ):
            cut(sku(size), profile, Cutter.AKS)


@pytest.mark.parametrize(
    ("size", "profile", "cutter", "says"),
    [
        (A100, "1g.12gb", Cutter.ANYONE, "have no slices of 1g.12gb; they have 1g.10gb, 2g.20gb, 3g.40gb, 4g"),
        (A100, "1g.9gb", Cutter.ANYONE, "have no slices of 1g.9gb"),
        (A100, "7g.79gb", Cutter.ANYONE, "have no slices of 7g.79gb"),
        (A100, "3g.40gb+me", Cutter.ANYONE, r"have no slices of 3g.40gb\+me"),
        (A100, "5g.40gb", Cutter.ANYONE, "have no slices of 5g.40gb"),
        (T4, "1g.10gb", Cutter.ANYONE, "cannot be cut by MIG"),
        ("Standard_NV12ads_A10_v5", "1g.10gb", Cutter.ANYONE, "cannot be cut by MIG"),
        (A100, "half", Cutter.ANYONE, "is not a MIG profile such as 1g.10gb"),
        (GB200, "1g.24gb", Cutter.AKS, "it cuts A100, H100 and H200"),
    ],
)  # fmt: skip
def test_a_slice_that_there_is_not_is_refused(size: str, profile: str, cutter: Cutter, says: str) -> None:
    with pytest.raises(InputError, match=says):
        cut(sku(size), profile, cutter)


@pytest.mark.parametrize("name", sorted(load_skus()))
def test_slices_never_get_more_than_their_gpu_has(name: str) -> None:
    size = sku(name)
    profiles = {str(each) for each in profiles_of(size)}
    profiles |= {
        f"{parts}g.{gib}gb{more}" for parts in range(1, 8) for gib in range(1, 200) for more in ("", "+me")
    }
    for profile in profiles:
        try:
            made = cut(size, profile)
        except InputError:
            continue
        parts = MigProfile.parse(profile).parts
        each = made.gpus // size.gpus
        assert made.bytes_per_gpu * each <= size.bytes_per_gpu
        assert parts * each <= 7
        assert made.bytes_per_gpu <= MigProfile.parse(profile).gib * GIB


def test_aks_brings_a_node_that_is_cut_and_counts_its_slices() -> None:
    blueprint = drawn(workspace(slices("1g.10gb")), provider=Provider.AKS)
    group = blueprint.group
    assert group is not None
    assert (group.mig, group.offers[0].instance_type, group.gpus_per_node[A100]) == ("1g", A100, 7)
    assert {group.gpus_per_node[each.instance_type] % 7 for each in group.offers} == {0}
    size, _ = blueprint.worker(1, settings(Provider.AKS))
    assert (size.gpus, size.cpus) == (1, 3.0)  # a seventh of 23 cores
    assert blueprint.plan.usd_per_hour == sku(A100).usd_per_hour


def test_whole_gpus_and_each_profile_have_pools_of_their_own() -> None:
    partitions = (None, slices("1g.10gb"), slices("2g.20gb"))
    groups = [drawn(workspace(each, size=A100), provider=Provider.AKS).group for each in partitions]
    assert len({group.name for group in groups if group is not None}) == 3


def test_the_name_of_a_group_of_whole_gpus_is_what_it_always_was() -> None:
    group = drawn(workspace(None, size=A100), provider=Provider.AKS).group
    assert group is not None
    assert group.name == "fe2j8a7pyq"


def test_a_profile_that_aks_cannot_make_names_those_that_it_can() -> None:
    anywhere = said(workspace(slices("1g.20gb")), provider=Provider.AKS)
    assert (anywhere.status, anywhere.reason) == (False, "CannotBePlanned")
    assert (
        "AKS cannot cut any GPU so; these work: 1g.5gb, 1g.10gb, 1g.12gb, 1g.18gb, 2g.10gb"
        in anywhere.message
    )
    there = said(workspace(slices("1g.10gb"), size=H100), provider=Provider.AKS)
    assert there.reason == "CannotBePlanned"
    assert "they have 1g.12gb, 2g.24gb, 3g.47gb, 4g.47gb, 7g.94gb" in there.message


def test_karpenter_cuts_nothing_and_says_what_does() -> None:
    condition = said(workspace(slices("1g.10gb")), provider=Provider.KARPENTER)
    assert (condition.status, condition.reason) == (False, "CannotBePlanned")
    assert "Karpenter's NodePools cannot cut GPUs" in condition.message
    assert "KAIRAY_NODES_PROVIDER=aks" in condition.message


@pytest.mark.parametrize("size", [None, A100])
def test_a_node_that_is_cut_is_its_slices(size: str | None) -> None:
    written = workspace(slices("1g.10gb"), replicas=9)
    blueprint = drawn(written, node(size=size))
    assert (blueprint.sku.share, blueprint.sku.gpus, blueprint.sku.bytes_per_gpu) == (
        "1g.10gb",
        7,
        9728 * 2**20,
    )
    assert blueprint.sku.name == (size or f"{PRODUCT}-MIG-1g.10gb")
    assert blueprint.plan.serving is not None
    assert (blueprint.plan.serving.gpus_per_replica, blueprint.plan.serving.nodes) == (1, 2)
    condition = resource_condition(written, blueprint)
    assert (condition.status, condition.reason) == (True, "NodesReady")
    assert "1 × 1g.10gb of" in condition.message


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (whole(), "are not cut"),
        (whole(size=A100), "are not cut"),
        (node(gpus=3, product=f"{PRODUCT}-MIG-2g.20gb", mib=19968), "are cut into 2g.20gb"),
        (node(gpus=1, product=f"{PRODUCT}-MIG-1g.10gb.me"), r"are cut into 1g.10gb\+me"),
        (node(gpus=7, product=None, size=A100), "no label says so"),
    ],
)
def test_slices_are_not_planned_on_nodes_that_are_whole_or_cut_otherwise(there: NodeView, says: str) -> None:
    blueprint = drawn(workspace(slices("1g.10gb")), there)
    assert blueprint.plan.chosen is None
    (reason,) = {each.reason for each in blueprint.plan.candidates}
    with pytest.raises(InputError, match=says):
        raise InputError(reason)
    assert "nvidia.com/mig.config=all-1g.10gb" in " ".join(blueprint.plan.problems)


def test_whole_gpus_are_planned_on_the_node_that_is_whole() -> None:
    both = (node("cut", size=A100), whole("whole", size=EIGHT_A100, gpus=8))
    assert drawn(workspace(None), *both).sku.name == EIGHT_A100
    assert drawn(workspace(slices("1g.10gb")), *both).sku.name == A100


def test_a_node_without_gpus_among_the_labelled_ones_hides_no_slices() -> None:
    processor = replace(node("cpu", gpus=0, product=None, size="Standard_D4s_v5"), ready=True)
    assert drawn(workspace(None), node(size=None), processor).sku.share == "1g.10gb"


@pytest.mark.parametrize("partition", [None, slices("1g.10gb")])
def test_nodes_that_differ_behind_one_label_are_told_before_a_pod_lands_on_the_wrong_one(
    partition: dict[str, Any] | None,
) -> None:
    condition = said(workspace(partition), node("cut", size=A100), whole("whole", size=A100))
    wrong = "cut" if partition is None else "whole"
    assert (condition.status, condition.reason) == (False, "NodesCutOtherwise")
    assert f"node {wrong} " in condition.message
    assert "name nvidia.com/gpu.product in resource.labelSelector" in condition.message


def test_kaitos_way_of_slices_that_are_all_alike_says_nothing_of_them() -> None:
    blueprint = drawn(workspace(None), node(size=A100))
    assert (blueprint.sku.share, blueprint.sku.bytes_per_gpu) == ("1g.10gb", 9728 * 2**20)
    assert any("are cut into slices of 1g.10gb" in each for each in blueprint.plan.warnings)
    assert resource_condition(workspace(None), blueprint).status
    large = drawn(workspace(None), node(size=A100), preset="phi-4")
    assert large.plan.chosen is None, "no model is split over slices"


def test_slices_stay_planned_while_the_device_plugin_restarts() -> None:
    there = node(size=A100)
    away = replace(there, gpus=0, labels={**there.labels, "nvidia.com/gpu.count": "7"})
    written = workspace(slices("1g.10gb"))
    assert drawn(written, away).plan == drawn(written, there).plan
    assert said(written, away).reason == "GpusMissing"


def test_a_model_that_no_slice_holds_is_told_with_what_to_do() -> None:
    blueprint = drawn(workspace(slices("1g.10gb")), provider=Provider.AKS, preset="phi-4")
    assert blueprint.plan.problems == (
        "no slice of 1g.10gb holds phi-4; take a larger profile, or a smaller preset",
    )


def test_the_mixed_strategy_is_refused_with_the_one_to_set() -> None:
    mixed = node(gpus=0, product=PRODUCT, mib=81920, size=A100, **{"nvidia.com/mig__1g.10gb": "7"})
    assert mixed.slices == ("nvidia.com/mig-1g.10gb",)
    condition = said(workspace(slices("1g.10gb")), mixed)
    assert (condition.status, condition.reason) == (False, "NodesCutOtherwise")
    assert "strategy `single`" in condition.message


def test_some_of_a_nodes_gpus_are_used_and_the_whole_node_is_paid() -> None:
    written = workspace({"mode": "accelerator", "count": 2}, size=EIGHT_A100)
    blueprint = draw_blueprint(
        written, find_preset("llama-3.3-70b-instruct"), nodes=(whole(gpus=8, size=EIGHT_A100),), skus=load_skus(),
        settings=Settings(), today=TODAY,
    )  # fmt: skip
    serving = blueprint.plan.serving
    assert serving is not None
    assert blueprint.gpus_per_node == 2
    assert serving.tensor_parallel == 2
    assert serving.nodes > 1, "70 billion parameters in 16 bits are more than two of these GPUs"
    assert blueprint.plan.usd_per_hour == pytest.approx(serving.nodes * 32.77)
    size, _ = blueprint.worker(2, Settings())
    assert (size.gpus, size.cpus) == (2, 23.0)  # a quarter of 95 cores


def test_a_node_with_fewer_gpus_than_are_asked_for_loses_with_the_reason() -> None:
    plan = make_plan(
        workspace({"mode": "accelerator", "count": 2}), find_preset(SMALL), skus=load_skus(), machine=None,
        target=PlanTarget.CLUSTER, now=TODAY,
    )  # fmt: skip
    reasons = {each.sku.name: each.reason for each in plan.candidates}
    assert reasons[A100] == "has 1 GPU, resource.partition.count asks for 2 of each node"
    assert plan.chosen is not None
    assert plan.chosen.sku.gpus >= 2
    assert not any("partition" in each for each in plan.warnings)


def test_as_many_as_there_are_changes_nothing_but_what_is_out() -> None:
    preset = find_preset("llama-3.3-70b-instruct")
    plans = [
        make_plan(
            workspace(each, size=EIGHT_A100), preset, skus=load_skus(), machine=None, target=PlanTarget.CLUSTER,
            now=TODAY,
        )
        for each in (None, {"mode": "accelerator", "count": 8})
    ]  # fmt: skip
    assert plans[0].serving == plans[1].serving
    assert plans[0].usd_per_hour == plans[1].usd_per_hour


def test_a_size_that_is_cut_is_not_cut_again() -> None:
    once = replace(cut(sku(A100), "1g.10gb"), as_found=True)
    assert cut(once, "1g.10gb") == once
    with pytest.raises(InputError, match="cannot be cut by MIG"):
        cut(replace(once, as_found=False), "1g.10gb")


def test_a_plan_for_no_cluster_in_particular_says_what_aks_cannot_cut() -> None:
    def warnings(profile: str) -> str:
        plan = make_plan(
            workspace(slices(profile)), find_preset(SMALL), skus=load_skus(), machine=None, target=PlanTarget.CLUSTER,
            now=TODAY,
        )  # fmt: skip
        assert plan.chosen is not None
        return " ".join(plan.warnings)

    assert "AKS cannot cut GPUs so" in warnings("1g.20gb")
    assert "AKS" not in warnings("1g.10gb")


@pytest.mark.parametrize(("written", "cores"), [("3920m", 3), ("32", 32), ("1k", 1000), ("1e3", 1000)])
def test_a_node_is_read_however_the_api_server_writes_its_quantities(written: str, cores: int) -> None:
    room = {"cpu": written, "memory": "1Ti", "nvidia.com/gpu": "1k"}
    seen = view_node({"metadata": {"name": "n"}, "status": {"allocatable": room}})
    assert (seen.cpus, seen.memory, seen.gpus) == (cores, 2**40, 1000)
