"""The one seam to Azure's SDK: a client without retries, pollers or surprise writes, and its errors as refusals.

The async client, not threads around the sync one: a cancelled pass then really ends its request. The api-version is
pinned, because each release of the SDK moves its default and the wire form with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline import policies
from azure.core.rest import HttpRequest
from azure.mgmt.containerservice.aio import ContainerServiceClient
from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

from kairay import __version__
from kairay.errors import HostError
from kairay.nodes.aks_complaint import Complaint
from kairay.nodes.aks_refusals import refusal_of
from kairay.nodes.aks_settings import AksSettings
from kairay.nodes.interface import Offer, RefusedError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

API_VERSION: Final = "2026-08-01"
_NO_ANSWER: Final = "NoAnswer"
_CONNECT_SECONDS, _READ_SECONDS = 10, 60


def open_client(
    settings: AksSettings,
    credential: AsyncTokenCredential | None,
    authentication: policies.SansIOHTTPPolicy[Any, Any] | None = None,
) -> ContainerServiceClient:
    """A client for the settings' endpoint; `authentication` stands in for the bearer token.

    HostError when neither is given and the endpoint is not plain HTTP.
    """
    if credential is None and authentication is None and not settings.plain:
        raise HostError(
            f"{settings.endpoint} is not asked without a login; see docs/aks.md, or use a plain http address"
        )
    return ContainerServiceClient(
        credential or _NoLogin(),
        settings.subscription,
        base_url=settings.endpoint,
        api_version=API_VERSION,
        policies=_policies(settings, credential, authentication),
        connection_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
    )


class _NoLogin:
    """The SDK wants a credential where none is used."""

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        raise ClientAuthenticationError(message=f"no login for {', '.join(scopes)}")

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> _NoLogin:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


def _policies(
    settings: AksSettings,
    credential: AsyncTokenCredential | None,
    authentication: policies.SansIOHTTPPolicy[Any, Any] | None,
) -> list[Any]:
    """The SDK's usual ones but two: retries (the caller owns when to ask again), and the one that answers
    MissingSubscriptionRegistration by registering a provider."""
    if authentication is None and credential is not None:
        scope = f"{settings.endpoint}/.default"
        login: Any = AsyncARMChallengeAuthenticationPolicy(credential, scope)
    else:
        login = authentication or policies.SansIOHTTPPolicy()
    return [
        policies.RequestIdPolicy(),
        policies.UserAgentPolicy(user_agent=f"kairay/{__version__}"),
        policies.ProxyPolicy(),
        policies.ContentDecodePolicy(),
        login,
        policies.DistributedTracingPolicy(),
        policies.SensitiveHeaderCleanupPolicy(),
    ]


@contextmanager
def refusals(offer: Offer | None = None, unless: Callable[[Complaint], bool] | None = None) -> Iterator[None]:
    """Inside, every error of the SDK becomes a RefusedError about `offer`, but one that `unless` takes for fine."""
    try:
        yield
    except AzureError as error:
        complaint = complaint_of(error)
        if unless is None or not unless(complaint):
            raise RefusedError(refusal_of(complaint, offer)) from error
    except ValueError as error:  # JSON was promised, and something else came.
        raise RefusedError(refusal_of(Complaint(code=_NO_ANSWER, text=str(error)), offer)) from error


def complaint_of(error: AzureError) -> Complaint:
    """What an error of the SDK says; the code of its body, never the class that the status gave it."""
    if isinstance(error, HttpResponseError) and error.response is not None:
        response: Any = error.response
        return _read(_body(response), response.status_code, response.headers)
    code = "CredentialUnavailable" if isinstance(error, ClientAuthenticationError) else _NO_ANSWER
    return Complaint(code=code, text=str(error.message or error))


async def get_pages(client: ContainerServiceClient, url: str) -> list[dict[str, Any]]:
    """All values of a list that the SDK has no method for, page after page. RefusedError as everywhere."""
    values: list[dict[str, Any]] = []
    following: str | None = url
    while following:
        with refusals():
            response = await client.send_request(HttpRequest("GET", following))
        body = _body(response)
        if response.status_code != 200:
            raise RefusedError(refusal_of(_read(body, response.status_code, response.headers)))
        values.extend(body.get("value") or ())
        following = body.get("nextLink")
    return values


def _read(body: Mapping[str, Any], status: int | None, headers: Mapping[str, str]) -> Complaint:
    # An error with a good status is no answer of Azure's: a page of a proxy.
    default = f"HTTP {status}" if status is None or status >= 400 else _NO_ANSWER
    complaint = Complaint.read(body, default=default, status=status)
    return Complaint(
        code=complaint.code,
        text=complaint.text,
        details=complaint.details,
        status=status,
        retry_after=_seconds(headers.get("Retry-After")),
    )


def _body(response: Any) -> dict[str, Any]:
    """JSON, whatever a proxy in between made of it."""
    try:
        body = json.loads(response.text())
    except ValueError:
        return {"message": response.text()}
    return body if isinstance(body, dict) else {}


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None
