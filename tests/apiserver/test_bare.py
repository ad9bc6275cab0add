"""The bare API server itself."""

from __future__ import annotations

import os
import subprocess

import pytest

from bare import BareApiServer, bare_api_server

pytestmark = pytest.mark.cluster


def test_it_takes_objects_and_serves_kuberays_kinds(api_server: BareApiServer) -> None:
    api_server.install_kuberay_crds()
    kinds = {each["kind"] for each in api_server.api.get("/apis/ray.io/v1")["resources"]}
    assert {"RayCluster", "RayJob", "RayService"} <= kinds


def test_kubectl_reaches_it_with_the_kubeconfig(api_server: BareApiServer) -> None:
    kubectl = api_server.tools / "kubectl"
    if not kubectl.exists():
        pytest.skip("kubectl is not built on this machine; run `make cluster-tools`")
    answer = subprocess.run(
        [str(kubectl), f"--kubeconfig={api_server.kubeconfig}", "get", "namespaces", "-o", "name"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "namespace/default" in answer.stdout


def test_nothing_of_it_is_left_after_a_failure_inside() -> None:
    with pytest.raises(ZeroDivisionError), bare_api_server() as server:
        raise ZeroDivisionError
    assert not server.pki.exists()
    for pid in server.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
