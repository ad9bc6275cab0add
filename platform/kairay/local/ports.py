"""Loopback ports: which are free, and who holds one that is not."""

from __future__ import annotations

import itertools
import random
import socket
from typing import Final

import psutil

from kairay.errors import HostError

LOOPBACK = "127.0.0.1"

_CHOSEN_FROM: Final = range(20_000, 30_000)
"""Ports that no system gives away by itself (Linux begins at 32768, others at 49152) and that are no NodePorts.

A port that was given may be another connection's by the time that the server it was chosen for listens: Ray's own
processes open dozens while it starts.
"""


def check_port(port: int, use: str, flag: str) -> None:
    """HostError with the holder's name, when it can be seen, if something listens on a loopback port."""
    if is_free(port):
        return
    raise HostError(
        f"port {port} for {use} is in use by {_holder(port)}: stop that, or choose another port with {flag}",
        reason="PortInUse",
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except PermissionError as error:
            raise HostError(f"port {port} needs root: choose one above 1023") from error
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different ports that nobody holds at the moment, and that stay free unless somebody asks for them by number."""
    # By chance, so that two who choose at the same time choose differently.
    candidates = random.SystemRandom().sample(_CHOSEN_FROM, len(_CHOSEN_FROM))
    found = list(itertools.islice(filter(_is_unbound, candidates), count))
    if len(found) < count:
        raise HostError(f"no {count} ports are free from {_CHOSEN_FROM.start} to {_CHOSEN_FROM.stop - 1}")
    return found


def _is_unbound(port: int) -> bool:
    # Without SO_REUSEADDR: a port whose last connection is only just over is left alone.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    try:
        listeners = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return "another program"
    for connection in listeners:
        if list(connection.laddr)[1:] == [port] and connection.pid is not None:
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                return f"process {connection.pid}"
    return "another program"
