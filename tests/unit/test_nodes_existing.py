"""Nodes that are there: what is seen of them, drawn once, and the sizes that they are."""

from __future__ import annotations

from typing import Any

from kairay.nodes.existing import INSTANCE_TYPE, NodeViews, sizes_on, view_node
from kairay.skus import load_skus

A100, T4 = "Standard_NC24ads_A100_v4", "Standard_NC4as_T4_v3"


def node(name: str, size: str = A100, **room: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {INSTANCE_TYPE: size}},
        "status": {"allocatable": {"nvidia.com/gpu": "1", "cpu": "24", "memory": "220Gi", **room}},
    }


def test_a_node_is_drawn_once_and_again_when_another_object_is_in_its_place() -> None:
    views, stays, changes = NodeViews(), node("stays"), node("changes")
    first = views.of([stays, changes])
    assert first == (view_node(stays), view_node(changes))
    second = views.of([stays, node("changes", cpu="12")])
    assert second[0] is first[0]
    assert [each.cpus for each in second] == [24, 12]


def test_a_node_that_went_and_came_again_is_seen_as_it_came() -> None:
    views, old = NodeViews(), node("gpu-1")
    views.of([old])
    assert views.of([]) == ()
    assert [each.instance_type for each in views.of([node("gpu-1", T4)])] == [T4]


def test_many_nodes_of_one_size_are_one_size_and_what_advertises_slices_only_is_none() -> None:
    sliced = node("sliced", T4, **{"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "7"})
    views = [view_node(each) for each in (node("one"), node("two"), sliced)]
    sizes = sizes_on(views, load_skus())
    assert list(sizes) == [A100]
    assert sizes[A100].as_found
