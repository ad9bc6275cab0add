"""Small answers of servers that are not ours: neither without end nor for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import urllib3.exceptions

from kairay.errors import InputError
from kairay.registry.small_body import read_small


class Raw:
    """A socket that gives its pieces one by one, each a second after the last; an error is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces: Iterator[bytes | Exception] = iter(pieces)
        self.time = 0.0

    def read1(self, size: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        self.time += 1
        piece = next(self._pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        return piece


def read(raw: Raw, *, most: int = 100, seconds: float = 10) -> bytes:
    response = requests.Response()
    response.raw = raw
    return read_small(response, "it", most=most, seconds=seconds, clock=lambda: raw.time)


def test_the_pieces_are_put_together() -> None:
    assert read(Raw(b"one ", b"two")) == b"one two"
    assert read(Raw()) == b""


def test_an_answer_without_end_is_not_read_to_the_end() -> None:
    raw = Raw(*[b"x" * 60] * 1000)
    with pytest.raises(InputError, match="it has more than 100 bytes"):
        read(raw)
    assert raw.time == 2


def test_an_answer_that_drips_is_given_up() -> None:
    raw = Raw(*[b"x"] * 99)
    with pytest.raises(requests.exceptions.Timeout):
        read(raw)
    assert raw.time == 11


@pytest.mark.parametrize(
    "broken",
    [
        urllib3.exceptions.ProtocolError("cut"),
        urllib3.exceptions.IncompleteRead(1, 2),
        urllib3.exceptions.ReadTimeoutError(None, "/", "slow"),  # type: ignore[arg-type]
    ],
)
def test_a_broken_connection_is_an_error_of_requests(broken: Exception) -> None:
    with pytest.raises(requests.RequestException):
        read(Raw(b"x", broken))
