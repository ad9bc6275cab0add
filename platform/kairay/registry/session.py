"""The HTTP side of a registry: oras' client with three parts replaced, because of what they do in 0.2.43.

`do_request` would sleep up to two minutes between tries by itself, has no time-out and sends the password
to whatever host a registry names; `put_upload` reads a whole blob into memory; the token exchange knows
neither identity tokens nor the plain `Basic` challenge. Addresses, existence checks, downloads and upload
locations stay oras'.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

import oras.container
import oras.provider
import oras.utils
import requests
from oras.auth.utils import parse_auth_header

from kairay.errors import InputError, TransientError
from kairay.registry.credentials import Credentials
from kairay.registry.manifest import Descriptor
from kairay.registry.reference import DOCKER_HUB, RemoteReference, is_loopback
from kairay.registry.small_body import PLAIN, read_small

_HUB_HOST = "registry-1.docker.io"
_CLIENT_ID = "kairay"
_OCTETS = {"Content-Type": "application/octet-stream"}
_LARGEST_TOKEN = 2**20


class RegistrySession(oras.provider.Registry):  # type: ignore[misc]  # oras is untyped
    """One registry and one repository, with the connection and the login that go with them."""

    def __init__(
        self,
        reference: RemoteReference,
        *,
        credentials: Credentials | None,
        insecure_hosts: frozenset[str],
        timeout: tuple[float, float],
    ) -> None:
        def plain_http(host: str) -> bool:
            return is_loopback(host) or host in insecure_hosts

        host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        super().__init__(hostname=host, insecure=plain_http(host))
        self.container = oras.container.Container("artifact", registry=host)
        self.container.repository = reference.repository
        self._host, self._plain_http, self._timeout = host, plain_http, timeout
        self.session.trust_env = not is_loopback(host)  # a proxy cannot reach our own loopback
        self.session.auth = _no_netrc
        self._login = Login(self.session, credentials, plain_http=plain_http, timeout=timeout)

    def close(self) -> None:
        """Let go of the connections."""
        self.session.close()

    @property
    def secrets(self) -> list[str]:
        """What must not be repeated to a person, longest first."""
        return self._login.secrets

    def manifest_url(self, version: str) -> str:
        """The address of the manifest under a tag or a digest."""
        return f"{self.prefix}://{self.container.manifest_url(version)}"

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
        json: None = None,  # oras' signature
        stream: bool = False,
    ) -> requests.Response:
        """One request, answered challenge included; the status is the caller's to judge."""
        target = self._permitted(url)
        response = self._send(target, method, data, headers, stream)
        if response.status_code != requests.codes.unauthorized or not self._is_registry(target):
            return response
        if not self._login.answer(response.headers.get("Www-Authenticate", "")):
            return response
        response.close()
        if data is not None and not isinstance(data, bytes):
            data.seek(0)
        return self._send(target, method, data, headers, stream)

    def upload(self, blob: Descriptor, body: BinaryIO) -> requests.Response:
        """Start an upload and send the blob in one PUT, streamed; the first refusal ends it."""
        started = self.do_request(
            f"{self.prefix}://{self.container.upload_blob_url()}", "POST", headers=dict(_OCTETS)
        )
        location = self._get_location(started, self.container)
        if started.status_code != requests.codes.accepted or not location:
            return started
        url = oras.utils.append_url_params(location, {"digest": blob.digest})
        sized = body if blob.size else b""  # an empty stream would be sent chunked, without a length
        return self.do_request(url, "PUT", data=sized, headers=dict(_OCTETS))

    def _send(
        self,
        url: str,
        method: str,
        data: bytes | BinaryIO | None,
        headers: dict[str, str] | None,
        stream: bool,
    ) -> requests.Response:
        sent = {"User-Agent": _CLIENT_ID, **PLAIN, **(headers or {})}
        if self._login.authorization and self._is_registry(url):
            sent["Authorization"] = self._login.authorization
        response: requests.Response = self.session.request(
            method,
            url,
            data=data,
            headers=sent,
            stream=stream,
            timeout=self._timeout,
            allow_redirects=method in ("GET", "HEAD"),
        )
        return response

    def _is_registry(self, url: str) -> bool:
        return urlsplit(url).netloc == self._host

    def _permitted(self, url: str) -> str:
        """Registries behind a proxy name `http://` addresses of their own; others are refused."""
        parts = urlsplit(url)
        if parts.netloc == self._host:
            return urlunsplit(parts._replace(scheme=self.prefix))
        if parts.scheme != "https" and not self._plain_http(parts.netloc):
            raise InputError(
                f"{self._host} wants an upload sent to {parts.netloc} over plain HTTP; "
                "name that host in $KAIRAY_INSECURE_REGISTRIES",
                reason="RegistryDenied",
            )
        return url


