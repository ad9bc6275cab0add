"""Pools as AKS writes them, and back: pure values."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from aks_scenario import A100, spec
from kairay.nodes.aks_pools import Network, network_of, node_labels, owner, read_pool, with_count, write_pool
from kairay.nodes.interface import PoolState, RefusalKind, RefusedError
from kairay.skus import load_skus

MI300X = "Standard_ND96isr_MI300X_v5"
LABELS = {"kairay.dev/pool": "ga100", "kairay.dev/managed-by": "kairay"}
TAGS = {"kairay-pool": "ga100", "kairay-managed-by": "kairay"}


def body(**properties: Any) -> dict[str, Any]:
    given = {"vmSize": A100, "count": 2, "provisioningState": "Succeeded", "eTag": "e1"}
    return {"name": "kra100", "properties": {**given, "nodeLabels": LABELS, "tags": TAGS, **properties}}


def written(*, name: str = "kra100", size: str = A100, count: int = 1, **group: Any) -> dict[str, Any]:
    properties = write_pool(spec(name, size, **group), count, load_skus().get(size), Network())["properties"]
    assert isinstance(properties, dict)
    return properties


@pytest.mark.parametrize(
    ("labels", "tags", "group"),
    [
        (LABELS, TAGS, "ga100"),
        (LABELS, {}, None),
        ({}, TAGS, None),
        (LABELS, {**TAGS, "kairay-pool": "gother"}, None),
        (LABELS, {"kairay-pool": "ga100"}, None),
        ({"kairay.dev/pool": "ga100"}, TAGS, None),
        ({**LABELS, "kairay.dev/managed-by": "somebody"}, TAGS, None),
        (None, None, None),
    ],
)
def test_a_pool_is_ours_when_label_and_tag_name_one_group(labels: Any, tags: Any, group: str | None) -> None:
    assert owner(body(nodeLabels=labels, tags=tags)) == group
    assert read_pool(body(nodeLabels=labels, tags=tags)).group == group


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("Succeeded", PoolState.READY),
        ("Canceled", PoolState.READY),
        ("Failed", PoolState.FAILED),
        *(
            (phase, PoolState.BUSY)
            for phase in ("Creating", "Scaling", "UpgradingNodeImageVersion", "NeverHeardOf", None)
        ),
    ],
)
def test_every_word_that_is_not_known_to_be_an_end_is_an_operation_under_way(
    phase: Any, state: PoolState
) -> None:
    assert read_pool(body(provisioningState=phase)).state is state


def test_while_a_pool_stops_it_is_busy_and_then_says_that_it_is_stopped() -> None:
    off = {"code": "Stopped"}
    stopping, stopped = (
        read_pool(body(powerState=off, provisioningState=p)) for p in ("Stopping", "Succeeded")
    )
    assert (stopping.state, stopping.phase, stopping.refusal) == (PoolState.BUSY, "Stopping", None)
    assert (stopped.state, stopped.phase) == (PoolState.FAILED, "Stopped")


def test_a_pool_of_single_machines_has_as_many_as_its_sizes_together() -> None:
    machines = [{"size": "Standard_D4s_v5", "count": 2}, {"size": "Standard_D8s_v5", "count": 1}]
    assert read_pool(body(type="VirtualMachines", count=None, virtualMachineNodesStatus=machines)).count == 3


def test_a_pool_that_says_next_to_nothing_is_read_all_the_same() -> None:
    pool = read_pool({"name": "odd"})
    assert (pool.group, pool.count, pool.state, pool.version) == (None, 0, PoolState.BUSY, "")


@pytest.mark.parametrize(
    ("size", "driver"), [(A100, "Install"), (MI300X, "None"), ("Standard_New_v9", "Install")]
)
def test_aks_installs_the_driver_of_nvidia_sizes_only(size: str, driver: str) -> None:
    assert written(size=size)["gpuProfile"] == {"driver": driver}


def test_a_pool_of_slices_is_written_in_azures_words() -> None:
    properties = written(count=2, gpus_per_node={A100: 7}, mig="1g")
    assert properties == {
        "mode": "User", "type": "VirtualMachineScaleSets", "osType": "Linux", "vmSize": A100, "count": 2,
        "enableAutoScaling": False, "scaleDownMode": "Delete", "nodeLabels": LABELS, "tags": TAGS,
        "nodeTaints": ["sku=gpu:NoSchedule"], "gpuProfile": {"driver": "Install"}, "gpuInstanceProfile": "MIG1g",
        "scaleSetPriority": "Regular",
    }  # fmt: skip
    assert read_pool(body(**properties)).mig == "1g"
    assert "gpuInstanceProfile" not in written()
    assert read_pool(body()).mig is None


def test_a_size_without_gpus_gets_neither_driver_nor_taint() -> None:
    properties = written(size="Standard_D4s_v5", gpus_per_node={"Standard_D4s_v5": 0})
    assert not {"gpuProfile", "nodeTaints"} & set(properties)


def test_a_regular_pool_says_nothing_of_spot_prices() -> None:
    assert not {"spotMaxPrice", "scaleSetEvictionPolicy"} & set(written())


@pytest.mark.parametrize(
    ("family", "sku"), [(None, None), ("ubuntu", "Ubuntu"), ("AzureLinux", "AzureLinux")]
)
def test_the_image_family_is_the_os_sku(family: str | None, sku: str | None) -> None:
    assert written(image_family=family).get("osSKU") == sku


def test_an_unknown_image_family_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RefusedError, match="azurelinux or ubuntu"):
        written(image_family="windows")


@pytest.mark.parametrize("name", ["", "1pool", "Pool", "a-b", "abcdefghijklm"])
def test_a_name_that_aks_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="agent pool's name"):
        written(name=name)


@pytest.mark.parametrize(
    "label",
    [
        "kubernetes.azure.com/team",
        "kubernetes.io/hostname",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "node.k8s.io/x",
        "agentpool",
    ],
)
def test_labels_of_azures_are_refused_by_name(label: str) -> None:
    with pytest.raises(RefusedError) as caught:
        node_labels(spec(labels={label: "mine"}))
    assert caught.value.refusal.kind is RefusalKind.INVALID
    assert f"{label}=mine" in caught.value.refusal.message


@pytest.mark.parametrize("label", ["app", "example.com/team", "notkubernetes.io/x", "k8s.example.com/y"])
def test_labels_of_ones_own_are_set(label: str) -> None:
    assert node_labels(spec(labels={label: "mine"})) == {label: "mine", **LABELS}


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("node.kubernetes.io/instance-type", A100),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.azure.com/accelerator", "nvidia"),
        ("kubernetes.azure.com/scalesetpriority", "spot"),
    ],
)
def test_a_selector_of_what_aks_sets_anyway_is_no_obstacle(label: str, value: str) -> None:
    wanted = spec(spot=True, labels={label: value})
    assert node_labels(wanted, load_skus()[A100]) == LABELS


def test_the_groups_own_marks_cannot_be_taken_by_a_selector() -> None:
    assert node_labels(spec(labels={"kairay.dev/pool": "other"})) == LABELS


def test_a_count_is_changed_in_a_copy() -> None:
    before = body(nodeTaints=["a=b:NoSchedule"])
    untouched = copy.deepcopy(before)
    changed = with_count(before, 5)
    assert changed is not None
    assert (before, changed["properties"].pop("count")) == (untouched, 5)
    before["properties"].pop("count")
    assert changed == before


@pytest.mark.parametrize(("count", "most"), [(2, None), (3, None), (4, 4)])
def test_room_under_an_autoscaler_is_only_ever_made_larger(count: int, most: int | None) -> None:
    changed = with_count(body(enableAutoScaling=True, minCount=1, maxCount=3), count)
    assert (changed and changed["properties"]["maxCount"]) == most
    assert changed is None or changed["properties"]["count"] == 2


def test_subnets_are_the_system_pools() -> None:
    pools = {
        "a": body(mode="User", vnetSubnetID="/gpu"),
        "b": body(mode="System"),
        "c": body(mode="System", vnetSubnetID="/nodes", podSubnetID="/pods"),
    }
    assert network_of(pools) == Network(nodes="/nodes", pods="/pods")
    assert network_of({}) == Network()
