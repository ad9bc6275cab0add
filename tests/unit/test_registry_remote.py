"""Pushing to and pulling from a registry that misbehaves; the real one is in tests/local/test_registry_push.py."""

from __future__ import annotations

import base64
import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faulty_registry import CUT, DIE, LOGIN, Fault, Registry, faulty_registry
from kairay.errors import InputError, KairayError, TransientError
from kairay.registry.artifact import (
    Artifact,
    ArtifactMedia,
    Credentials,
    RemoteOptions,
    RemoteReference,
    find,
    pull,
    push_directory,
    tag,
)

FILES = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"\x00\x01" * 300_000, "empty": b""}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with faulty_registry() as running:
        yield running


@pytest.fixture(autouse=True)
def no_login_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def options(slept: list[float]) -> RemoteOptions:
    return RemoteOptions(sleep=slept.append, timeout=(5, 5))


def adapter(folder: Path) -> Path:
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def push(
    folder: Path, registry: Registry, options: RemoteOptions, credentials: Credentials | None = None
) -> Artifact:
    return push_directory(
        folder,
        registry.reference,
        media=ArtifactMedia.ADAPTER,
        annotations={"dev.kairay.revision": "abc123"},
        credentials=credentials,
        options=options,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def test_what_is_pushed_comes_back_byte_for_byte(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    pushed = push(adapter(tmp_path / "in"), registry, options)
    assert find(registry.reference, options=options) == pushed
    assert pull(str(registry.reference), tmp_path / "out", options=options) == pushed
    assert contents(tmp_path / "out") == FILES
    assert Counter(method for method, _ in registry.seen)["POST"] == len(FILES) + 1


def test_a_second_push_sends_nothing(tmp_path: Path, registry: Registry, options: RemoteOptions) -> None:
    folder = adapter(tmp_path / "in")
    first = push(folder, registry, options)
    registry.seen.clear()
    assert push(folder, registry, options) == first
    assert {method for method, _ in registry.seen} == {"GET", "HEAD"}


def test_only_the_changed_file_is_sent(tmp_path: Path, registry: Registry, options: RemoteOptions) -> None:
    folder = adapter(tmp_path / "in")
    push(folder, registry, options)
    (folder / "adapter_config.json").write_bytes(b"{}\n")
    registry.seen.clear()
    push(folder, registry, options)
    assert registry.count("PUT", "/blobs/") == 1


def test_a_second_tag_points_at_the_same_digest(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    pushed = push(adapter(tmp_path / "in"), registry, options)
    tagged = tag(registry.reference, "bot-abc123", options=options)
    assert tagged.digest == pushed.digest
    assert find(f"127.0.0.1:{registry.port}/team/bot:bot-abc123", options=options) == tagged


def test_an_artifact_is_pulled_by_its_digest(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    pushed = push(adapter(tmp_path / "in"), registry, options)
    pull(f"127.0.0.1:{registry.port}/team/bot@{pushed.digest}", tmp_path / "out", options=options)
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "/blobs/", DIE),
        Fault("PUT", "/blobs/", 503),
        Fault("POST", "/blobs/uploads", 500),
        Fault("PUT", "/blobs/", 404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'),
        Fault("PUT", "/manifests/", DIE),
        Fault("GET", "/manifests/", 502),
        Fault("HEAD", "/blobs/", 503),
    ],
    ids=lambda f: f"{f.method} {f.part} {f.status}",
)
def test_a_fault_that_passes_is_waited_out(
    tmp_path: Path, registry: Registry, options: RemoteOptions, slept: list[float], fault: Fault
) -> None:
    fault.times = 2
    registry.faults.append(fault)
    pushed = push(adapter(tmp_path / "in"), registry, options)
    assert fault.times == 0
    assert slept == [0.5, 1.0]
    assert find(registry.reference, options=options) == pushed


def test_a_registry_that_dies_mid_upload_is_reported_and_a_later_push_succeeds(
    tmp_path: Path, registry: Registry, options: RemoteOptions, slept: list[float]
) -> None:
    folder = adapter(tmp_path / "in")
    registry.faults.append(Fault("PUT", "/blobs/", DIE, times=99))
    with pytest.raises(TransientError, match=rf"127.0.0.1:{registry.port}.*push") as failed:
        push(folder, registry, options)
    assert failed.value.reason == "RegistryUnavailable"
    assert "secret-state" not in failed.value.message
    assert slept == [0.5, 1.0, 2.0, 4.0]
    assert find(registry.reference, options=options) is None
    registry.faults.clear()
    assert find(registry.reference, options=options) is None
    assert push(folder, registry, options).digest


def test_a_registry_that_is_not_there_is_reported_as_such(tmp_path: Path, options: RemoteOptions) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = Registry(port=unused.getsockname()[1])
        with pytest.raises(TransientError, match="Connection refused"):
            push(adapter(tmp_path / "in"), nobody, options)


def test_a_registry_may_say_when_to_come_back(
    tmp_path: Path, registry: Registry, options: RemoteOptions, slept: list[float]
) -> None:
    registry.faults.append(Fault("GET", "/manifests/", 429, headers={"Retry-After": "7"}))
    registry.faults.append(Fault("GET", "/manifests/", 429, headers={"Retry-After": "86400"}))
    find(registry.reference, options=options)
    assert slept == [7.0, 30.0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_how_to_log_in_and_is_not_tried_again(
    tmp_path: Path, registry: Registry, options: RemoteOptions, slept: list[float], status: int
) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": f"no entry for {LOGIN.password}"}]}).encode()
    registry.faults.append(Fault("POST", "", status, times=9, body=body))
    with pytest.raises(InputError) as refused:
        push(adapter(tmp_path / "in"), registry, options, LOGIN)
    assert refused.value.reason == "RegistryDenied"
    assert f"127.0.0.1:{registry.port} refused the push of {registry.reference}" in refused.value.message
    assert "docker login" in refused.value.message
    assert "tuning.output.imagePushSecret" in refused.value.message
    assert LOGIN.password not in refused.value.message
    assert slept == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [(413, "RegistryFull"), (412, "RegistryFull"), (404, "NotFound"), (400, "RegistryDenied")],
)
def test_other_refusals_have_reasons_of_their_own(
    tmp_path: Path, registry: Registry, options: RemoteOptions, status: int, reason: str
) -> None:
    registry.faults.append(Fault("POST", "", status, body=b"<html>proxy</html>"))
    with pytest.raises(InputError) as refused:
        push(adapter(tmp_path / "in"), registry, options)
    assert refused.value.reason == reason
    assert "html" not in refused.value.message


@pytest.mark.parametrize("login", ["basic", "bearer"])
def test_the_login_is_sent_when_the_registry_asks(
    tmp_path: Path, registry: Registry, options: RemoteOptions, login: str
) -> None:
    registry.login = login
    pushed = push(adapter(tmp_path / "in"), registry, options, LOGIN)
    assert registry.authorizations[0] is None
    assert pull(registry.reference, tmp_path / "out", credentials=LOGIN, options=options) == pushed
    with pytest.raises(InputError, match="docker login"):
        find(registry.reference, options=options)
    with pytest.raises(InputError, match="docker login"):
        find(registry.reference, credentials=Credentials(username="me", password="wrong"), options=options)


def test_an_identity_token_is_exchanged(tmp_path: Path, registry: Registry, options: RemoteOptions) -> None:
    registry.login = "bearer"
    assert push(adapter(tmp_path / "in"), registry, options, Credentials(identity_token="identity")).digest


def test_the_login_found_in_a_docker_configuration_is_used(
    tmp_path: Path, registry: Registry, options: RemoteOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.login = "basic"
    auth = base64.b64encode(b"me:correct-horse").decode()
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {f"127.0.0.1:{registry.port}": {"auth": auth}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    assert push(adapter(tmp_path / "in"), registry, options).digest


def test_a_password_is_never_sent_to_a_login_service_without_https(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    registry.login, registry.realm = "bearer", "http://login.example.com/token"
    with pytest.raises(InputError, match=r"login\.example\.com without HTTPS"):
        push(adapter(tmp_path / "in"), registry, options, LOGIN)


def test_an_upload_is_never_sent_to_another_host_without_https(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    registry.faults.append(Fault("POST", "", 202, headers={"Location": "http://storage.example.com/upload"}))
    with pytest.raises(InputError, match=r"storage\.example\.com over plain HTTP"):
        push(adapter(tmp_path / "in"), registry, options)


def test_the_login_is_not_sent_to_the_host_that_takes_the_upload(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    registry.login = "basic"
    storage = f"http://localhost:{registry.port}/v2/team/bot/blobs/uploads/7?_state=secret-state"
    registry.faults.append(Fault("POST", "", 202, times=9, headers={"Location": storage}))
    with pytest.raises(InputError, match="docker login"):
        push(adapter(tmp_path / "in"), registry, options, LOGIN)
    assert registry.count("PUT") == 1
    assert registry.authorizations[-1] is None


def test_plain_http_is_spoken_to_loopback_and_to_named_hosts_only() -> None:
    from kairay.registry.session import RegistrySession

    def scheme(host: str, *allowed: str) -> str:
        reference = RemoteReference(host, "bot", "v1")
        session = RegistrySession(
            reference, credentials=None, insecure_hosts=frozenset(allowed), timeout=(1, 1)
        )
        session.close()
        return urlsplit(session.manifest_url("v1")).scheme

    assert scheme("localhost:5000") == "http"
    assert scheme("contoso.azurecr.io") == "https"
    assert scheme("10.0.0.4:5000") == "https"
    assert scheme("10.0.0.4:5000", "10.0.0.4:5000") == "http"


def test_a_registry_that_stores_something_else_is_found_out(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    registry.wrong_digest = True
    with pytest.raises(KairayError, match="does not hold sha256:") as refused:
        push(adapter(tmp_path / "in"), registry, options)
    assert refused.value.reason == "DigestMismatch"


def test_a_manifest_that_is_not_the_one_asked_for_is_refused(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    pushed = push(adapter(tmp_path / "in"), registry, options)
    registry.wrong_digest = True
    with pytest.raises(KairayError, match=pushed.digest):
        find(f"127.0.0.1:{registry.port}/team/bot@{pushed.digest}", options=options)


def test_a_corrupt_blob_is_named_and_nothing_is_left(
    tmp_path: Path, registry: Registry, options: RemoteOptions
) -> None:
    push(adapter(tmp_path / "in"), registry, options)
    digest = next(d for d, content in registry.blobs.items() if content == FILES["adapter_model.safetensors"])
    registry.blobs[digest] = b"\xff" + registry.blobs[digest][1:]
    with pytest.raises(KairayError, match=rf"{digest} \(adapter_model.safetensors\) is corrupt"):
        pull(registry.reference, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.pull").exists()


def test_a_download_cut_short_is_started_again(
    tmp_path: Path, registry: Registry, options: RemoteOptions, slept: list[float]
) -> None:
    push(adapter(tmp_path / "in"), registry, options)
    registry.faults.append(Fault("GET", "/blobs/", CUT))
    pull(registry.reference, tmp_path / "out", options=options)
    assert contents(tmp_path / "out") == FILES
    assert slept == [0.5]


@pytest.mark.parametrize("title", ["../escape", "/etc/escape", "a/../../escape", ".kairay-artifact.json", ""])
def test_a_title_that_leaves_the_folder_is_refused(
    tmp_path: Path, registry: Registry, options: RemoteOptions, title: str
) -> None:
    pushed = push(adapter(tmp_path / "in"), registry, options)
    media, body = registry.manifests[pushed.digest]
    registry.manifests["v1"] = (media, body.replace(b'"adapter_config.json"', json.dumps(title).encode()))
    with pytest.raises(InputError) as refused:
        pull(registry.reference, tmp_path / "below" / "out", options=options)
    assert refused.value.reason == "UnsafeArtifact"
    assert not list(tmp_path.rglob("*escape*"))


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"config": 1, "layers": 2}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_manifest_that_is_none_is_an_input_error(
    tmp_path: Path, registry: Registry, options: RemoteOptions, body: bytes
) -> None:
    registry.manifests["v1"] = ("application/vnd.oci.image.manifest.v1+json", body)
    with pytest.raises(InputError, match="not an OCI image manifest"):
        find(registry.reference, options=options)


def test_a_manifest_without_end_is_not_read_to_the_end(registry: Registry, options: RemoteOptions) -> None:
    registry.manifests["v1"] = ("application/vnd.oci.image.manifest.v1+json", b" " * (5 * 2**20))
    with pytest.raises(InputError, match="more than"):
        find(registry.reference, options=options)


def test_nothing_is_pushed_to_a_digest(tmp_path: Path, registry: Registry, options: RemoteOptions) -> None:
    pinned = f"{registry.reference}@sha256:{'a' * 64}"
    with pytest.raises(InputError, match="push to a tag"):
        push_directory(
            adapter(tmp_path / "in"), pinned, media=ArtifactMedia.MODEL, annotations={}, options=options
        )
    assert registry.seen == []
