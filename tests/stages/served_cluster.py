"""An API server on loopback that answers reads from objects, and a kubeconfig for it: a command's whole way to one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from kairay.kube.objects import Manifest, key_of


@contextmanager
def served(objects: tuple[Manifest, ...], says: Mapping[str, Manifest]) -> Iterator[str]:
    """An API server that answers reads and reviews of rights from these objects."""
    pages: dict[str, Any] = dict(says)
    for each in objects:
        key = key_of(each)
        pages[key.path] = each
        pages.setdefault(key.kind.path(), {"metadata": {"resourceVersion": "1"}, "items": []})[
            "items"
        ].append(each)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            page = page or {"kind": "Status", "code": 404, "message": "not found"}
            self._answer(page["code"] if page.get("kind") == "Status" else 200, page)

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert review["kind"] == "SelfSubjectAccessReview"
            self._answer(201, {"status": {"allowed": True}})

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(tmp_path: Path, url: str) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    return str(path)
