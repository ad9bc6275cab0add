"""Artifacts against a real registry on loopback: docker-registry, from `scripts/install-registry.sh`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from kairay.errors import InputError, TransientError
from kairay.registry.artifact import (
    Artifact,
    ArtifactMedia,
    Credentials,
    LayoutReference,
    RemoteOptions,
    RemoteReference,
    find,
    pull,
    push_directory,
    tag,
)
from kairay.registry.credentials import LOGINS_VARIABLE
from kairay.registry.fetch import main as fetch

pytestmark = [pytest.mark.local, pytest.mark.registry]

TESTER = Credentials(username="tester", password="test-password")
HTPASSWD = "tester:$2y$05$DFzzRjX8jUjnRHZZ621vp.bpsC22SyXDJqsyZC58YuVtITP9Vvxce\n"
"""bcrypt of TESTER's password."""
MIB = 2**20


class RealRegistry:
    """One docker-registry process with its storage, which outlives the process."""

    def __init__(self, folder: Path, *, login: bool) -> None:
        self.folder, self.storage, self.login = folder, folder / "storage", login
        self.address = "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Listen on a free port the first time, on the same one afterwards."""
        lines = [
            "version: 0.1",
            "log: {level: info}",
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}}}",
            f"http: {{addr: '{self.address}'}}",
        ]
        if self.login:
            (self.folder / "htpasswd").write_text(HTPASSWD)
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {self.folder / 'htpasswd'}}}}}")
        config = self.folder / "config.yml"
        config.write_text("\n".join(lines) + "\n")
        log = self.folder / "registry.log"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdout=output, stderr=subprocess.STDOUT, text=True
            )
        self.address = self._listening(log)

    def _listening(self, log: Path) -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
                return found[1]
            assert self.process is not None
            assert self.process.poll() is None, log.read_text()
            threading.Event().wait(0.01)
        raise AssertionError(log.read_text())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def reference(self, repository: str = "team/bot", tag_name: str = "v1") -> RemoteReference:
        return RemoteReference(self.address, repository, tag_name)


@pytest.fixture(params=[False, True], ids=["open", "htpasswd"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealRegistry]:
    yield from started(tmp_path, login=request.param)


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[RealRegistry]:
    yield from started(tmp_path, login=False)


def started(tmp_path: Path, *, login: bool) -> Iterator[RealRegistry]:
    if shutil.which("docker-registry") is None:
        missing = "the program docker-registry is missing; scripts/install-registry.sh installs it"
        if "registry" in os.environ.get("KAIRAY_REQUIRE", "").split(","):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path / "registry"
    folder.mkdir()
    registry = RealRegistry(folder, login=login)
    registry.start()
    try:
        yield registry
    finally:
        registry.kill()


def adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 8192)
    (folder / "empty.txt").write_bytes(b"")
    return folder


def push(
    folder: Path, target: RemoteReference | LayoutReference, credentials: Credentials | None = None
) -> Artifact:
    return push_directory(
        folder,
        target,
        media=ArtifactMedia.ADAPTER,
        annotations={"dev.kairay.revision": "abc123"},
        credentials=credentials,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".kairay-artifact.json"}


def test_an_adapter_goes_up_comes_back_and_has_the_digest_it_has_in_a_layout(
    registry: RealRegistry, tmp_path: Path
) -> None:
    folder, target = adapter(tmp_path / "in"), registry.reference()
    assert find(target, credentials=TESTER) is None
    pushed = push(folder, target, TESTER)
    assert push(folder, target, TESTER) == pushed
    assert find(target, credentials=TESTER) == pushed
    assert pull(target, tmp_path / "out", credentials=TESTER) == pushed
    assert contents(tmp_path / "out") == contents(folder)
    assert tag(target, "bot-abc123", credentials=TESTER).digest == pushed.digest
    assert find(registry.reference(tag_name="bot-abc123"), credentials=TESTER) is not None
    assert push(folder, LayoutReference(tmp_path / "layout", "v1")).digest == pushed.digest


def test_a_second_push_changes_no_byte_in_the_registry(open_registry: RealRegistry, tmp_path: Path) -> None:
    def state() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in open_registry.storage.rglob("*")}

    folder = adapter(tmp_path / "in")
    push(folder, open_registry.reference())
    before = state()
    push(folder, open_registry.reference())
    assert state() == before


def test_other_tools_see_an_oci_artifact(open_registry: RealRegistry, tmp_path: Path) -> None:
    import oras.client

    folder, target = adapter(tmp_path / "in"), open_registry.reference()
    push(folder, target)
    with urlopen(f"http://{target.registry}/v2/team/bot/tags/list") as answer:
        assert json.load(answer) == {"name": "team/bot", "tags": ["v1"]}
    client = oras.client.OrasClient(insecure=True)
    client.pull(target=str(target), outdir=str(tmp_path / "oras"))
    manifest = client.get_manifest(str(target))
    client.session.close()
    assert contents(tmp_path / "oras") == contents(folder)
    assert manifest["artifactType"] == "application/vnd.kairay.adapter.v1"


