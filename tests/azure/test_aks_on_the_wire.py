"""The provider with Azure's real SDK against the simulator: what goes over the wire, and what comes of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from aks_scenario import A100, H100, machines, made, ours, refused, run, spec
from kairay.nodes.aks import AksProvider
from kairay.nodes.interface import Offer, Pool, PoolState, RefusalKind, RefusedError
from simulator import Simulator


def last(azure: Simulator, call: str) -> dict[str, Any]:
    return [entry for entry in azure.arm.log if entry["call"] == call][-1]


def test_a_pool_is_made_in_one_write_and_ready_when_its_operation_ends(azure: Simulator) -> None:
    async def scenario(provider: AksProvider) -> None:
        await provider.ensure(spec(), 2)
        busy = await ours(provider)
        assert (busy.state, busy.phase, busy.count) == (PoolState.BUSY, "Creating", 2)
        azure.advance(240)
        ready = await ours(provider)
        assert (ready.state, ready.phase, ready.group) == (PoolState.READY, "Succeeded", "ga100")

    run(azure, scenario)
    assert azure.arm.calls == {"PUT pool": 1, "GET pools": 2}
    assert last(azure, "PUT pool")["headers"]["if-none-match"] == "*"
    assert {entry["query"]["api-version"] for entry in azure.arm.log} == {"2026-08-01"}


def test_a_created_pool_says_all_that_kairay_decides(azure: Simulator) -> None:
    run(
        azure,
        lambda p: p.ensure(
            spec(spot=True, labels={"app": "phi"}, tenant="ml/phi", image_family="azurelinux"), 1
        ),
    )
    assert last(azure, "PUT pool")["body"] == {
        "properties": {
            "mode": "User",
            "type": "VirtualMachineScaleSets",
            "osType": "Linux",
            "osSKU": "AzureLinux",
            "vmSize": A100,
            "count": 1,
            "enableAutoScaling": False,
            "scaleDownMode": "Delete",
            "scaleSetPriority": "Spot",
            "scaleSetEvictionPolicy": "Delete",
            "spotMaxPrice": -1.0,
            "gpuProfile": {"driver": "Install"},
            "nodeTaints": ["sku=gpu:NoSchedule"],
            "nodeLabels": {"app": "phi", "kairay.dev/managed-by": "kairay", "kairay.dev/pool": "ga100"},
            "tags": {"kairay-managed-by": "kairay", "kairay-pool": "ga100", "kairay-tenant": "ml/phi"},
        }
    }


def test_new_pools_use_the_subnet_of_the_system_pool_unless_told_otherwise(azure: Simulator) -> None:
    azure.cloud.change("system", vnetSubnetID="/subnets/nodes", podSubnetID="/subnets/pods")

    async def scenario(provider: AksProvider) -> None:
        await provider.pools()
        await provider.ensure(spec(), 1)

    run(azure, scenario)
    made_of = azure.cloud.pools["kra100"].properties
    assert (made_of["vnetSubnetID"], made_of["podSubnetID"]) == ("/subnets/nodes", "/subnets/pods")
    azure.advance(240)
    run(azure, lambda p: p.ensure(spec("krh100", H100), 1), subnet="/subnets/gpu")
    assert azure.cloud.pools["krh100"].properties["vnetSubnetID"] == "/subnets/gpu"


def test_a_pool_whose_name_is_taken_is_left_as_it_is(azure: Simulator) -> None:
    azure.cloud.add_foreign("kra100", {"vmSize": A100, "count": 1})
    before = copy.deepcopy(azure.cloud.pools["kra100"].properties)

    async def scenario(provider: AksProvider) -> None:
        await provider.pools()
        await provider.ensure(spec(), 2)

    refusal = refused(azure, scenario)
    assert refusal.kind is RefusalKind.CONFLICT
    assert "somebody else's" in refusal.message
    assert azure.cloud.pools["kra100"].properties == before


def test_a_pool_of_another_group_with_the_same_name_is_a_conflict_that_names_the_group(
    azure: Simulator,
) -> None:
    made(azure)
    other = spec()
    other = replace(other, group=replace(other.group, name="gother"))

    async def scenario(provider: AksProvider) -> None:
        await provider.pools()
        await provider.ensure(other, 1)

    refusal = refused(azure, scenario)
    assert refusal.kind is RefusalKind.CONFLICT
    assert "of group ga100" in refusal.message


def test_a_pass_lists_once_and_a_change_is_one_write_of_the_whole_object(azure: Simulator) -> None:
    made(azure)
    azure.cloud.change(
        "kra100",
        upgradeSettings={"maxSurge": "10%"},
        nodeTaints=["sku=gpu:NoSchedule", "team=a:NoSchedule"],
        kubeletConfig={"podMaxPids": 200},
    )
    before = copy.deepcopy(azure.cloud.pools["kra100"].properties)

    async def scenario(provider: AksProvider) -> None:
        await provider.scale(await ours(provider), 5)

    run(azure, scenario)
    assert azure.arm.calls == {"GET pools": 1, "PUT pool": 1}
    put = last(azure, "PUT pool")
    assert put["headers"]["if-match"] == f'"{before["eTag"]}"'
    volatile = ("eTag", "provisioningState", "count")
    after = azure.cloud.pools["kra100"].properties
    assert {k: v for k, v in after.items() if k not in volatile} == {
        k: v for k, v in before.items() if k not in volatile
    }
    assert after["count"] == 5
    assert not {"eTag", "provisioningState", "status", "id", "name"} & {
        *put["body"],
        *put["body"]["properties"],
    }


def test_fields_that_this_version_does_not_know_are_written_back_as_they_were(azure: Simulator) -> None:
    made(azure)
    azure.arm.checks = False
    azure.cloud.change("kra100", aFieldOfNextYear={"mode": "Some"})

    async def scenario(provider: AksProvider) -> None:
        await provider.scale(await ours(provider), 3)

    run(azure, scenario)
    assert last(azure, "PUT pool")["body"]["properties"]["aFieldOfNextYear"] == {"mode": "Some"}


def test_a_pool_that_changed_since_the_listing_is_not_written(azure: Simulator) -> None:
    made(azure)

    async def scenario(provider: AksProvider) -> None:
        pool = await ours(provider)
        azure.cloud.change("kra100", nodeTaints=["held=true:NoExecute"])
        await provider.scale(pool, 3)

    assert refused(azure, scenario).kind is RefusalKind.CONFLICT
    assert azure.cloud.pools["kra100"].properties["count"] == 2
    assert azure.cloud.pools["kra100"].properties["nodeTaints"] == ["held=true:NoExecute"]


def test_a_controller_that_restarted_scales_by_the_version_it_remembers(azure: Simulator) -> None:
    made(azure)
    pool = run(azure, ours)
    run(azure, lambda provider: provider.scale(pool, 3))
    assert azure.arm.calls == {"GET pools": 1, "GET pool": 1, "PUT pool": 1}
    assert refused(azure, lambda provider: provider.scale(pool, 4)).kind is RefusalKind.CONFLICT
    assert azure.cloud.pools["kra100"].properties["count"] == 3


@pytest.mark.parametrize("call", ["scale", "remove", "delete"])
def test_a_pool_of_somebody_else_is_never_written(azure: Simulator, call: str) -> None:
    azure.cloud.add_foreign(
        "theirs", {"vmSize": A100, "count": 1, "nodeLabels": {"kairay.dev/pool": "ga100"}}
    )

    async def scenario(provider: AksProvider) -> None:
        (pool,) = [pool for pool in await provider.pools() if pool.name == "theirs"]
        assert pool.group is None
        await {
            "scale": lambda: provider.scale(pool, 3),
            "remove": lambda: provider.remove(pool, machines(azure, "theirs")),
            "delete": lambda: provider.delete(pool),
        }[call]()

    refusal = refused(azure, scenario)
    assert (refusal.kind, refusal.code) == (RefusalKind.INVALID, "ForeignPool")
    assert azure.arm.calls == {"GET pools": 1}


def test_a_pool_whose_tags_were_taken_away_is_not_ours_any_more(azure: Simulator) -> None:
    made(azure)
    pool = run(azure, ours)
    azure.cloud.change("kra100", tags={})
    assert refused(azure, lambda provider: provider.scale(pool, 5)).kind is RefusalKind.CONFLICT
    assert all(pool.group is None for pool in run(azure, AksProvider.pools))


def test_a_smaller_count_is_refused_because_azure_would_choose_the_nodes(azure: Simulator) -> None:
    made(azure, 3)

    async def scenario(provider: AksProvider) -> None:
        await provider.scale(await ours(provider), 2)

    assert refused(azure, scenario).code == "WouldRemoveNodes"
    assert azure.arm.calls == {"GET pools": 1}


def test_exactly_the_named_nodes_go_and_the_count_follows(azure: Simulator) -> None:
    made(azure, 3)
    first, second, third = machines(azure)

    async def scenario(provider: AksProvider) -> Pool:
        await provider.remove(await ours(provider), [second])
        azure.advance(60)
        return await ours(provider)

    pool = run(azure, scenario)
    assert (pool.count, pool.state) == (2, PoolState.READY)
    assert machines(azure) == [first, third]
    assert azure.arm.calls == {"GET pools": 2, "POST deleteMachines": 1}


@pytest.mark.parametrize("names", [[], ["aks-kra100-1-vmss00ffff"]], ids=["none", "gone already"])
def test_names_that_are_gone_already_are_fine(azure: Simulator, names: list[str]) -> None:
    made(azure)

    async def scenario(provider: AksProvider) -> None:
        await provider.remove(await ours(provider), names)

    run(azure, scenario)
    assert len(machines(azure)) == 2


def test_nodes_of_a_pool_that_is_gone_are_gone(azure: Simulator) -> None:
    made(azure)
    pool = run(azure, ours)
    del azure.cloud.pools["kra100"]
    run(azure, lambda provider: provider.remove(pool, ["aks-kra100-1-vmss000000"]))
    run(azure, lambda provider: provider.delete(pool))
    assert refused(azure, lambda provider: provider.scale(pool, 3)).kind is RefusalKind.GONE


def test_a_deleted_pool_is_busy_and_then_not_there(azure: Simulator) -> None:
    made(azure, 0)

    async def scenario(provider: AksProvider) -> None:
        pool = await ours(provider)
        await provider.delete(pool)
        deleting = await ours(provider)
        assert (deleting.state, deleting.phase) == (PoolState.BUSY, "Deleting")
        with pytest.raises(RefusedError) as again:
            await provider.delete(deleting)
        assert again.value.refusal.kind is RefusalKind.BUSY
        azure.advance(120)
        assert [pool.name for pool in await provider.pools()] == ["system"]

    run(azure, scenario)


def test_a_pool_that_was_changed_meanwhile_is_not_deleted(azure: Simulator) -> None:
    made(azure)
    pool = run(azure, ours)
    azure.cloud.change("kra100", count=4)
    assert refused(azure, lambda provider: provider.delete(pool)).kind is RefusalKind.CONFLICT
    assert "kra100" in azure.cloud.pools


def test_where_an_autoscaler_decides_only_the_upper_bound_is_raised(azure: Simulator) -> None:
    made(azure)
    azure.cloud.change("kra100", enableAutoScaling=True, minCount=0, maxCount=3)

    async def scenario(provider: AksProvider) -> None:
        pool = await ours(provider)
        assert pool.bounds == (0, 3)
        await provider.scale(pool, 3)
        await provider.scale(pool, 6)

    run(azure, scenario)
    properties = azure.cloud.pools["kra100"].properties
    assert (properties["maxCount"], properties["minCount"], properties["count"]) == (6, 0, 2)
    assert azure.arm.calls == {"GET pools": 1, "PUT pool": 1}


def test_an_autoscaler_turned_on_between_listing_and_write_is_seen(azure: Simulator) -> None:
    made(azure)

    async def scenario(provider: AksProvider) -> None:
        pool = await ours(provider)
        azure.cloud.change("kra100", enableAutoScaling=True, minCount=0, maxCount=3)
        await provider.scale(pool, 5)

    assert refused(azure, scenario).kind is RefusalKind.CONFLICT


def test_while_an_operation_runs_a_change_is_refused_as_busy(azure: Simulator) -> None:
    run(azure, lambda provider: provider.ensure(spec(), 1))

    async def scenario(provider: AksProvider) -> None:
        await provider.scale(await ours(provider), 2)

    refusal = refused(azure, scenario)
    assert (refusal.kind, refusal.avoid_seconds) == (RefusalKind.BUSY, 0)
    assert refusal.retry_after > 0
    azure.advance(240)
    run(azure, scenario)
    assert azure.cloud.pools["kra100"].properties["count"] == 2


def test_an_operation_on_the_cluster_blocks_new_pools_too(azure: Simulator) -> None:
    azure.cloud.cluster_busy_until = 100
    assert refused(azure, lambda provider: provider.ensure(spec(), 1)).kind is RefusalKind.BUSY


def test_a_restart_in_the_middle_of_an_operation_forgets_nothing_and_asks_for_nothing_twice(
    azure: Simulator,
) -> None:
    run(azure, lambda provider: provider.ensure(spec(), 2))
    azure.advance(100)
    assert run(azure, ours).state is PoolState.BUSY
    azure.advance(140)
    pool = run(azure, ours)
    assert (pool.state, pool.count, pool.group) == (PoolState.READY, 2, "ga100")
    assert azure.arm.calls == {"PUT pool": 1, "GET pools": 2}
    assert len(machines(azure)) == 2


def test_a_failed_operation_is_told_by_the_pool_with_its_innermost_cause(azure: Simulator) -> None:
    azure.cloud.capacity[A100] = 1
    run(azure, lambda provider: provider.ensure(spec(), 2))
    azure.advance(240)
    pool = run(azure, ours)
    assert (pool.state, pool.count, len(machines(azure))) == (PoolState.FAILED, 2, 1)
    assert pool.refusal is not None
    assert (pool.refusal.kind, pool.refusal.code) == (RefusalKind.CAPACITY, "AllocationFailed")
    assert pool.refusal.avoid_seconds == 3600
    assert A100 in pool.refusal.message


@pytest.mark.parametrize("lowers", [True, False])
def test_an_evicted_spot_node_comes_back_when_the_count_is_written_again(
    azure: Simulator, lowers: bool
) -> None:
    azure.cloud.eviction_lowers_count = lowers
    made(azure, 2, spot=True)
    azure.cloud.evict("kra100")

    async def scenario(provider: AksProvider) -> None:
        await provider.scale(await ours(provider), 2)

    run(azure, scenario)
    assert (len(machines(azure)), azure.arm.calls["PUT pool"]) == (2, 1)


def test_a_stopped_pool_says_how_to_start_it(azure: Simulator) -> None:
    made(azure)
    azure.cloud.change("kra100", powerState={"code": "Stopped"})
    pool = run(azure, ours)
    assert (pool.state, pool.phase) == (PoolState.FAILED, "Stopped")
    assert pool.refusal is not None
    assert "az aks nodepool start" in pool.refusal.message


def test_labels_that_aks_keeps_for_itself_are_refused_by_name_before_anything_is_sent(
    azure: Simulator,
) -> None:
    reserved = spec(labels={"kubernetes.azure.com/team": "ml"})
    refusal = refused(azure, lambda provider: provider.ensure(reserved, 1))
    assert "kubernetes.azure.com/team=ml" in refusal.message
    assert not azure.arm.log


def test_a_label_that_aks_sets_to_that_value_anyway_is_left_to_it(azure: Simulator) -> None:
    run(azure, lambda p: p.ensure(spec(labels={"node.kubernetes.io/instance-type": A100}), 1))
    assert (
        "node.kubernetes.io/instance-type" not in last(azure, "PUT pool")["body"]["properties"]["nodeLabels"]
    )
    azure.advance(120)
    node = azure.nodes()[0]
    assert (
        node["metadata"]["labels"].items()
        >= {
            "node.kubernetes.io/instance-type": A100,
            "kairay.dev/pool": "ga100",
        }.items()
    )


def test_offers_tell_spot_from_on_demand(azure: Simulator) -> None:
    made(azure, spot=True)
    assert run(azure, ours).offer == Offer(instance_type=A100, spot=True)
