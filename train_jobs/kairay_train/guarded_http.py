"""HTTP sessions that connect to public addresses only (and to hosts an operator allows).

The guard sits where a connection is made: a name is resolved once, every address it has is checked, and the
socket goes to a checked address. So neither a redirect nor a DNS answer that changes in between leads inside.
Behind a proxy, which resolves names itself, the addresses that this machine finds are checked; then the proxy
decides.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from kairay.errors import InputError

Resolve = Callable[[str, int], list[str]]

AZURE_PLATFORM = ipaddress.ip_address("168.63.129.16")
"""Azure's host agent: a public address by number, an internal service by nature."""

NAT64 = ipaddress.ip_network("64:ff9b::/96")


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name; raises socket.gaierror."""
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet: no private, loopback, link-local, metadata or multicast."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip != AZURE_PLATFORM


def checked_addresses(host: str, port: int, allow_hosts: Collection[str], resolver: Resolve) -> list[str]:
    """The addresses that may be connected to.

    Raises InputError if any of them is not public and the host is not in `allow_hosts`.
    """
    addresses = resolver(host, port)
    if host.lower().strip("[]").rstrip(".") in {h.lower() for h in allow_hosts}:
        return addresses
    inside = [a for a in addresses if not is_public(a)]
    if inside:
        raise InputError(
            f"{host} is the internal address {inside[0]}, from which data is not fetched; "
            "give a public URL, or have the operator allow the host"
        )
    return addresses


def guarded_session(allow_hosts: Collection[str], resolver: Resolve = resolve) -> requests.Session:
    """A session that reads no netrc and makes its direct connections through the guard."""
    session = requests.Session()
    session.trust_env = False  # no credentials from ~/.netrc; what else the environment says is taken below
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    adapter = _GuardedAdapter(allow_hosts, resolver)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def proxies_for(url: str, allow_hosts: Collection[str], resolver: Resolve = resolve) -> dict[str, str]:
    """The proxies to use for a URL; with one, the target is checked here as far as its name resolves."""
    proxies: dict[str, str] = dict(requests.utils.get_environ_proxies(url))
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme in proxies or "all" in proxies):
        with contextlib.suppress(socket.gaierror):  # only the proxy may know the name
            checked_addresses(parts.hostname, parts.port or 443, allow_hosts, resolver)
    return proxies


class _GuardedAdapter(requests.adapters.HTTPAdapter):
    """Makes its direct connections through the guard."""

    def __init__(self, allow_hosts: Collection[str], resolver: Resolve) -> None:
        self._pools = _guarded_pools(allow_hosts, resolver)
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools


def _guarded_pools(allow_hosts: Collection[str], resolver: Resolve) -> dict[str, Any]:
    def connect(connection: HTTPConnection) -> socket.socket:
        try:
            addresses = checked_addresses(connection.host, connection.port, allow_hosts, resolver)
        except socket.gaierror as error:
            raise NameResolutionError(connection.host, connection, error) from error
        return _first_that_answers(connection, addresses)

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _first_that_answers(connection: HTTPConnection, addresses: list[str]) -> socket.socket:
    last: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            return create_connection(
                (address, connection.port), connection.timeout, socket_options=connection.socket_options
            )
        except OSError as error:
            last = error
    raise NewConnectionError(connection, f"{last}") from last
