"""A web server on loopback that plays the hub or a registry: it gives the answers that it was told, by path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from kairay.registry.manifest import ArtifactMedia, Descriptor, build_manifest, digest_of
from loopback import listening

COMMIT = "c" * 40
SMALL_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 512, "intermediate_size": 128, "max_position_embeddings": 2048,
}  # fmt: skip
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "intermediate_size": 14336, "max_position_embeddings": 8192,
}  # fmt: skip


class AnsweringServer:
    """A status, bytes or JSON by path; 404 for what it was not told."""

    def __init__(self, port: int) -> None:
        self.place = f"127.0.0.1:{port}"
        self.url = f"http://{self.place}"
        self.answers: dict[str, object] = {}
        self.asked: list[str] = []
        self.tokens: list[str | None] = []

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """For a reader of the hub that is this server."""
        return {"HF_HOME": str(home), "HF_ENDPOINT": self.url, **more}

    def publish(self, model_id: str, config: Mapping[str, Any], listing: Mapping[str, Any]) -> None:
        """As the hub."""
        self.answers[f"/api/models/{model_id}?blobs=true"] = listing
        self.answers[f"/{model_id}/resolve/{COMMIT}/config.json"] = config

    def push(self, repository: str, tag: str, files: Mapping[str, bytes]) -> str:
        """As a registry; the reference."""
        layers = tuple(
            Descriptor(
                media_type="application/octet-stream", digest=digest_of(content), size=len(content),
                annotations={"org.opencontainers.image.title": name},
            )
            for name, content in files.items()
        )  # fmt: skip
        for content in files.values():
            self.answers[f"/v2/{repository}/blobs/{digest_of(content)}"] = content
        manifest = build_manifest(ArtifactMedia.MODEL, layers, {})
        self.answers[f"/v2/{repository}/manifests/{tag}"] = manifest.body
        return f"{self.place}/{repository}:{tag}"


def listing(
    files: Mapping[str, int] | None = None, *, model_id: str = "org/model", gated: object = "manual"
) -> dict[str, Any]:
    """What the hub says of a repository."""
    files = files or {"model.safetensors": 3000, "config.json": 700}
    return {
        "id": model_id,
        "sha": COMMIT,
        "gated": gated,
        "cardData": {"license": "mit"},
        "siblings": [{"rfilename": name, "size": size} for name, size in files.items()],
    }


@contextmanager
def answering_server() -> Iterator[AnsweringServer]:
    """One that listens until the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            server.tokens.append(self.headers.get("Authorization"))
            answer = server.answers.get(self.path, 404)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            if isinstance(answer, bytes):
                self.wfile.write(answer)
            elif not isinstance(answer, int):
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with listening(Handler) as port:
        server = AnsweringServer(port)
        yield server
