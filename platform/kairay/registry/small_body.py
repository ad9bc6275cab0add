"""A small answer of a server that is not ours: no more bytes than it may have, no longer than it may take.

A server that sends without end must not fill our memory, and one that sends a byte now and then must not keep a thread.
What was compressed stays so: an answer that unpacks to more than it is would get around the limit, so it is asked for
with `PLAIN`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import requests
import urllib3.exceptions

from kairay.errors import InputError

PLAIN = {"Accept-Encoding": "identity"}
"""Headers of the request."""
SECONDS = 60.0
"""For the body of an answer, as a rule."""

_PIECE = 2**16


def read_small(
    response: requests.Response,
    where: str,
    *,
    most: int,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """The body of a response that was asked for with `stream`.

    InputError: it has more than `most` bytes. requests' own errors: it broke off, or was not all there after `seconds`.
    """
    body, end = bytearray(), clock() + seconds
    try:
        # One read of the socket each, so that the clock is looked at after whatever has come.
        while piece := response.raw.read1(_PIECE, decode_content=False):
            body += piece
            if len(body) > most:
                raise InputError(f"{where} has more than {most} bytes, which none needs")
            if clock() > end:
                raise requests.exceptions.ReadTimeout(f"not all there after {seconds:g} s")
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(str(error)) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(str(error)) from error
    return bytes(body)
