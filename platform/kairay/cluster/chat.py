"""The way to a cluster's service for a command that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kairay.cluster.forward import forwarded, proxy_path
from kairay.cluster.workspaces import find_workspaces
from kairay.errors import InputError, KairayError
from kairay.kube.client import Client
from kairay.kube.connect import connect
from kairay.kube.objects import SERVICE, Key
from kairay.objects.service import HTTP_PORT


@contextmanager
def way_to_service(name: str, namespace: str | None) -> Iterator[tuple[str, list[str]]]:
    """A local URL of a Workspace's service, and the models that it serves, the tuned one last."""
    way = _Way(name, namespace)
    thread = threading.Thread(target=lambda: asyncio.run(way.hold()), daemon=True)
    thread.start()
    way.open.wait()
    try:
        if way.error is not None:
            raise way.error
        yield way.url, way.models
    finally:
        way.close()
        thread.join(timeout=5)


class _Way:
    """What the thread holds open."""

    def __init__(self, name: str, namespace: str | None) -> None:
        self.name, self.namespace = name, namespace
        self.open = threading.Event()
        self.url = ""
        self.models: list[str] = []
        self.error: KairayError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: asyncio.Event | None = None

    async def hold(self) -> None:
        """Open the way, and keep it until `close`."""
        self._loop, self._closed = asyncio.get_running_loop(), asyncio.Event()
        try:
            connection = connect()
            namespace = self.namespace or connection.namespace
            async with Client(connection) as client:
                found = (await find_workspaces(client, namespace, self.name))[0]
            status = found.get("status") or {}
            self.models = list((status.get("inference") or {}).get("models") or [])
            if not self.models:
                raise InputError(f"{self.name} does not serve now: {status.get('message', 'no status yet')}")
            path = proxy_path(Key(SERVICE, namespace, self.name), HTTP_PORT)
            async with forwarded(connection, path, port=0, headers={}) as self.url:
                self.open.set()
                await self._closed.wait()
        except KairayError as error:
            self.error = error
        finally:
            self.open.set()

    def close(self) -> None:
        """Let the thread end."""
        if self._loop is not None and self._closed is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._closed.set)
