"""Requests and answers checked against the OpenAPI description of AKS's agent pools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.paths.exceptions import PathError
from openapi_core.testing import MockRequest, MockResponse

DESCRIPTION = Path(__file__).resolve().parents[1] / "data" / "aks-agentpools-2026-08-01.openapi3.json"
_HOST = "https://management.azure.com"


def request_of(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> MockRequest:
    """A request as openapi-core takes it."""
    return MockRequest(
        host_url=_HOST, method=method, path=path, args=dict(query), headers=dict(headers), data=body or None
    )


def violation_of_request(request: MockRequest) -> str | None:
    """Why the description does not allow it; None: it does, or does not describe the path."""
    try:
        _openapi().validate_request(request)
    except PathError:
        return None
    except OpenAPIError as error:
        return _sentence(error)
    return None


def violation_of_answer(
    request: MockRequest, status: int, headers: Mapping[str, str], body: bytes
) -> str | None:
    """The same of an answer to it."""
    answer = MockResponse(
        data=body, status_code=status, headers=dict(headers), content_type="application/json" if body else ""
    )
    try:
        _openapi().validate_response(request, answer)
    except PathError:
        return None
    except OpenAPIError as error:
        return _sentence(error)
    return None


@cache
def _openapi() -> OpenAPI:
    return OpenAPI.from_dict(json.loads(DESCRIPTION.read_text(encoding="utf-8")))


def _sentence(error: BaseException) -> str:
    """With its causes, where the point is."""
    words, cause = [str(error)], error.__cause__
    while cause is not None:
        errors = getattr(cause, "schema_errors", None)
        words.append("; ".join(each.message for each in errors) if errors else str(cause))
        cause = cause.__cause__
    return ": ".join(word for word in words if word)[:2000]