class Login:
    """Answers a registry's challenges: `Basic`, or a `Bearer` token from the service it names."""

    def __init__(
        self,
        session: requests.Session,
        credentials: Credentials | None,
        *,
        plain_http: Callable[[str], bool],
        timeout: tuple[float, float],
    ) -> None:
        self._session, self._credentials = session, credentials
        self._plain_http, self._timeout = plain_http, timeout
        self.authorization: str | None = None
        """The header's value to send with each request to the registry."""

    @property
    def secrets(self) -> list[str]:
        """The password, the tokens and their encoded forms."""
        who = self._credentials
        known = [who.password, who.identity_token, who.basic] if who else []
        known += (self.authorization or "").split(" ", 1)[1:]
        return sorted((secret for secret in known if secret), key=len, reverse=True)

    def answer(self, challenge: str) -> bool:
        """Prepare `authorization` for a challenge; False where we have no (new) answer."""
        scheme = challenge.partition(" ")[0].lower()
        before = self.authorization
        if scheme == "basic" and self._credentials and self._credentials.password:
            self.authorization = f"Basic {self._credentials.basic}"
            return self.authorization != before
        if scheme == "bearer":
            asked = parse_auth_header(challenge)
            token = self._token(asked.realm or "", asked.service, asked.scope)
            self.authorization = f"Bearer {token}" if token else None
            return token is not None
        return False

    def _token(self, realm: str, service: str | None, scope: str | None) -> str | None:
        """Ask the token service (distribution's token and OAuth2 specifications); None where it refuses."""
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and self._plain_http(parts.netloc)):
            raise InputError(
                f"the registry asks to log in at {parts.netloc or 'no host'} without HTTPS; "
                "name it in $KAIRAY_INSECURE_REGISTRIES",
                reason="RegistryDenied",
            )
        asked = {key: value for key, value in (("service", service), ("scope", scope)) if value}
        with closing(self._ask(realm, asked)) as response:
            if response.status_code >= requests.codes.server_error:
                raise TransientError(
                    f"{parts.netloc}, which gives out the registry's tokens, answered {response.status_code}",
                    reason="RegistryUnavailable",
                )
            if not response.ok:
                return None
            try:
                read = json.loads(read_small(response, f"{parts.netloc}: its token", most=_LARGEST_TOKEN))
            except (ValueError, RecursionError):
                return None
        token = read.get("token") or read.get("access_token") if isinstance(read, dict) else None
        return token if isinstance(token, str) else None

    def _ask(self, realm: str, asked: dict[str, str]) -> requests.Response:
        who = self._credentials
        headers = {"User-Agent": _CLIENT_ID, **PLAIN}
        if who and who.identity_token:
            form = asked | {
                "grant_type": "refresh_token",
                "refresh_token": who.identity_token,
                "client_id": _CLIENT_ID,
            }
            return self._session.post(
                realm, data=form, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True
            )
        if who and who.password:
            headers["Authorization"] = f"Basic {who.basic}"
        return self._session.get(realm, params=asked, headers=headers, timeout=self._timeout, stream=True)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from replacing our login by one that ~/.netrc has for the host."""
    return request
