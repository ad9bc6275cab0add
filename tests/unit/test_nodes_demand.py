"""Groups of nodes, their names, and how many nodes worker pods need."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kairay.nodes.demand import (
    REVISION_LABEL,
    ROLE_LABEL,
    WORKSPACE_LABEL,
    Coming,
    WorkerPod,
    nodes_for,
    nodes_wanted,
    view_group_node,
    view_worker,
)
from kairay.nodes.groups import Sharing, group_name, merge_groups, pool_name, tenant_of
from kairay.nodes.interface import GROUP_LABEL, GroupNode, NodeGroup, Offer
from kairay.objects import metadata
from kairay.ray import raycluster

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
A100, H100, T4 = (
    Offer(instance_type=f"Standard_{name}") for name in ("NC24ads_A100_v4", "NC40ads_H100_v5", "NC4as_T4_v3")
)


def waiting(name: str, gpus: int = 1, **more: Any) -> WorkerPod:
    return WorkerPod(
        namespace="team", workspace=more.pop("workspace", "chat"), name=name, group=more.pop("group", "g"),
        gpus=gpus, node=more.pop("node", None), created=more.pop("created", NOW), **more,
    )  # fmt: skip


def node(name: str, gpus: int = 1, **more: Any) -> GroupNode:
    return GroupNode(
        name=name, group=more.pop("group", "g"), pool=more.pop("pool", "kwpool"), gpus=gpus,
        ready=more.pop("ready", True), cordoned=more.pop("cordoned", False), created=NOW, **more,
    )  # fmt: skip


def pod_manifest(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "chat-worker-abcde", "namespace": "team", "creationTimestamp": "2026-11-25T12:00:00Z",
            "labels": {WORKSPACE_LABEL: "chat", ROLE_LABEL: "worker"},
        },
        "spec": {
            "nodeSelector": {GROUP_LABEL: "g"},
            "containers": [
                {"name": "ray-worker", "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "4"}}},
                {"name": "beside"},
            ],
            **spec,
        },
        "status": {"phase": "Pending"},
    }  # fmt: skip


def node_manifest(conditions: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    labels = {GROUP_LABEL: "g", "kubernetes.azure.com/agentpool": "kwpool"}
    return {
        "metadata": {
            "name": "node-1", "creationTimestamp": "2026-11-25T12:00:00Z", "labels": labels, **metadata,
        },
        "spec": {},
        "status": {
            "allocatable": {"nvidia.com/gpu": "4", "cpu": "24"},
            "conditions": [{"type": kind, "status": state} for kind, state in (conditions or {}).items()],
        },
    }  # fmt: skip


# -- names ---------------------------------------------------------------------------------------------------------


def all_names() -> dict[tuple[Any, ...], str]:
    axes = itertools.product(
        ("", "team", "team/chat", "teamchat"),
        (A100, H100, Offer(instance_type="Standard_NC24ads_A100_v4", spot=True)),
        (None, "ubuntu"),
        (None, {"zone": "a"}, {"zone": "b"}),
    )
    return {
        (tenant, offer, image, str(labels)): group_name(
            tenant=tenant, primary=offer, image_family=image, labels=labels
        )
        for tenant, offer, image, labels in axes
    }


def test_all_that_makes_nodes_unusable_for_others_makes_another_group() -> None:
    names = all_names()
    assert len(set(names.values())) == len(names) == 4 * 3 * 2 * 3


def test_no_group_s_name_is_the_beginning_of_another_s() -> None:
    names = set(all_names().values())
    assert all(re.fullmatch(r"[a-z0-9]{10}", name) for name in names)


def test_the_order_of_labels_does_not_matter_for_the_name() -> None:
    one = group_name(tenant="team", primary=A100, labels={"a": "1", "b": "2"})
    assert one == group_name(tenant="team", primary=A100, labels={"b": "2", "a": "1"})


def test_names_stay_as_they_are_from_release_to_release() -> None:
    group = group_name(tenant="team", primary=A100, image_family="ubuntu", labels={"apps": "phi-3"})
    assert (group, pool_name(group, A100)) == ("o3mr0h3vnw", "kwe29hkgmrm5")


def test_a_pool_s_name_is_one_that_aks_takes_and_differs_by_offer_and_group() -> None:
    spot = Offer(instance_type=A100.instance_type, spot=True)
    names = [pool_name(group, offer) for group in ("g1", "g2") for offer in (A100, spot, H100)]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"kw[a-z0-9]{10}", name) for name in names)


@pytest.mark.parametrize(
    ("sharing", "tenant"),
    [(Sharing.CLUSTER, ""), (Sharing.NAMESPACE, "team"), (Sharing.WORKSPACE, "team/chat")],
)
def test_sharing_decides_whose_nodes_are_used_together(sharing: Sharing, tenant: str) -> None:
    assert tenant_of(sharing, "team", "chat") == tenant


# -- merging -------------------------------------------------------------------------------------------------------


def group(*offers: Offer, name: str = "g") -> NodeGroup:
    return NodeGroup(name=name, offers=offers, gpus_per_node={offer.instance_type: 1 for offer in offers})


def test_workspaces_that_share_a_group_get_only_the_sizes_that_all_of_them_accept() -> None:
    merged = merge_groups([group(A100, H100, T4), group(A100, H100)])
    assert merged["g"].offers == (A100, H100)
    assert set(merged["g"].gpus_per_node) == {A100.instance_type, H100.instance_type}


def test_merging_gives_the_same_whatever_the_order() -> None:
    groups = [group(A100, H100, T4), group(A100, T4, H100), group(A100, T4, H100), group(T4, name="other")]
    results = {str(merge_groups(order)) for order in itertools.permutations(groups)}
    assert len(results) == 1
    assert merge_groups(groups)["g"].offers == (A100, T4, H100)


# -- reading pods and nodes ----------------------------------------------------------------------------------------


def test_a_worker_s_pod_is_read_with_its_gpus_and_group() -> None:
    seen = view_worker(pod_manifest())
    assert seen == waiting("chat-worker-abcde", gpus=2, serves=True)
    assert seen.waits
    assert not seen.holds


def test_only_the_workers_of_a_job_may_be_a_set() -> None:
    service, job = pod_manifest(), pod_manifest()
    job["metadata"]["labels"][REVISION_LABEL] = "abc123"
    sets = [seen and seen.gang for seen in map(view_worker, (service, job))]
    assert sets == [None, "team/chat"]


def test_gpus_are_counted_as_the_api_server_writes_quantities() -> None:
    many = [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": "1k"}}}]
    seen = view_worker(pod_manifest(containers=many))
    assert seen is not None
    assert seen.gpus == 1000


def test_labels_are_those_that_the_renderers_write() -> None:
    written = (metadata.WORKSPACE_LABEL, raycluster.ROLE_LABEL, metadata.REVISION_LABEL)
    assert written == (WORKSPACE_LABEL, ROLE_LABEL, REVISION_LABEL)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {WORKSPACE_LABEL: "chat", ROLE_LABEL: "head"}},
        {"labels": {ROLE_LABEL: "worker"}},
        {"labels": None},
    ],
)
def test_pods_that_are_no_workers_of_ours_are_left_out(change: dict[str, Any]) -> None:
    pod = pod_manifest()
    pod["metadata"] |= change
    assert view_worker(pod) is None


@pytest.mark.parametrize("selector", [None, {}, {"apps": "phi-3"}])
def test_a_worker_on_nodes_that_were_there_already_needs_none(selector: dict[str, str] | None) -> None:
    assert view_worker(pod_manifest(nodeSelector=selector)) is None


def test_a_pod_that_is_being_deleted_holds_its_node_and_one_that_has_ended_does_not() -> None:
    placed = pod_manifest(nodeName="node-1")
    going = {**placed, "metadata": {**placed["metadata"], "deletionTimestamp": "2026-11-25T12:01:00Z"}}
    ended = {**placed, "status": {"phase": "Failed"}}
    held = [bool(seen and seen.holds) for seen in map(view_worker, (placed, going, ended))]
    assert held == [True, True, False]


def test_a_pod_that_is_being_deleted_waits_for_nothing() -> None:
    pod = pod_manifest()
    pod["metadata"]["deletionTimestamp"] = "2026-11-25T12:01:00Z"
    seen = view_worker(pod)
    assert seen is not None
    assert not seen.waits


def test_a_node_is_read_with_its_pool_and_what_it_advertises() -> None:
    assert view_group_node(node_manifest({"Ready": "True"})) == node("node-1", gpus=4)


def test_karpenter_s_nodes_have_its_pool() -> None:
    seen = view_group_node(node_manifest(labels={GROUP_LABEL: "g", "karpenter.sh/nodepool": "kwother"}))
    assert seen is not None
    assert seen.pool == "kwother"


@pytest.mark.parametrize(
    "labels", [None, {GROUP_LABEL: "g"}, {"kubernetes.azure.com/agentpool": "kwpool"}],
)  # fmt: skip
def test_nodes_of_no_group_or_no_pool_are_left_out(labels: dict[str, str] | None) -> None:
    assert view_group_node(node_manifest(labels=labels)) is None


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("PreemptScheduled", "takes the spot machine back"),
        ("PreemptionScheduled", "takes the spot machine back"),
        ("VMEventScheduled", "scheduled an event"),
        ("GPUMissing", "a GPU is missing"),
        ("XIDErrors", "XID"),
        ("UnhealthyNvidiaDevicePlugin", "device plugin"),
    ],
)
def test_a_node_s_own_conditions_say_when_it_is_going(condition: str, words: str) -> None:
    troubled = view_group_node(node_manifest({"Ready": "True", condition: "True"}))
    sound = view_group_node(node_manifest({"Ready": "True", condition: "False", "MemoryPressure": "True"}))
    assert troubled is not None
    assert words in str(troubled.trouble)
    assert sound is not None
    assert sound.trouble is None


# -- packing -------------------------------------------------------------------------------------------------------


def new_nodes(demand_pods: list[WorkerPod], gpus: int) -> int:
    return nodes_for(nodes_wanted("g", demand_pods, ()).missing, gpus)[0]


@pytest.mark.parametrize(
    ("sizes", "gpus_per_node", "wanted"),
    [
        ([1], 1, 1),
        ([1, 1, 1, 1], 4, 1),
        ([2, 1, 1], 4, 1),
        ([3, 3, 2], 4, 3),
        ([1, 3, 1, 3], 4, 2),
        ([], 4, 0),
        ([8, 8], 8, 2),
        ([0, 0, 0], 1, 1),
    ],
)
def test_pods_are_packed_and_none_is_split_over_nodes(
    sizes: list[int], gpus_per_node: int, wanted: int
) -> None:
    pods = [waiting(f"p{index}", gpus) for index, gpus in enumerate(sizes)]
    assert new_nodes(pods, gpus_per_node) == wanted


def test_a_pod_that_is_larger_than_any_node_is_named_and_asks_for_none() -> None:
    count, larger = nodes_for([waiting("small", 1), waiting("large", 8)], 4)
    assert (count, [pod.name for pod in larger]) == (1, ["large"])


def test_free_gpus_of_nodes_that_are_there_are_used_first() -> None:
    pods = [waiting("on", 3, node="n1"), waiting("fits", 1), waiting("more", 2)]
    demand = nodes_wanted("g", pods, [node("n1", gpus=4)])
    assert (demand.held, demand.useful, demand.placed) == ({"n1"}, {"n1"}, 1)
    assert [pod.name for pod in demand.missing] == ["more"]


def test_nodes_on_their_way_take_pods_that_wait() -> None:
    pods = [waiting(f"p{index}", 2) for index in range(3)]
    demand = nodes_wanted("g", pods, (), coming=[Coming(pool="kwpool", gpus=4, count=1)])
    assert (demand.expected, len(demand.missing), demand.waiting) == (2, 1, 3)


def test_a_node_that_has_not_got_its_gpus_yet_counts_with_what_it_will_have() -> None:
    fresh = node("n1", gpus=0, ready=False)
    assert nodes_wanted("g", [waiting("p")], [fresh]).missing
    assert not nodes_wanted("g", [waiting("p")], [fresh], sizes={"kwpool": 1}).missing


@pytest.mark.parametrize(
    "change", [{"cordoned": True}, {"trouble": "its GPU is missing"}, {"group": "other"}, {"gpus": 0}],
)  # fmt: skip
def test_nodes_that_take_no_pods_are_no_room(change: dict[str, Any]) -> None:
    assert len(nodes_wanted("g", [waiting("p")], [node("n1", **change)]).missing) == 1


def test_a_node_that_we_closed_is_used_again_before_a_new_one_comes() -> None:
    nodes = [node("a-closed", cordoned=True), node("open")]
    both = nodes_wanted("g", [waiting("p1"), waiting("p2")], nodes, ours=frozenset({"a-closed"}))
    one = nodes_wanted("g", [waiting("p1")], nodes, ours=frozenset({"a-closed"}))
    assert (both.useful, both.missing) == ({"a-closed", "open"}, ())
    assert one.useful == {"open"}


def test_pods_go_to_used_nodes_first_so_that_empty_ones_can_leave() -> None:
    pods = [waiting("on", 1, node="n2"), waiting("new", 1)]
    demand = nodes_wanted("g", pods, [node("n1", gpus=4), node("n2", gpus=4)])
    assert demand.useful == {"n2"}


def test_pods_that_end_or_go_free_their_gpus_at_the_right_time() -> None:
    going = nodes_wanted("g", [waiting("old", node="n1", going=True), waiting("new")], [node("n1")])
    ended = nodes_wanted("g", [waiting("old", node="n1", finished=True), waiting("new")], [node("n1")])
    assert (len(going.missing), len(ended.missing)) == (1, 0)


def test_other_groups_pods_do_not_count() -> None:
    pods = [waiting("p1"), waiting("p2", group="other", created=NOW - timedelta(hours=1))]
    assert [pod.name for pod in nodes_wanted("g", pods, ()).missing] == ["p1"]
