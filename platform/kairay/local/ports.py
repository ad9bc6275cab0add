"""Loopback ports: which are free, and who holds one that is not."""

from __future__ import annotations

import contextlib
import socket

import psutil

from kairay.errors import HostError

LOOPBACK = "127.0.0.1"


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
    """Different ports that nobody holds at the moment."""
    with contextlib.ExitStack() as stack:
        probes = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)
        ]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


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
