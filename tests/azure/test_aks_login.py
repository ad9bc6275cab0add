"""Settings and credentials from the environment."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from azure.identity.aio import DefaultAzureCredential

from kairay.errors import InputError
from kairay.nodes.aks_login import excluded, open_credential
from kairay.nodes.aks_settings import PUBLIC_CLOUD, AksSettings, read_aks_settings

GIVEN = {"KAIRAY_AKS_SUBSCRIPTION": "s", "KAIRAY_AKS_RESOURCE_GROUP": "g", "KAIRAY_AKS_CLUSTER": "c"}


def test_three_names_are_enough() -> None:
    assert read_aks_settings(GIVEN) == AksSettings(subscription="s", resource_group="g", cluster="c")
    assert AksSettings(subscription="s", resource_group="g", cluster="c").endpoint == PUBLIC_CLOUD


def test_without_any_of_them_there_is_no_aks() -> None:
    assert read_aks_settings({"KAIRAY_AKS_LOCATION": "eastus"}) is None


def test_everything_can_be_said() -> None:
    more = {
        "KAIRAY_AKS_LOCATION": "eastus2",
        "KAIRAY_AKS_SUBNET": "/subnets/gpu",
        "KAIRAY_AKS_ENDPOINT": "http://127.0.0.1:8000/",
    }
    found = read_aks_settings({**GIVEN, **more})
    assert found == AksSettings(
        subscription="s",
        resource_group="g",
        cluster="c",
        location="eastus2",
        subnet="/subnets/gpu",
        endpoint="http://127.0.0.1:8000",
    )
    assert found.plain


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="KAIRAY_AKS_RESOURCE_GROUP and KAIRAY_AKS_CLUSTER"):
        read_aks_settings({"KAIRAY_AKS_SUBSCRIPTION": "s", "KAIRAY_AKS_CLUSTER": " "})


@pytest.mark.parametrize("address", ["management.azure.com", "ftp://x", "https://"])
def test_an_endpoint_that_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="KAIRAY_AKS_ENDPOINT"):
        read_aks_settings({**GIVEN, "KAIRAY_AKS_ENDPOINT": address})


def test_in_a_pod_the_tools_of_people_are_not_asked() -> None:
    left_out = excluded({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert left_out["exclude_cli_credential"]
    assert "exclude_workload_identity_credential" not in left_out
    assert "exclude_managed_identity_credential" not in left_out
    assert "exclude_environment_credential" not in left_out


@pytest.mark.parametrize(
    "environment",
    [{}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential"}],
)
def test_elsewhere_or_when_told_otherwise_the_chain_is_azures(environment: dict[str, str]) -> None:
    assert excluded(environment) == {}


def test_a_plain_address_gets_no_credential() -> None:
    settings = AksSettings(subscription="s", resource_group="g", cluster="c", endpoint="http://127.0.0.1:1")
    assert open_credential(settings, {}) is None


def test_a_pod_tries_service_principal_workload_and_managed_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AZURE_CLIENT_ID",
        "AZURE_TENANT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_TOKEN_CREDENTIALS",
    ):
        monkeypatch.delenv(name, raising=False)

    async def scenario() -> list[str]:
        settings = AksSettings(subscription="s", resource_group="g", cluster="c")
        credential = open_credential(settings, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
        assert isinstance(credential, DefaultAzureCredential)
        async with credential:
            return [type(each).__name__ for each in credential.credentials]

    tried = asyncio.run(scenario())
    assert len(tried) == 3
    assert (tried[0], tried[2]) == ("EnvironmentCredential", "ManagedIdentityCredential")


def test_planning_does_not_load_azures_sdk() -> None:
    modules = "kairay.plan, kairay.nodes.interface, kairay.nodes.aks_settings"
    code = f"import sys, {modules}; print('azure.core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
