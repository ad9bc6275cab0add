"""Who we are to a registry: given by the caller, or found where docker and podman keep their logins.

Read in this order, until one has a login for the registry: the files and folders in $KAIRAY_REGISTRY_LOGINS
(mounted secrets of pods), then the file that $REGISTRY_AUTH_FILE names, else config.json in $DOCKER_CONFIG, else
~/.docker/config.json. Secrets never enter a message, a log or a repr.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kairay.errors import HostError, InputError
from kairay.registry.reference import DOCKER_HUB, RemoteReference

LOGINS_VARIABLE = "KAIRAY_REGISTRY_LOGINS"
"""Docker configuration files, or folders with one, parted as in $PATH; what does not exist is passed over."""

_SECRET_FILES = ("config.json", ".dockerconfigjson")
"""Names of a docker configuration in a folder: as docker writes it, and as Kubernetes mounts its secret."""

_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_SECONDS = 30
_TOKEN_USER = "<token>"  # noqa: S105  # docker's name for "the secret is an identity token"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user and a password, or an identity token that a registry's token service takes in their place."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization: Basic` header."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_credentials(
    reference: RemoteReference, *, environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> Credentials | None:
    """The login stored for a reference's registry, the most specific entry first; None where there is none.

    Raises InputError for a file that cannot be read as such, HostError for a credential helper that fails.
    """
    for path in _mounted(environment):
        if path.is_file() and (login := _from_file(path, reference, environment)):
            return login
    path, named = _config_path(environment, home or Path.home())
    if path.is_file():
        return _from_file(path, reference, environment)
    if named:
        raise InputError(f"$REGISTRY_AUTH_FILE names {path}, which is not a file; unset it or log in again")
    return None


def _from_file(path: Path, reference: RemoteReference, environment: Mapping[str, str]) -> Credentials | None:
    config = _read_config(path)
    keys = _keys(reference)
    auths = _object(config.get("auths"), path)
    stored = next((auths[key] for key in keys if auths.get(key)), None)
    if stored and (found := _from_entry(_object(stored, path), path)):
        return found
    helpers = _object(config.get("credHelpers"), path)
    if helper := next((helpers[key] for key in keys if key in helpers), None):
        return _ask_helper(str(helper), keys, path, environment, required=True)
    if store := config.get("credsStore"):
        return _ask_helper(str(store), keys, path, environment, required=False)
    return None


def _mounted(environment: Mapping[str, str]) -> Iterator[Path]:
    """Places that may be there: a secret that is mounted optionally is an empty folder while it is missing."""
    for entry in filter(None, environment.get(LOGINS_VARIABLE, "").split(os.pathsep)):
        yield from (Path(entry), *(Path(entry, name) for name in _SECRET_FILES))


def _config_path(environment: Mapping[str, str], home: Path) -> tuple[Path, bool]:
    if auth_file := environment.get("REGISTRY_AUTH_FILE"):
        return Path(auth_file), True
    folder = environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else home / ".docker") / "config.json", False


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return _object(json.loads(path.read_bytes()), path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; make it readable for this user"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON; log in again or correct it") from error


def _object(value: Any, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a file of registry logins; log in again or correct it")
    return value


def _keys(reference: RemoteReference) -> list[str]:
    """Repository, its namespaces, the host, then the spellings that old logins used."""
    host, parts = reference.registry, reference.repository.split("/")
    scoped = [f"{host}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)]
    spelled = [host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/", f"http://{host}"]
    return [*scoped, *spelled, *(_HUB_KEYS if host == DOCKER_HUB else ())]


def _from_entry(entry: Mapping[str, Any], path: Path) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            decoded = base64.b64decode(str(encoded), validate=True).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError):
            raise InputError(f"{path} holds a login that is not base64; log in again") from None
        username, _, password = decoded.partition(":")
    if not (token or username or password):
        return None
    return Credentials(username=username, password=password, identity_token=token)


def _ask_helper(
    helper: str, keys: list[str], path: Path, environment: Mapping[str, str], *, required: bool
) -> Credentials | None:
    """Ask `docker-credential-<helper> get`; a general store without it means no login."""
    if not _HELPER.fullmatch(helper):
        raise InputError(f"{path} names a credential helper that is not a plain word; correct it")
    program = f"docker-credential-{helper}"
    host = _HUB_KEYS[0] if _HUB_KEYS[0] in keys else next(key for key in keys if "/" not in key)
    try:
        done = subprocess.run(
            [program, "get"],
            input=host,
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            env=dict(environment),
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        if not required:
            return None
        raise HostError(
            f"{path} names {program} for {host}, which is not installed; install it or log in again"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"{program} did not answer for {host} within {_HELPER_SECONDS} s; log in again"
        ) from error
    if done.returncode != 0:
        if "not found" in f"{done.stdout} {done.stderr}".lower():
            return None
        raise HostError(f"{program} failed to give a login for {host}; run `docker login {host}` again")
    return _from_helper(done.stdout, program, host)


def _from_helper(answer: str, program: str, host: str) -> Credentials:
    try:
        read = json.loads(answer)
        username, secret = str(read["Username"]), str(read["Secret"])
    except (ValueError, KeyError, TypeError):
        raise HostError(f"{program} gave an answer for {host} that is not a login; log in again") from None
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)
