"""What an API server's answers mean: lines of a watch, and the error tree's word for a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.kube.errors import AbsentError, ConflictError, DeniedError, GoneError
from kairay.kube.interface import EventType, WatchEvent
from kairay.kube.objects import Kind

_MOST_LINE = 16 * 2**20
_NO_SUCH_FIELD = "failed to create typed patch object"
"""What server-side apply says, with status 500, of a field that the schema does not have."""
_DENIED = re.compile(r'is forbidden: (?!User )|admission webhook "[^"]*" denied the request')
"""Of a rule of the cluster; a right that is missing goes on with the user's name."""
_BY_RULES = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY})
"""A quota says 403, a policy 422 unless it names another reason, a webhook what it likes, or 400."""


async def read_lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length: Ray's objects are long."""
    rest = b""
    async for chunk in answer.content.iter_any():
        rest += chunk
        *whole, rest = rest.split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > _MOST_LINE:
            raise ValueError(f"a line of more than {_MOST_LINE} bytes")


def read_event(line: Mapping[str, Any], kind: Kind) -> WatchEvent:
    """One line; GoneError or TransientError for the server's own word that it cannot go on."""
    found = line["object"]
    if line["type"] == "ERROR":
        if found.get("code") == HTTPStatus.GONE:
            raise GoneError(f"the watch of {kind.plural} is too far behind")
        raise TransientError(f"the watch of {kind.plural}: {found.get('message', 'no reason given')}")
    return WatchEvent(EventType(line["type"]), found)


def read_refusal(status: int, text: str, method: str, about: str, headers: Mapping[str, str]) -> KairayError:
    """The error tree's word for an HTTP status; the message is the API server's own."""
    said = _status_object(text)
    message = f"{about}: {str(said.get('message') or text.strip())[:2000]}"
    if (told := _read_words(status, message)) is not None:
        return told
    match status:
        case HTTPStatus.UNPROCESSABLE_ENTITY if _names_another_uid(said):
            return ConflictError(message, retry_after=0.5)
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY | HTTPStatus.METHOD_NOT_ALLOWED:
            return InputError(message)
        case HTTPStatus.UNAUTHORIZED:
            return HostError(f"{about}: the cluster does not accept these credentials; log in again")
        case HTTPStatus.NOT_FOUND:
            return AbsentError(message)
        case HTTPStatus.CONFLICT:
            return ConflictError(message, retry_after=0.5)
        case HTTPStatus.GONE:
            return GoneError(message)
        case HTTPStatus.FORBIDDEN:
            return KairayError(f"{message}; ask for the right to {method} it", reason="Forbidden")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return TransientError(message, retry_after=float(headers.get("Retry-After", 2)))
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TransientError(message, retry_after=2.0)
    return KairayError(f"{message} (HTTP {status})")


def _read_words(status: int, message: str) -> KairayError | None:
    """Where the message says more than the status."""
    if _NO_SUCH_FIELD in message:
        return InputError(message)
    return DeniedError(message) if status in _BY_RULES and _DENIED.search(message) else None


def _status_object(text: str) -> Mapping[str, Any]:
    """Kubernetes' own Status, empty where a proxy in between speaks."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _names_another_uid(said: Mapping[str, Any]) -> bool:
    causes = (said.get("details") or {}).get("causes") or ()
    return any(each.get("field") == "metadata.uid" for each in causes)
