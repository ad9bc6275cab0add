from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kairay.errors import InputError
from kairay.registry.reference import ArtifactReference, LayoutReference, RemoteReference, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:/var/adapters:support", LayoutReference(Path("/var/adapters"), "support")),
        ("oci:/var/a:b/adapters:v1.0", LayoutReference(Path("/var/a:b/adapters"), "v1.0")),
        ("oci:/var/adapters", LayoutReference(Path("/var/adapters"), "latest")),
        ("contoso.azurecr.io/team/bot:v1", RemoteReference("contoso.azurecr.io", "team/bot", "v1")),
        ("localhost:5000/bot", RemoteReference("localhost:5000", "bot", "latest")),
        ("localhost/bot:x", RemoteReference("localhost", "bot", "x")),
        ("[::1]:5000/bot:x", RemoteReference("[::1]:5000", "bot", "x")),
        ("bot", RemoteReference("docker.io", "library/bot", "latest")),
        ("team/bot:v1", RemoteReference("docker.io", "team/bot", "v1")),
        (f"ghcr.io/team/bot@{DIGEST}", RemoteReference("ghcr.io", "team/bot", None, DIGEST)),
        (f"ghcr.io/team/bot:v1@{DIGEST}", RemoteReference("ghcr.io", "team/bot", "v1", DIGEST)),
    ],
)
def test_a_reference_is_parsed_and_written_back(text: str, expected: object) -> None:
    parsed = ArtifactReference.parse(text)
    assert parsed == expected
    assert ArtifactReference.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("oci:adapters:v1", "absolute path"),
        ("oci:/adapters:-v1", "tag"),
        ("https://contoso.azurecr.io/bot:v1", "scheme"),
        ("contoso.azurecr.io/Bot:v1", "lower-case"),
        ("contoso.azurecr.io/bot:v 1", "tag"),
        ("contoso.azurecr.io/bot:", "tag"),
        ("contoso.azurecr.io/../bot:v1", "repository"),
        ("contoso.azurecr.io/bot@sha256:abc", "digest"),
        ("", "repository"),
        ("-x.io/bot", "registry"),
    ],
)
def test_a_bad_reference_is_refused_with_the_part_that_is_wrong(text: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        ArtifactReference.parse(text)


def test_a_password_in_a_reference_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as refused:
        ArtifactReference.parse("me:hunter2@contoso.azurecr.io/bot:v1")
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("127.0.0.1:5000", True),
        ("127.8.9.1", True),
        ("[::1]:5000", True),
        ("128.0.0.1", False),
        ("localhost.example.com:5000", False),
        ("10.0.0.1:5000", False),
    ],
)
def test_only_this_machines_own_names_are_loopback(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_another_tag_drops_the_digest_that_belonged_to_the_first() -> None:
    pinned = ArtifactReference.parse(f"ghcr.io/team/bot:v1@{DIGEST}")
    assert str(pinned.with_tag("v2")) == "ghcr.io/team/bot:v2"


def test_references_and_layouts_are_used_without_loading_an_http_library() -> None:
    code = (
        "import sys, kairay.registry.reference, kairay.registry.artifact;"
        "print(sorted({'requests', 'oras', 'jsonschema', 'torch', 'ray', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
