"""etcd and kube-apiserver as two child processes: no kubelet, no controllers, no namespaces of the kernel.

What the one-machine cluster builds is run here too, so that CRDs, admission policies, RBAC and a controller's own calls
can be tried against the real thing. Nothing garbage-collects and no pod starts.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from kairay.local.ports import free_ports
from onebox import certificates
from onebox.api import Api, ApiError, Manifest
from onebox.layout import Layout
from onebox.tools import cache_key

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_PATIENCE = 60.0
"""Seconds until the API server must answer; it takes about five."""


class NotBuiltError(Exception):
    """The programs are not in the cache; the message says how to get them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BareApiServer:
    """A running API server; gone with all that it knows when its `with` block ends."""

    url: str
    pki: Path
    """Holds ca.crt, admin.crt and admin.key (system:masters)."""
    tools: Path
    """Where kubectl is, if it is built, and KubeRay's configuration."""
    pids: tuple[int, ...]
    """Of etcd and of the API server."""
    api: Api

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, everything embedded."""
        return self.pki / "admin.kubeconfig"

    def install_kuberay_crds(self) -> None:
        """RayCluster, RayJob, RayService and what else the operator brings; returns when they are served."""
        for path in sorted((self.tools / "kuberay" / "crd" / "bases").glob("*.yaml")):
            group, _, plural = path.stem.partition("_")
            # About one MB of schema each: handed over as they are.
            self.api.apply_text(f"{_CRDS}/{plural}.{group}", path.read_text())
        self.wait_for_crds()

    def wait_for_crds(self) -> None:
        """Until every version of every CRD is established and answers."""
        deadline = time.monotonic() + _PATIENCE
        while waiting := [crd["metadata"]["name"] for crd in self.api.items(_CRDS) if not self._serves(crd)]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not served after {_PATIENCE:.0f} s: {', '.join(waiting)}")
            time.sleep(0.05)

    def _serves(self, crd: Manifest) -> bool:
        conditions = crd.get("status", {}).get("conditions") or []
        if not any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
            return False
        spec = crd["spec"]
        paths = [f"/apis/{spec['group']}/{each['name']}" for each in spec["versions"] if each["served"]]
        return all(
            self.api.find(f"{path}/{spec['names']['plural']}", limit="1") is not None for path in paths
        )


@contextlib.contextmanager
def bare_api_server(extra_arguments: Sequence[str] = ()) -> Iterator[BareApiServer]:
    """Start both, hand out the server, end both by pid and remove their folder, whatever happens inside.

    `extra_arguments` go to kube-apiserver. NotBuiltError when the programs are missing.
    """
    tools = Layout.default().tools / cache_key()
    missing = [name for name in ("etcd", "kube-apiserver") if not (tools / name).exists()]
    if missing:
        raise NotBuiltError(f"{' and '.join(missing)} not built on this machine; run `make cluster-tools`")
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kairay-api-")))
        client, peer, port = free_ports(3)
        pki = state / "pki"
        certificates.create(pki, datetime.datetime.now(datetime.UTC))
        shutil.copy(pki / "ca.crt", pki / "client-ca.crt")
        etcd = stack.enter_context(_running(_etcd(tools, state, client, peer), state / "etcd.log"))
        command = [*_api_server(tools, pki, client, port), *extra_arguments]
        server = stack.enter_context(_running(command, state / "kube-apiserver.log"))
        url = f"https://127.0.0.1:{port}"
        _trust(pki, url, server, state / "kube-apiserver.log")
        api = Api(pki, url)
        _wait_until_ready(api, server, state / "kube-apiserver.log")
        yield BareApiServer(url=url, pki=pki, tools=tools, pids=(etcd.pid, server.pid), api=api)


def _etcd(tools: Path, state: Path, client: int, peer: int) -> list[str]:
    ours, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        str(tools / "etcd"), "--name", "bare", "--data-dir", str(state / "etcd"),
        "--listen-client-urls", ours, "--advertise-client-urls", ours, "--listen-peer-urls", peers,
        "--initial-advertise-peer-urls", peers, "--initial-cluster", f"bare={peers}",
        "--unsafe-no-fsync", "--log-level", "warn",
    ]  # fmt: skip


def _api_server(tools: Path, pki: Path, etcd: int, port: int) -> list[str]:
    return [
        str(tools / "kube-apiserver"), "--etcd-servers", f"http://127.0.0.1:{etcd}",
        "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", str(port),
        # No other machine reaches it, so there are no Endpoints to keep; the server signs a certificate for itself.
        "--endpoint-reconciler-type", "none", "--cert-dir", str(pki / "own"),
        "--service-cluster-ip-range", "10.252.0.0/16", "--authorization-mode", "RBAC", "--allow-privileged=true",
        "--client-ca-file", str(pki / "client-ca.crt"),
        "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file", str(pki / "sa.pub"), "--service-account-signing-key-file", str(pki / "sa.key"),
        # Nobody makes default service accounts here, and pods that never start need none.
        "--disable-admission-plugins", "ServiceAccount", "--v", "1",
    ]  # fmt: skip


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, so that Ctrl-C is ours to handle; it dies with us where setpriv is installed."""
    setpriv = shutil.which("setpriv")
    leash = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*leash, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        # Nothing of it is kept, so nobody need say goodbye.
        process.kill()
        process.wait()


def _trust(pki: Path, url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Take the server's own certificate as the authority, in ca.crt and in the administrator's kubeconfig."""
    own = pki / "own" / "apiserver.crt"
    deadline = time.monotonic() + _PATIENCE
    while not own.exists() or not own.read_bytes().rstrip().endswith(b"-----END CERTIFICATE-----"):
        _check(server, log, deadline)
        time.sleep(0.05)
    (pki / "ca.crt").write_bytes(own.read_bytes())
    path = pki / "admin.kubeconfig"
    config = json.loads(path.read_text())
    config["clusters"][0]["cluster"] = {
        "server": url,
        "certificate-authority-data": base64.b64encode(own.read_bytes()).decode(),
    }
    path.write_text(json.dumps(config, indent=1))


def _wait_until_ready(api: Api, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with contextlib.suppress(ApiError, requests.RequestException):
            api.text("/readyz")
            return
        _check(server, log, deadline)
        time.sleep(0.1)


def _check(server: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if server.poll() is not None or time.monotonic() > deadline:
        state = "does not answer" if server.poll() is None else f"ended with code {server.returncode}"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise RuntimeError(f"kube-apiserver {state}; its last lines:\n{tail}")
