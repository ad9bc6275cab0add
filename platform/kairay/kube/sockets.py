"""The sockets of one HTTP session: probed while they are silent, and none is left when it is closed."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from typing import Final
from weakref import WeakSet

import aiohttp

_CLOSING_SECONDS: Final = 2.0


class Sockets:
    """`make` is a connector's `socket_factory`; `aclose` follows the session's own close."""

    def __init__(self) -> None:
        self._made: WeakSet[socket.socket] = WeakSet()

    def make(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A watch may be silent for minutes: probes tell after 60 s that its other end is gone."""
        made = socket.socket(address[0], address[1], address[2])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            for option, value in (
                (socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)
            ):  # fmt: skip
                made.setsockopt(socket.IPPROTO_TCP, option, value)
        self._made.add(made)
        return made

    async def aclose(self) -> None:
        """End what is still open.

        A session forgets the connections of requests that were cancelled: asyncio closes these, and with
        TLS waits up to half a minute for the other end's leave. A loop that ends meanwhile leaks them.
        """
        for each in self._open():
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        now = asyncio.get_running_loop().time
        latest = now() + _CLOSING_SECONDS
        while self._open() and now() < latest:
            await asyncio.sleep(0)

    def _open(self) -> list[socket.socket]:
        return [each for each in self._made if each.fileno() != -1]
