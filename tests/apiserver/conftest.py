"""One bare API server per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bare import BareApiServer, NotBuiltError, bare_api_server


@pytest.fixture(scope="session")
def api_server() -> Iterator[BareApiServer]:
    """A real API server on loopback, without nodes or controllers."""
    try:
        with bare_api_server() as server:
            yield server
    except NotBuiltError as error:
        pytest.skip(str(error))
