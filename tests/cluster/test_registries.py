"""The two local registries, from pods and by the kubelet: adapters go in and out, a missing login is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import pytest
import requests

from onebox.api import Manifest
from onebox.cluster import Cluster
from onebox.images import Image, write_archive
from polling import eventually
from ray_manifests import pod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300, func_only=True)]

ROUND_TRIP = """
import sys
from pathlib import Path
from kairay.errors import KairayError
from kairay.registry.artifact import ArtifactMedia, Credentials, RemoteOptions, pull, push_directory

host, user, password = sys.argv[1:]
folder = Path('/tmp/adapter')
folder.mkdir()
(folder / 'adapter.bin').write_bytes(bytes(range(256)) * 4096)
options = RemoteOptions(insecure_hosts=frozenset({host}))
credentials = Credentials(username=user, password=password) if user else None
target = f'{host}/team/adapter:v1'
access = {'credentials': credentials, 'options': options}
try:
    pushed = push_directory(folder, target, media=ArtifactMedia.ADAPTER, annotations={}, **access)
except KairayError as error:
    print('REFUSED', error)
    sys.exit(0)
pulled = pull(target, Path('/tmp/back'), **access)
assert Path('/tmp/back/adapter.bin').read_bytes() == (folder / 'adapter.bin').read_bytes()
assert pulled.digest == pushed.digest
print('SAME', pushed.digest)
"""


def test_an_adapter_goes_to_both_registries_and_back_from_a_pod(cluster: Cluster, namespace: str) -> None:
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "script"},
        "data": {"go.py": ROUND_TRIP},
    }
    cluster.api.apply(script, namespace)
    user, password = cluster.registry_user, cluster.registry_password
    runs = {
        "open": (cluster.registry, "", ""),
        "by-name": ("registry.kairay-system:5000", "", ""),
        "private": (cluster.private_registry, user, password),
        "no-login": (cluster.private_registry, "", ""),
        "wrong-login": (cluster.private_registry, user, "not-it"),
    }
    for name, arguments in runs.items():
        runner = pod(name, cluster.image, "python", "/script/go.py", *arguments)
        runner["spec"]["volumes"] = [{"name": "script", "configMap": {"name": "script"}}]
        runner["spec"]["containers"][0]["volumeMounts"] = [{"name": "script", "mountPath": "/script"}]
        cluster.api.apply(runner, namespace)
    said = {name: log_of(cluster, namespace, name) for name in runs}
    for name in ("open", "by-name", "private"):
        assert said[name].startswith("SAME sha256:"), said[name]
    for name in ("no-login", "wrong-login"):
        assert said[name].startswith("REFUSED"), said[name]
        assert f"docker login {cluster.private_registry}" in said[name], said[name]


def test_the_kubelet_pulls_a_private_image_with_the_pull_secret_only(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    login = (cluster.registry_user, cluster.registry_password)
    image = push_image(tmp_path, cluster.private_registry, login)
    entry = base64.b64encode(":".join(login).encode()).decode()
    config = json.dumps({"auths": {cluster.private_registry: {"auth": entry}}})
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }  # fmt: skip
    cluster.api.apply(secret, namespace)
    without = pod("without", image, "echo", "here")
    allowed = pod("allowed", image, "echo", "here")
    allowed["spec"]["imagePullSecrets"] = [{"name": "pull"}]
    for each in (without, allowed):
        # An earlier run may have left the image on the node, which would hide both outcomes.
        each["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    cluster.api.apply(without, namespace)
    refusal = eventually(
        "the pull is refused", lambda: waiting(cluster, namespace, "without"), lambda r: "Pull" in r
    )
    assert refusal.startswith(("ErrImagePull", "ImagePullBackOff"))
    assert "401 Unauthorized" in refusal
    cluster.api.apply(allowed, namespace)
    assert log_of(cluster, namespace, "allowed") == "here\n"


def push_image(folder: Path, registry: str, login: tuple[str, str]) -> str:
    """Push an image of one small layer with plain requests; its reference."""
    archive = folder / "image.tar"
    write_archive(archive, (Image(name="unused:1", environment={"PATH": "/usr/bin:/bin"}),))
    config, layer = parts_of(archive)
    packed = gzip.compress(layer, mtime=0)
    media = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2, "mediaType": media,
        "config": put(registry, login, config, "application/vnd.oci.image.config.v1+json"),
        "layers": [put(registry, login, packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }  # fmt: skip
    answer = requests.put(
        f"http://{registry}/v2/team/image/manifests/v1", json.dumps(manifest), auth=login, timeout=10,
        headers={"Content-Type": media},
    )  # fmt: skip
    answer.raise_for_status()
    return f"{registry}/team/image:v1"


def parts_of(archive: Path) -> tuple[bytes, bytes]:
    """(configuration, layer) of a docker-archive of one image."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            entry = tar.extractfile(name)
            assert entry is not None
            return entry.read()

        listed = json.loads(read("manifest.json"))[0]
        return read(listed["Config"]), read(listed["Layers"][0])


def put(registry: str, login: tuple[str, str], blob: bytes, media: str) -> Manifest:
    """Upload a blob; its descriptor."""
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    started = requests.post(f"http://{registry}/v2/team/image/blobs/uploads/", auth=login, timeout=10)
    started.raise_for_status()
    requests.put(
        started.headers["Location"], blob, params={"digest": digest}, auth=login, timeout=10,
        headers={"Content-Type": "application/octet-stream"},
    ).raise_for_status()  # fmt: skip
    return {"mediaType": media, "digest": digest, "size": len(blob)}


def log_of(cluster: Cluster, namespace: str, name: str) -> str:
    """What the pod said, once it has succeeded."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    ended = eventually(
        f"pod {name} ends", lambda: cluster.api.get(path),
        lambda found: found["status"].get("phase") in ("Succeeded", "Failed"),
    )  # fmt: skip
    said = cluster.api.text(f"{path}/log")
    assert ended["status"]["phase"] == "Succeeded", said
    return said


def waiting(cluster: Cluster, namespace: str, name: str) -> str:
    """Why its container waits: the reason's word and the message."""
    found = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    statuses = found["status"].get("containerStatuses", [])
    state = statuses[0]["state"].get("waiting", {}) if statuses else {}
    return f"{state.get('reason', '')}: {state.get('message', '')}"
