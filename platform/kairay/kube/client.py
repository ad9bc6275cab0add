"""The API server by HTTP: few verbs, plain objects, one sentence for every refusal. See interface.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import aiohttp

from kairay.errors import TransientError
from kairay.kube.answers import read_event, read_lines, read_refusal
from kairay.kube.connect import Connection
from kairay.kube.errors import AbsentError
from kairay.kube.interface import FIELD_MANAGER, Labels, Right, WatchEvent
from kairay.kube.objects import Key, Kind, Manifest, Trim, key_of, kind_of
from kairay.kube.sockets import Sockets

_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
_WATCH_SECONDS = 300
_PAGE = 500
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"


class Client:
    """One API server; `close` it, or use it as an async context."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sockets = Sockets()
        connector = aiohttp.TCPConnector(
            ssl=connection.tls if connection.tls is not None else True,
            limit=64,
            socket_factory=self._sockets.make,
        )
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, read_bufsize=2**20, trust_env=False
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()
        await self._sockets.aclose()

    async def get(self, key: Key) -> Manifest | None:
        """See Cluster."""
        try:
            return await self._call("GET", key.path, about=str(key))
        except AbsentError:
            return None

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Labels | None = None,
        fields: Mapping[str, str] | None = None,
        trim: Trim | None = None,
    ) -> tuple[list[Manifest], str]:
        """See Cluster."""
        found: list[Manifest] = []
        query = {"limit": str(_PAGE), **_selector(labels)}
        if fields:
            query["fieldSelector"] = ",".join(f"{path}={value}" for path, value in sorted(fields.items()))
        while True:
            page = await self._call("GET", kind.path(namespace or ""), about=kind.plural, query=query)
            for item in page["items"]:
                whole = {"apiVersion": kind.api_version, "kind": kind.kind, **item}
                found.append(trim(whole) if trim else whole)
            following = page["metadata"].get("continue")
            if not following:
                return found, str(page["metadata"]["resourceVersion"])
            query["continue"] = following

    async def apply(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        return await self._apply(manifest, key_of(manifest).path)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        return await self._apply(manifest, f"{key_of(manifest).path}/status")

    async def create(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        path = kind_of(manifest).path(manifest["metadata"].get("namespace", ""))
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("POST", path, about=_about(manifest), query=query, body=manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call(
            "PUT", key_of(manifest).path, about=_about(manifest), query=query, body=manifest
        )

    async def delete(self, key: Key, *, uid: str | None = None) -> None:
        """See Cluster."""
        body: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", key.path, about=str(key), body=body)
        except AbsentError:
            return

    async def watch(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Labels | None = None,
        resource_version: str,
    ) -> AsyncIterator[WatchEvent]:
        """See Cluster."""
        query = {
            "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_SECONDS), **_selector(labels),
        }  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=_WATCH_SECONDS + 30)
        try:
            answer = await self._send("GET", kind.path(namespace or ""), query=query, timeout=timeout)
            if answer.status == HTTPStatus.UNAUTHORIZED:
                answer.release()
                answer = await self._send(
                    "GET", kind.path(namespace or ""), query=query, timeout=timeout, fresh=True
                )
            async with answer:
                if answer.status != HTTPStatus.OK:
                    raise read_refusal(answer.status, await answer.text(), "GET", kind.plural, answer.headers)
                async for line in read_lines(answer):
                    yield read_event(json.loads(line), kind)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise TransientError(f"the watch of {kind.plural} broke: {error!r}", retry_after=1.0) from error

    async def logs(self, key: Key, *, container: str | None = None, tail: int | None = None) -> str:
        """See Cluster."""
        query = {} if container is None else {"container": container}
        if tail is not None:
            query["tailLines"] = str(tail)
        return await self._text("GET", f"{key.path}/log", about=f"the log of {key}", query=query)

    async def discover(self, path: str) -> Manifest | None:
        """See Cluster."""
        try:
            return await self._call("GET", path, about=path)
        except AbsentError:
            return None

    async def may(self, right: Right) -> bool:
        """See Cluster."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in asdict(right).items() if value}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        found = await self._call("POST", path, about=f"the right to {right}", body=review)
        return bool(found["status"]["allowed"])

    async def _apply(self, manifest: Manifest, path: str) -> Manifest:
        # Strict: a field that the server would drop in silence is our mistake, and told.
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        about = _about(manifest)
        return await self._call("PATCH", path, about=about, query=query, body=manifest, content=_APPLY)

    async def _call(self, method: str, path: str, *, about: str, **request: Any) -> Manifest:
        found: Manifest = json.loads(await self._text(method, path, about=about, **request))
        return found

    async def _text(self, method: str, path: str, *, about: str, **request: Any) -> str:
        for fresh in (False, True):
            try:
                answer = await self._send(method, path, fresh=fresh, **request)
                async with answer:
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                if isinstance(error, aiohttp.ServerDisconnectedError) and not fresh:
                    continue
                raise TransientError(
                    f"{self._connection.server} does not answer ({error!r}); check the cluster and your network"
                ) from error
            if answer.status == HTTPStatus.UNAUTHORIZED and not fresh:
                continue
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise read_refusal(answer.status, text, method, about, answer.headers)
            return text
        raise AssertionError("the second round returns or raises")

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content: str = _JSON,
        fresh: bool = False,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> aiohttp.ClientResponse:
        token = (
            await asyncio.to_thread(self._connection.token, fresh=True) if fresh else self._connection.token()
        )
        headers = (
            {"Accept": _JSON} if token is None else {"Accept": _JSON, "Authorization": f"Bearer {token}"}
        )
        data = None
        if body is not None:
            headers["Content-Type"] = content
            data = json.dumps(body, separators=(",", ":")).encode()
        url = f"{self._connection.server}{path}"
        return await self._session.request(
            method, url, params=query, data=data, headers=headers, timeout=timeout
        )


def _selector(labels: Labels | None) -> dict[str, str]:
    if not labels:
        return {}
    parts = [key if value is None else f"{key}={value}" for key, value in sorted(labels.items())]
    return {"labelSelector": ",".join(parts)}


def _about(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    name = metadata.get("name") or f"{metadata.get('generateName', '')}*"
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{manifest['kind']} {place}{name}"
