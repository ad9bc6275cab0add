"""Who we are towards Azure: a workload identity, a managed identity, a service principal or the Azure CLI's user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from azure.identity.aio import DefaultAzureCredential

from kairay.nodes.aks_settings import AksSettings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

CHOICE = "AZURE_TOKEN_CREDENTIALS"
"""azure-identity's own variable: `prod`, `dev` or the name of one credential."""
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
# Asking these takes minutes in a pod, and an answer would be a surprise.
_OF_PEOPLE = (
    "shared_token_cache_credential",
    "visual_studio_code_credential",
    "cli_credential",
    "developer_cli_credential",
    "powershell_credential",
)


def open_credential(settings: AksSettings, environment: Mapping[str, str]) -> AsyncTokenCredential | None:
    """The credential that the environment gives; None for a plain HTTP endpoint, where no token may go.

    azure-identity's usual chain: a service principal's variables, a workload identity, a managed identity, then the
    tools of people (Azure CLI and others). In a pod those of people are left out, as `AZURE_TOKEN_CREDENTIALS=prod`
    does, unless that variable says otherwise. Nothing is asked before the first token is needed.
    """
    if settings.plain:
        return None
    return DefaultAzureCredential(**excluded(environment))


def excluded(environment: Mapping[str, str]) -> dict[str, bool]:
    """Which credentials of the chain are left out."""
    if environment.get(CHOICE, "").strip() or _IN_A_POD not in environment:
        return {}
    return {f"exclude_{name}": True for name in _OF_PEOPLE}
