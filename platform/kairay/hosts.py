"""Hosts of the inside, as a person or an attacker may write them in an address.

Names are not resolved here. Numbers are read as the C library's inet_aton reads them (2130706433, 0x7f.1,
0177.0.0.1), because that is what an HTTP client would connect to.
"""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address

from kairay.errors import InputError

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")

_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
"""The clouds' services that hand a machine its secrets; not all of them are in a private range."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def normalise_host(written: str) -> str:
    """In ASCII and lower case, without brackets or a dot at the end; InputError when that is no host."""
    host = written.strip("[]").lower()
    if not host.isascii():
        host = _to_ascii(host)
    host = host.removesuffix(".")
    if not _NAME.fullmatch(host) and _parse_ipv6(host) is None:
        raise InputError(f"{written!r} is not a host; write https://host/path")
    return host


def why_internal(host: str) -> str | None:
    """What kind of inside a normalised host is on ("a private address"), or None when it may be outside."""
    if host in _METADATA_NAMES:
        return "a metadata service"
    if host.split(".")[-1] == "localhost" or host == "localhost.localdomain":
        return "this machine itself"
    address = _parse_ipv4(host) or _parse_ipv6(host)
    if address is None and _NUMBER.fullmatch(host.split(".")[-1]):
        return "a number that is no address"
    return _why_internal_address(address) if address else None


def _why_internal_address(address: IPv4Address | IPv6Address) -> str | None:
    if address in _METADATA_ADDRESSES:
        return "a metadata service"
    if isinstance(address, IPv6Address) and (inner := _embedded_ipv4(address)):
        return _why_internal_address(inner)
    for is_so, reason in (
        (address.is_loopback or address.is_unspecified, "this machine itself"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (not address.is_global, "a private address"),
    ):
        if is_so:
            return reason
    return None


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to `address` would end at: mapped, compatible, 6to4, Teredo, NAT64."""
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo


def _parse_ipv6(host: str) -> IPv6Address | None:
    if ":" not in host:
        return None
    try:
        return IPv6Address(host.partition("%")[0])
    except ValueError:
        return None


def _parse_ipv4(host: str) -> IPv4Address | None:
    """One to four parts, decimal, octal (0…) or hexadecimal (0x…); the last fills the bytes that are left."""
    parts = host.split(".")
    if len(parts) > 4 or len(host) > 64 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *leading, last = (_c_number(part) for part in parts)
    except ValueError:
        return None
    room = 4 - len(leading)
    if any(number > 255 for number in leading) or last >= 256**room:
        return None
    return IPv4Address(int.from_bytes(bytes(leading), "big") * 256**room + last)


def _c_number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") and len(part) > 1 else 10)


def _to_ascii(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise InputError(f"{host!r} is not a host name; write it in its xn-- form") from error
