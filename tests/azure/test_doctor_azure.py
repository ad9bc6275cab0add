"""`kairay doctor` where AKS brings the nodes: what it sees of the simulated Azure, and what it calls missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from aks_scenario import A100, FAMILY, H100, settings
from doctor_scenes import account, controller, whole
from kairay.cluster.checks import check
from kairay.cluster.checks_nodes import check_need
from kairay.cluster.doctor_azure import observe_azure
from kairay.cluster.findings import Finding, Status
from kairay.cluster.observed import AzureSeen, Need, Observed
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import Offer
from simulator import Fault, Simulator

LACKS = (
    "The client 'x' with object id 'y' does not have authorization to perform action '{action}' over scope '/s' or "
    "the scope is invalid."
)
REAL = AksSettings(subscription="s", resource_group="g", cluster="c")


IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def look(azure: Simulator, environment: dict[str, str] | None = None, **changes: Any) -> AzureSeen:
    return asyncio.run(observe_azure(settings(azure, **changes), environment or {}))


def observed(seen: AzureSeen, **changes: Any) -> Observed:
    return whole(settings={"KAIRAY_NODES_PROVIDER": "aks"}, azure=seen, **changes)


def findings(azure: Simulator, **changes: Any) -> dict[str, Finding]:
    return {each.name: each for each in check(observed(look(azure, **changes)))}


def complaints(azure: Simulator, **changes: Any) -> dict[str, Status]:
    return {
        name: each.status for name, each in findings(azure, **changes).items() if each.status is not Status.OK
    }


def refuse(azure: Simulator, call: str, action: str) -> None:
    message = LACKS.format(action=action)
    azure.cloud.faults.append(Fault(code="AuthorizationFailed", status=403, call=call, message=message))


def quota(azure: Simulator, **limits: int) -> None:
    azure.cloud.quota.limits |= {FAMILY: 0, "cores": 1000, **limits}


def test_a_cluster_with_quota_has_no_complaint_and_is_only_read(azure: Simulator) -> None:
    quota(azure, **{FAMILY: 96})
    found = findings(azure)
    assert {name for name, each in found.items() if each.status is not Status.OK} == set()
    assert found["GPU quota"].sentence == f"{FAMILY} vCPUs: 96 of 96 left (4 × {A100})"
    assert "ml in eastus; that pools may be written" in found["AKS cluster"].sentence
    assert all(entry["call"].startswith("GET ") for entry in azure.arm.log)


def test_no_quota_of_any_gpu_family_is_missing(azure: Simulator) -> None:
    quota(azure)
    found = findings(azure)["GPU quota"]
    assert found.status is Status.MISSING
    assert f"{FAMILY} vCPUs 0 of 0" in found.sentence
    assert "Azure portal" in found.sentence


def test_a_region_without_vcpus_left_has_no_room_for_any_family(azure: Simulator) -> None:
    quota(azure, **{FAMILY: 96, "cores": 10})
    assert findings(azure)["GPU quota"].status is Status.MISSING


@pytest.mark.parametrize(
    ("call", "action", "name", "status"),
    [
        ("GET cluster", "Microsoft.ContainerService/managedClusters/read", "AKS cluster", Status.MISSING),
        ("GET pools", "Microsoft.ContainerService/managedClusters/agentPools/read", "node pools", Status.MISSING),
        ("GET usages", "Microsoft.Compute/locations/usages/read", "GPU quota", Status.WARNING),
    ],
)  # fmt: skip
def test_a_permission_that_is_missing_is_named(
    azure: Simulator, call: str, action: str, name: str, status: Status
) -> None:
    quota(azure, **{FAMILY: 96})
    refuse(azure, call, action)
    found = findings(azure, environment=IN_POD)[name]
    assert found.status is status
    assert action in found.sentence
    assert "Kairay's identity" not in found.sentence


def test_what_a_person_may_not_see_is_not_called_missing(azure: Simulator) -> None:
    refuse(azure, "GET cluster", "Microsoft.ContainerService/managedClusters/read")
    found = findings(azure)["AKS cluster"]
    assert found.status is Status.WARNING
    assert "Microsoft.ContainerService/managedClusters/read" in found.sentence
    assert "exec deployment/kairay-controller -- kairay doctor" in found.sentence


def test_an_unknown_cluster_is_one_finding_with_the_variables_to_check(azure: Simulator) -> None:
    found = findings(azure, cluster="other")
    assert found["AKS cluster"].status is Status.MISSING
    assert "managedClusters/other' under resource group 'ml' was not found" in found["AKS cluster"].sentence
    assert "check KAIRAY_AKS_SUBSCRIPTION" in found["AKS cluster"].sentence
    assert "node pools" not in found
    assert found["GPU quota"].status is Status.WARNING
    assert "region is not known" in found["GPU quota"].sentence


def test_an_unknown_group_names_the_variables(azure: Simulator) -> None:
    assert "KAIRAY_AKS_RESOURCE_GROUP" in findings(azure, resource_group="other")["AKS cluster"].sentence


def test_an_azure_that_does_not_answer_is_a_finding(azure: Simulator) -> None:
    found = findings(azure, endpoint="http://127.0.0.1:9")
    assert found["AKS cluster"].status is Status.MISSING
    assert "does not answer" in found["AKS cluster"].sentence
    assert "asked again" not in found["AKS cluster"].sentence


def test_a_location_beside_the_clusters_is_a_warning(azure: Simulator) -> None:
    quota(azure, **{FAMILY: 96})
    assert complaints(azure, location="westus") == {"region": Status.WARNING}


@pytest.mark.parametrize(("count", "status"), [(90, None), (97, Status.WARNING), (99, Status.MISSING)])
def test_room_for_pools_is_counted(azure: Simulator, count: int, status: Status | None) -> None:
    quota(azure, **{FAMILY: 96})
    for number in range(count):
        azure.cloud.add_foreign(f"p{number}", {"vmSize": "Standard_D4s_v5", "count": 0})
    assert complaints(azure).get("node pools") == status


def changed(azure: Simulator, **properties: Any) -> dict[str, Status]:
    """Complaints about the cluster with other properties."""
    seen = look(azure)
    assert isinstance(seen.cluster, dict)
    cluster = {**seen.cluster, "properties": {**seen.cluster["properties"], **properties}}
    given = {name: getattr(seen, name) for name in AzureSeen.__dataclass_fields__}
    findings = check(observed(AzureSeen(**{**given, "cluster": cluster})))
    return {each.name: each.status for each in findings if each.status is not Status.OK}


def test_auto_provisioning_beside_kairay_is_a_warning(azure: Simulator) -> None:
    quota(azure, **{FAMILY: 96})
    found = changed(azure, nodeProvisioningProfile={"mode": "Auto"})
    assert found == {"node auto-provisioning": Status.WARNING}


def test_a_stopped_cluster_is_missing(azure: Simulator) -> None:
    quota(azure, **{FAMILY: 96})
    assert changed(azure, powerState={"code": "Stopped"}) == {"AKS cluster": Status.MISSING}


def test_a_cluster_without_a_system_pool_is_missing_one(azure: Simulator) -> None:
    quota(azure, **{FAMILY: 96})
    azure.cloud.pools.clear()
    assert complaints(azure)["system pool"] is Status.MISSING


def need(*offers: Offer, nodes: int = 1) -> Need:
    return Need(workspace="w", ready=True, sentence="comes", nodes=nodes, offers=offers)


@pytest.mark.parametrize(
    ("wanted", "status", "says"),
    [
        (need(Offer(instance_type=A100)), Status.OK, f"1 × {A100} fits the quota {FAMILY} vCPUs"),
        (need(Offer(instance_type=H100), Offer(instance_type=A100)), Status.OK, f"1 × {A100} fits"),
        (need(Offer(instance_type=A100), nodes=3), Status.MISSING, "0 of 48 used, 72 more needed"),
        (need(Offer(instance_type=H100)), Status.MISSING, "NotAvailableForSubscription"),
        (need(Offer(instance_type="Standard_Nonsense")), Status.WARNING, "the create call is the judge"),
    ],
)
def test_the_sizes_of_a_workspace_are_held_against_quota(
    azure: Simulator, wanted: Need, status: Status, says: str
) -> None:
    quota(azure, **{FAMILY: 48})
    azure.cloud.restricted[H100] = "NotAvailableForSubscription"
    (found,) = check_need(wanted, observed(look(azure)))
    assert found.status is status
    assert says in found.sentence


class Login:
    """A credential that gives a token, or what it is told to raise."""

    def __init__(self, error: ClientAuthenticationError | None = None) -> None:
        self.error, self.closed, self.scopes = error, False, []  # type: ignore[var-annotated]

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes += scopes
        if self.error is not None:
            raise self.error
        return AccessToken("t", 4_000_000_000)

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Login:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def test_without_a_login_nothing_else_is_asked() -> None:
    login = Login(
        ClientAuthenticationError(message="AADSTS700213: No matching federated identity record found")
    )
    seen = asyncio.run(observe_azure(REAL, IN_POD, open_login=lambda *_: login))
    found = {each.name: each for each in check(observed(seen))}
    assert login.closed
    assert login.scopes == ["https://management.azure.com/.default"]
    assert found["Azure login"].status is Status.MISSING
    assert "federated credential" in found["Azure login"].sentence
    assert "AKS cluster" not in found


@pytest.mark.parametrize(
    ("annotations", "labels", "says"),
    [
        ({}, {"azure.workload.identity/use": "true"}, "no annotation azure.workload.identity/client-id"),
        ({"azure.workload.identity/client-id": "1"}, {}, "no label azure.workload.identity/use"),
        ({"azure.workload.identity/client-id": "1"}, {"azure.workload.identity/use": "true"}, "is client 1"),
    ],
)
def test_a_workload_identity_needs_an_annotation_and_a_label(
    annotations: dict[str, str], labels: dict[str, str], says: str
) -> None:
    login = Login(ClientAuthenticationError(message="none"))
    seen = asyncio.run(observe_azure(REAL, {}, open_login=lambda *_: login))
    deployment = controller()
    deployment["spec"]["template"]["metadata"]["labels"] = labels
    found = {
        each.name: each
        for each in check(observed(seen, account=account(**annotations), deployments=(deployment,)))
    }
    assert says in found["workload identity"].sentence
    assert (found["workload identity"].status is Status.OK) == ("client 1" in says)
