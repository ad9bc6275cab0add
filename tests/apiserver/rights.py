"""What an account may do (rbac.yaml), what it did (the API server's audit log), and a kubeconfig that acts as it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from bare import BareApiServer, NotBuiltError, bare_api_server, eventually
from kairay.crd.install import text_of
from onebox.api import Manifest

NAMESPACE, NAME, TEAM = "kairay-system", "kairay-controller", "team"
_FILE: Final = Path(__file__).resolve().parents[2] / "kuberay" / "install" / "rbac.yaml"
RIGHTS: Final = tuple(yaml.safe_load_all(_FILE.read_text("utf-8")))
USER = f"system:serviceaccount:{NAMESPACE}:{NAME}"
_CREATED, _FORBIDDEN = 201, 403


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource, such as patch on workspaces/status."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


def held(manifests: Iterable[Manifest]) -> frozenset[Right]:
    """Every right that the Roles and ClusterRoles among the manifests give."""
    rules = [rule for each in manifests if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    return frozenset(
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """The API server's log of one account's requests."""

    folder: Path

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of kube-apiserver; writes the policy."""
        rules = [{"level": "Metadata", "users": [USER]}, {"level": "None"}]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
        (self.folder / "policy.json").write_text(json.dumps({**policy, "rules": rules}))
        return (f"--audit-policy-file={self.folder / 'policy.json'}", f"--audit-log-path={self._log}")

    @property
    def _log(self) -> Path:
        return self.folder / "audit.log"

    def used(self) -> frozenset[Right]:
        """Rights that a request needed and had. Who makes an object by applying it needs `create` too."""
        found = set()
        for right, code in self._requests():
            if code != _FORBIDDEN:
                found.add(right)
            if right.verb == "patch" and code == _CREATED:
                found.add(Right(right.group, right.resource, "create"))
        return frozenset(found)

    def refused(self) -> list[str]:
        """Rights that were missing."""
        return sorted({str(right) for right, code in self._requests() if code == _FORBIDDEN})

    def _requests(self) -> Iterator[tuple[Right, int]]:
        # A line that is being written has no end yet.
        lines = self._log.read_text("utf-8").splitlines(keepends=True) if self._log.exists() else []
        for event in (json.loads(line) for line in lines if line.endswith("\n")):
            about: dict[str, Any] = event.get("objectRef") or {}
            if not about:
                continue
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            code = int((event.get("responseStatus") or {}).get("code", 0))
            yield Right(about.get("apiGroup", ""), resource, event["verb"]), code


@contextlib.contextmanager
def api_server_with_rights(*arguments: str) -> Iterator[BareApiServer]:
    """A bare API server with KubeRay's kinds and ours, the controller's rights, its namespace and a team's.

    `arguments` go to kube-apiserver. Whoever asks for it is skipped where the programs are missing.
    """
    try:
        with bare_api_server(arguments) as server:
            server.install_kuberay_crds()
            server.api.apply_all(text_of("kuberay/install/crd.yaml"))
            server.wait_for_crds()
            for name in (NAMESPACE, TEAM):
                server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            _give_rights(server)
            yield server
    except NotBuiltError as error:
        pytest.skip(str(error))


def _give_rights(server: BareApiServer) -> None:
    """Returns when the API server goes by them."""
    for each in RIGHTS:
        server.api.apply(each)
    about = {"namespace": NAMESPACE, "group": "coordination.k8s.io", "resource": "leases", "verb": "update"}
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": USER, "resourceAttributes": about},
    }  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    eventually("the rights hold", lambda: server.api.post(path, review)["status"]["allowed"])


def kubeconfig(server: BareApiServer, path: Path) -> Path:
    """For the account, with a token of its own."""
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{NAME}/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = server.api.post(account, asked)["status"]["token"]
    config = yaml.safe_load(server.kubeconfig.read_text("utf-8"))
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def controller(server: BareApiServer, folder: Path, **settings: str) -> Iterator[None]:
    """A process of its own that acts as the account; it gives its Lease back at the end."""
    place = {"KUBECONFIG": str(kubeconfig(server, folder / "kubeconfig")), "KAIRAY_HTTP_HOST": "127.0.0.1"}
    environment = {**os.environ, **place, "KAIRAY_HTTP_PORT": "0", **settings}
    log = folder / "controller.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "kairay.controller"]
        process = subprocess.Popen(command, env=environment, stderr=output)
    try:
        eventually("the controller leads", lambda: '"synced"' in log.read_text("utf-8") or process.poll(), 60)
        assert process.poll() is None, f"the controller ended: {log.read_text('utf-8')}"
        yield
    finally:
        process.terminate()
        process.wait(20)
