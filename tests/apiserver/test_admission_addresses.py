"""Addresses of data: admission, and the types that the controller parses with, refuse the same ones."""

from __future__ import annotations

import pytest

from admission import put, refusal, tuning
from bare import BareApiServer
from kairay.errors import InputError
from kairay.references import DataUrl

pytestmark = pytest.mark.cluster

INSIDE = (
    "http://localhost/a", "http://LOCALHOST/a", "http://localhost./a", "http://a.localhost/a", "http://metadata/a",
    "http://metadata.google.internal/a", "http://127.0.0.1/a", "HTTP://127.0.0.1:80/a", "http://127.0.0.1./a",
    "http://127.1/a", "http://2130706433/a", "http://0x7f.1/a", "http://0.0.0.0/a", "http://10.1.2.3/a",
    "http://192.168.0.1/a", "http://100.64.0.1/a", "http://169.254.169.254/latest", "http://168.63.129.16/a",
    "http://224.0.0.1/a", "http://[::1]/a", "http://[::ffff:127.0.0.1]/a", "http://[::ffff:7f00:1]/a",
    "http://[64:ff9b::a00:1]/a", "http://[fd00:ec2::254]/a", "http://[fe80::1%25eth0]/a", "http://[2002:7f00:1::]/a",
    "https:///a",
)  # fmt: skip
OUTSIDE = (
    "https://8.8.8.8/a", "https://[2606:4700::1111]/a", "https://metadata.example.com/a", "http://localhosts.dev/a",
    "https://example.com:8443/a%20b?download=true#x@y", "https://example.com/a@b", "https://1and1.example/a",
)  # fmt: skip


@pytest.mark.parametrize("url", INSIDE)
def test_addresses_of_the_inside_are_refused(server: BareApiServer, url: str) -> None:
    assert "private network" in refusal(server, tuning(put("tuning.input.urls", [OUTSIDE[0], url])))


@pytest.mark.parametrize("url", INSIDE)
def test_the_types_refuse_the_same_addresses(url: str) -> None:
    with pytest.raises(InputError):
        DataUrl.parse(url)


@pytest.mark.parametrize("url", OUTSIDE)
def test_the_types_accept_the_same_addresses(url: str) -> None:
    assert str(DataUrl.parse(url)) == url


def test_addresses_of_the_outside_are_accepted(server: BareApiServer) -> None:
    assert refusal(server, tuning(put("tuning.input.urls", list(OUTSIDE)))) == ""


def test_an_address_with_a_password_is_refused(server: BareApiServer) -> None:
    assert "no user or password" in refusal(
        server, tuning(put("tuning.input.urls", ["http://u:p@example.com/a"]))
    )
