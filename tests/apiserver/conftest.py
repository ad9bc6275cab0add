"""One bare API server per session, with our CRD and policies for those who ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from admission import inference, refusal, too_large, unknown_preset, unknown_size
from bare import BareApiServer, NotBuiltError, bare_api_server, eventually
from kairay.crd.install import text_of


@pytest.fixture(scope="session")
def api_server() -> Iterator[BareApiServer]:
    """A real API server on loopback, without nodes or controllers."""
    try:
        with bare_api_server() as server:
            yield server
    except NotBuiltError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def server(api_server: BareApiServer) -> BareApiServer:
    """The API server with our CRD, policies and tables."""
    api = api_server.api
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kairay-system"}})
    api.apply_all(text_of("kuberay/install/crd.yaml"))
    api_server.wait_for_crds()
    api.apply_all(text_of("kuberay/install/policies.yaml"))
    # Policies take effect a moment after they are written, each of those with a table for itself.
    for broken, words in (
        (unknown_preset, "no preset"),
        (unknown_size, "no machine size"),
        (too_large, "weights"),
    ):
        eventually(
            "the policies are enforced",
            lambda broken=broken, words=words: words in refusal(api_server, inference(broken)),
        )
    return api_server