@pytest.mark.parametrize("credentials", [None, Credentials(username="tester", password="hunter2")])
@pytest.mark.parametrize("registry", [True], indirect=True, ids=["htpasswd"])
def test_without_the_right_login_the_push_is_refused_with_the_remedy(
    registry: RealRegistry, tmp_path: Path, credentials: Credentials | None
) -> None:
    with pytest.raises(InputError, match="docker login") as refused:
        push(adapter(tmp_path / "in"), registry.reference(), credentials)
    assert refused.value.reason == "RegistryDenied"
    assert "hunter2" not in refused.value.message
    assert not list(registry.folder.glob("storage/docker/registry/v2/repositories/*"))


@pytest.mark.parametrize("registry", [True], indirect=True, ids=["htpasswd"])
def test_the_login_of_docker_is_used(
    registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(b"tester:test-password").decode()
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    assert push(adapter(tmp_path / "in"), registry.reference()).digest


def big(folder: Path, mebibytes: int) -> Path:
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as handle:
        for n in range(mebibytes):
            handle.write(n.to_bytes(4, "little") * (MIB // 4))
    return folder


def has_begun(storage: Path) -> bool:
    """Whether some of a large upload is on the registry's disk; uploads and folders come and go meanwhile."""
    for folder, _, files in os.walk(storage):
        if "data" in files and "_uploads" in folder:
            with contextlib.suppress(FileNotFoundError):
                if (Path(folder) / "data").stat().st_size > MIB:
                    return True
    return False


def kill_during_upload(registry: RealRegistry) -> threading.Thread:
    """SIGKILL the registry as soon as some of an upload is on its disk."""

    def watch() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if has_begun(registry.storage):
                break
            threading.Event().wait(0.002)
        registry.kill()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_registry_killed_mid_push_and_started_again_gets_the_whole_artifact(
    open_registry: RealRegistry, tmp_path: Path
) -> None:
    folder, slept = big(tmp_path / "in", 128), []
    killer = kill_during_upload(open_registry)

    def restart(seconds: float) -> None:
        slept.append(seconds)
        killer.join()
        open_registry.start()

    target = open_registry.reference("team/model")
    pushed = push_directory(
        folder, target, media=ArtifactMedia.MODEL, annotations={}, options=RemoteOptions(sleep=restart)
    )
    assert slept == [0.5]
    pull(target, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(folder)
    assert find(target) == pushed


def test_a_registry_that_stays_dead_is_reported_and_the_next_push_succeeds(
    open_registry: RealRegistry, tmp_path: Path
) -> None:
    folder, target = big(tmp_path / "in", 128), open_registry.reference("team/model")
    killer = kill_during_upload(open_registry)
    with pytest.raises(TransientError, match="run it again when the registry is up") as failed:
        push_directory(
            folder,
            target,
            media=ArtifactMedia.MODEL,
            annotations={},
            options=RemoteOptions(attempts=2, sleep=lambda _: killer.join()),
        )
    assert failed.value.reason == "RegistryUnavailable"
    open_registry.start()
    assert find(target) is None
    assert push(folder, target).size == 128 * MIB


CHILD = """
import re, sys
from pathlib import Path
from kairay.registry.artifact import ArtifactMedia, pull, push_directory
if sys.argv[1] == "push":
    push_directory(Path(sys.argv[2]), sys.argv[3], media=ArtifactMedia.MODEL, annotations={})
else:
    pull(sys.argv[3], Path(sys.argv[2]))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_a_large_model_is_streamed_both_ways(open_registry: RealRegistry, tmp_path: Path) -> None:
    folder, target = big(tmp_path / "in", 512), str(open_registry.reference("team/model"))

    def peak(*arguments: str) -> int:
        """MiB of memory that a process of its own needed at most; ru_maxrss would count its parent."""
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert peak("push", str(folder), target) < 100
    assert peak("pull", str(tmp_path / "out"), target) < 100
    assert (tmp_path / "out/model.safetensors").stat().st_size == 512 * MIB


def test_a_push_process_that_is_killed_leaves_a_repository_that_the_next_one_completes(
    open_registry: RealRegistry, tmp_path: Path
) -> None:
    folder, target = big(tmp_path / "in", 256), open_registry.reference("team/model")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "push", str(folder), str(target)], stdout=subprocess.DEVNULL
    )
    while child.poll() is None and not has_begun(open_registry.storage):
        threading.Event().wait(0.002)
    child.kill()
    assert child.wait() != 0
    assert find(target) is None
    assert push(folder, target).size == 256 * MIB


def test_a_pods_fetch_logs_in_with_its_mounted_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for private in started(tmp_path, login=True):
        folder, target = adapter(tmp_path / "in"), private.reference()
        push(folder, target, TESTER)
        command = ["data", str(target), str(tmp_path / "pod" / "data")]
        assert fetch(command) == 2
        assert "RegistryDenied" in capsys.readouterr().out.splitlines()[-1]
        login = base64.b64encode(f"{TESTER.username}:{TESTER.password}".encode()).decode()
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / ".dockerconfigjson").write_text(
            json.dumps({"auths": {private.address: {"auth": login}}})
        )
        monkeypatch.setenv(LOGINS_VARIABLE, f"{tmp_path / 'optional'}{os.pathsep}{tmp_path / 'secret'}")
        assert fetch(command) == 0
        assert contents(tmp_path / "pod" / "data") == contents(folder)
