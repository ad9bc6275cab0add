"""containerd with its own configuration, folders and socket, and the namespaces that it and every other part live in.

The anchor is a process that does nothing: it holds the node's network namespace and a private mount namespace. Folders
whose paths the runtimes hard-code are covered there by empty ones, so the machine's own containers are never met, and
every mount goes when the last process has gone.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path

from onebox.commands import run
from onebox.images import images, write_archive
from onebox.layout import (
    PAUSE_IMAGE,
    POD_CIDR,
    PRIVATE_REGISTRY_IP,
    REGISTRY_IP,
    REGISTRY_PORT,
    SYSTEM_NAMESPACE,
    Layout,
    environment_mounts,
)
from onebox.network import NAMESPACE
from onebox.records import read_record, write_record

COVERED = (
    "/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
    "/opt/containerd", "/opt/cni",
)  # fmt: skip
_OPEN_FILES = 1048576


def anchor_command(layout: Layout) -> list[str]:
    """Enter the namespace of `network.create`, cover the folders, tell by a file, wait for the end."""
    ready = anchor_ready(layout)
    cover = "; ".join(f"mount -t tmpfs -o mode=0755 kairay {folder}" for folder in COVERED)
    script = f"{cover}; touch {ready}; exec sleep infinity"
    return [
        "nsenter", f"--net={NAMESPACE}", "unshare", "--mount", "--propagation", "private", "sh", "-ec", script,
    ]  # fmt: skip


def anchor_ready(layout: Layout) -> Path:
    """Exists once the anchor's namespaces may be entered."""
    return layout.state / "anchor.ready"


def make_covered_folders(layout: Layout) -> None:
    """Make what is missing of COVERED on the host, and remember what we made."""
    made = [folder for folder in COVERED if not Path(folder).exists()]
    write_record(layout.state / "folders-made.json", made)
    for folder in made:
        Path(folder).mkdir(parents=True)


def remove_covered_folders(layout: Layout) -> None:
    """Remove what `make_covered_folders` made; one that somebody filled since stays."""
    for folder in read_record(layout.state / "folders-made.json", []):
        path = Path(folder)
        if path.is_dir() and not any(path.iterdir()):
            while folder in mounts():
                # `ip netns add` makes /run/netns a mount of its own.
                run("umount", folder)
            path.rmdir()


def mounts() -> list[str]:
    """Every mount point that the machine's own processes see."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def write_configuration(layout: Layout, tools: Path) -> Path:
    """Write containerd's, CNI's and the base container specification; returns containerd's."""
    state = layout.state
    (state / "cni").mkdir(parents=True)
    (state / "cni" / "10-kairay.conflist").write_text(json.dumps(_cni(layout)))
    (state / "base-spec.json").write_text(json.dumps(_base_spec(tools)))
    _write_registry_hosts(state / "certs.d")
    config = state / "containerd.toml"
    config.write_text(_containerd(layout))
    return config


def import_images(layout: Layout, tools: Path) -> None:
    """Bring the images made here into containerd."""
    archive = layout.state / "images.tar"
    write_archive(archive, images(tools))
    run("ctr", "-a", str(layout.containerd_socket), "-n", "k8s.io", "images", "import", str(archive))
    archive.unlink()


def _cni(layout: Layout) -> dict[str, object]:
    return {
        "cniVersion": "0.4.0",
        "name": "kairay",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.state / "addresses"),
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _base_spec(tools: Path) -> dict[str, object]:
    """containerd's default plus the host's folders, read-only, in every container: manifests stay a user's."""
    spec: dict[str, object] = json.loads(run("ctr", "oci", "spec"))
    mounts = spec["mounts"]
    process = spec["process"]
    assert isinstance(mounts, list)
    assert isinstance(process, dict)
    folders = [folder for folder in (*environment_mounts(), tools) if folder.exists()]
    spec["mounts"] = [mount for mount in mounts if mount["destination"] != "/run"] + [
        {
            "destination": str(path),
            "type": "bind",
            "source": str(path),
            "options": ["rbind", "ro", "rprivate"],
        }
        for path in folders
    ]
    # The default of 1024 is too small for Ray; above our own hard limit it cannot be set.
    limit = min(_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": limit, "soft": limit}]
    return spec


def _write_registry_hosts(folder: Path) -> None:
    """Plain HTTP for the two local registries, by address and by the names that pods use."""
    for ip, name in ((REGISTRY_IP, "registry"), (PRIVATE_REGISTRY_IP, "private-registry")):
        for host in (ip, f"{name}.{SYSTEM_NAMESPACE}"):
            place = folder / f"{host}:{REGISTRY_PORT}"
            place.mkdir(parents=True)
            url = f"http://{ip}:{REGISTRY_PORT}"
            (place / "hosts.toml").write_text(
                f'server = "{url}"\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'
            )


def _containerd(layout: Layout) -> str:
    state = layout.state
    cni_programs = next(
        (p for p in ("/usr/lib/cni", "/opt/cni/bin") if Path(p, "bridge").exists()), "/usr/lib/cni"
    )
    return f"""version = 2
root = "{state}/containerd"
state = "{state}/containerd-run"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper",
]
[grpc]
  address = "{layout.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  # Where root lacks CAP_SYS_RESOURCE, runc may not lower oom_score_adj and no container starts.
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{state}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_programs}"
    conf_dir = "{state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "{state}/base-spec.json"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
