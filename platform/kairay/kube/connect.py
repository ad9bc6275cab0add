"""How an API server is reached: the pod's service account, else the kubeconfig's current context.

Kubeconfig: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ with client
certificates, tokens, token files and exec plugins (client.authentication.k8s.io/v1 and v1beta1).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kairay.errors import HostError, InputError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_SECONDS = 60


@dataclass(slots=True, kw_only=True)
class Connection:
    """An API server's address and our credentials; `token` is read anew when the server refuses it."""

    server: str
    namespace: str
    """Where commands look when they are not told."""
    tls: ssl.SSLContext | None
    token_file: Path | None = None
    fixed_token: str | None = field(default=None, repr=False)
    plugin: Mapping[str, Any] | None = None
    _plugin_token: str | None = field(default=None, repr=False)

    def token(self, *, fresh: bool = False) -> str | None:
        """The bearer token, None where a certificate speaks for us. HostError when it cannot be had."""
        if self.token_file is not None:
            # The kubelet replaces it well before it ends.
            return self.token_file.read_text("utf-8").strip()
        if self.plugin is not None:
            if self._plugin_token is None or fresh:
                self._plugin_token = _run_plugin(self.plugin)
            return self._plugin_token
        return self.fixed_token


def connect(environment: Mapping[str, str] = os.environ, *, context: str | None = None) -> Connection:
    """Inside a pod its service account, elsewhere `$KUBECONFIG` or ~/.kube/config; HostError when there is neither."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host and "KUBECONFIG" not in environment and (SERVICE_ACCOUNT / "token").is_file():
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        shown = f"[{host}]" if ":" in host else host
        return Connection(
            server=f"https://{shown}:{port}",
            namespace=(SERVICE_ACCOUNT / "namespace").read_text("utf-8").strip(),
            tls=ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt")),
            token_file=SERVICE_ACCOUNT / "token",
        )
    return _from_kubeconfig(_kubeconfig_path(environment), context)


def _kubeconfig_path(environment: Mapping[str, str]) -> Path:
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    for path in named or [Path.home() / ".kube" / "config"]:
        if path.is_file():
            return path
    where = environment.get("KUBECONFIG") or "~/.kube/config"
    raise HostError(
        f"no cluster: {where} is not there; set KUBECONFIG, or log in with your cloud's command line"
    )


def _from_kubeconfig(path: Path, context: str | None) -> Connection:
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
        wanted = context or config["current-context"]
        chosen = _named(config, "contexts", wanted)["context"]
        cluster = _named(config, "clusters", chosen["cluster"])["cluster"]
        user = _named(config, "users", chosen["user"])["user"] or {}
        server = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise InputError(
            f"{path} is not a kubeconfig with a current context ({error!r}); run kubectl config use-context NAME"
        ) from error
    token_file = user.get("tokenFile")
    return Connection(
        server=server,
        namespace=chosen.get("namespace") or "default",
        tls=_tls(cluster, user, path) if server.startswith("https") else None,
        token_file=None if token_file is None else _beside(path, token_file),
        fixed_token=user.get("token"),
        plugin=user.get("exec"),
    )


def _named(config: Mapping[str, Any], part: str, name: str) -> dict[str, Any]:
    return next(each for each in config[part] if each["name"] == name)


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], path: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if data := cluster.get("certificate-authority-data"):
            context = ssl.create_default_context(cadata=base64.b64decode(data).decode())
        elif file := cluster.get("certificate-authority"):
            context = ssl.create_default_context(cafile=str(_beside(path, file)))
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate := user.get("client-certificate"):
            context.load_cert_chain(str(_beside(path, certificate)), str(_beside(path, user["client-key"])))
        elif data := user.get("client-certificate-data"):
            _load_from_memory(context, base64.b64decode(data), base64.b64decode(user["client-key-data"]))
    except (OSError, ssl.SSLError, KeyError, binascii.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: its certificates cannot be used ({error}); log in to the cluster again"
        ) from error
    return context


def _load_from_memory(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Python's ssl takes certificates from files only; this one is gone at once."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


def _beside(kubeconfig: Path, written: str) -> Path:
    """Relative paths start at the kubeconfig's folder."""
    return kubeconfig.parent / written


def _run_plugin(plugin: Mapping[str, Any]) -> str:
    command = [str(plugin["command"]), *(plugin.get("args") or ())]
    extra = {each["name"]: each["value"] for each in plugin.get("env") or ()}
    info = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_EXEC_SECONDS, env=environment, check=True
        )
        return str(json.loads(done.stdout)["status"]["token"])
    except FileNotFoundError as error:
        raise HostError(
            f"the kubeconfig names {command[0]}, which is not installed; {plugin.get('installHint') or 'install it'}"
        ) from error
    except subprocess.CalledProcessError as error:
        raise HostError(
            f"{command[0]} gave no login: {str(error.stderr).strip()[-300:]}; log in again"
        ) from error
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise HostError(f"{command[0]} gave no token that can be used; log in again") from error
