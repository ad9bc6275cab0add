"""A registry on loopback: the pull, push and token parts of OCI's distribution specification, and faults to order."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from kairay.registry.artifact import Credentials, RemoteReference
from loopback import listening

LOGIN = Credentials(username="me", password="correct-horse")
DIE = -1
"""The connection ends in the middle of the request."""
CUT = -2
"""It ends in the middle of the answer."""


@dataclass
class Fault:
    """Answer `times` requests of this method whose path contains `part` with `status`, DIE or CUT."""

    method: str
    part: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Registry:
    """What the handler works on, and what a test looks at."""

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    login: str | None = None
    """None, "basic" or "bearer"."""
    realm: str = ""
    wrong_digest: bool = False

    @property
    def reference(self) -> RemoteReference:
        return RemoteReference(f"127.0.0.1:{self.port}", "team/bot", "v1")

    def count(self, method: str, part: str = "") -> int:
        return sum(m == method and part in path for m, path in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silence."""

    def do_GET(self) -> None:
        self.serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def serve(self) -> None:
        registry, path = self.registry, urlsplit(self.path).path
        registry.seen.append((self.command, self.path))
        registry.authorizations.append(self.headers.get("Authorization"))
        for fault in registry.faults:
            if fault.times and fault.method == self.command and fault.part in self.path:
                fault.times -= 1
                self.fail(fault)
                return
        if path == "/token":
            self.token()
        elif not self.allowed():
            self.rfile.read(self.length)
            self.answer(
                401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}', self.challenge()
            )
        elif "/blobs/uploads" in path:
            self.upload()
        elif "/blobs/" in path:
            self.blob(path.rsplit("/", 1)[1])
        else:
            self.manifest(path.rsplit("/", 1)[1])

    @property
    def length(self) -> int:
        return int(self.headers.get("Content-Length", 0))

    def fail(self, fault: Fault) -> None:
        if fault.status == DIE:
            self.rfile.read(min(self.length, 1000))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault.status == CUT:
            self.send_response(200)
            self.send_header("Content-Length", "600000")
            self.end_headers()
            self.wfile.write(b"\x00\x01" * 10)
            self.close_connection = True
        else:
            self.rfile.read(self.length)
            self.answer(fault.status, fault.body, fault.headers)

    def allowed(self) -> bool:
        sent = self.headers.get("Authorization", "")
        if self.registry.login == "basic":
            return sent == f"Basic {LOGIN.basic}"
        if self.registry.login == "bearer":
            return sent == (
                "Bearer token-push" if self.command in ("POST", "PUT") else sent
            ) and sent.startswith("Bearer token-")
        return True

    def challenge(self) -> dict[str, str]:
        if self.registry.login == "basic":
            return {"Www-Authenticate": 'Basic realm="test"'}
        scope = "pull,push" if self.command in ("POST", "PUT") else "pull"
        realm = self.registry.realm or f"http://127.0.0.1:{self.registry.port}/token"
        return {
            "Www-Authenticate": f'Bearer realm="{realm}",service="test",scope="repository:team/bot:{scope}"'
        }

    def token(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if self.command == "POST":
            asked = parse_qs(self.rfile.read(self.length).decode())
            known = asked.get("refresh_token") == ["identity"] and asked["grant_type"] == ["refresh_token"]
        else:
            known = self.headers.get("Authorization") == f"Basic {LOGIN.basic}"
        if not known:
            self.answer(401, b"")
            return
        kind = "push" if "push" in asked["scope"][0] else "pull"
        self.answer(200, json.dumps({"token": f"token-{kind}"}).encode())

    def upload(self) -> None:
        body = self.rfile.read(self.length)
        if self.command == "POST":
            self.answer(202, b"", {"Location": "/v2/team/bot/blobs/uploads/7?_state=secret-state"})
            return
        assert "_state=secret-state" in self.path
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
            self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            return
        self.registry.blobs[digest] = body
        self.answer(201, b"")

    def blob(self, digest: str) -> None:
        if digest not in self.registry.blobs:
            self.answer(404, b"")
        else:
            self.answer(200, self.registry.blobs[digest])

    def manifest(self, name: str) -> None:
        if self.command == "PUT":
            body = self.rfile.read(self.length)
            assert all(part["digest"] in self.registry.blobs for part in json.loads(body)["layers"])
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            for key in (name, digest):
                self.registry.manifests[key] = (self.headers["Content-Type"], body)
            self.answer(201, b"", {"Docker-Content-Digest": digest})
        elif name not in self.registry.manifests:
            self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        else:
            media, body = self.registry.manifests[name]
            body = body.replace(b"schemaVersion", b"schemaversion") if self.registry.wrong_digest else body
            self.answer(200, body, {"Content-Type": media})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def faulty_registry() -> Iterator[Registry]:
    """One that listens until the end."""
    state = Registry()
    with listening(type("Handler", (_Handler,), {"registry": state})) as state.port:
        yield state
