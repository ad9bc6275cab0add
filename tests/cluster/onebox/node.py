"""The real node: kubelet, kube-proxy, its cgroups, kernel settings that they change; and kwok for pretended nodes."""

from __future__ import annotations

import json
from pathlib import Path

from onebox.api import Api
from onebox.layout import DNS_IP, DOMAIN, NAME, NODE, NODE_IP, POD_CIDR, Layout
from onebox.records import read_record, write_record

_CGROUPS = Path("/sys/fs/cgroup")
_SETTINGS = (
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes", "fs/inotify/max_user_instances",
)  # fmt: skip
"""What the kubelet (and we, the last one) change of the whole machine."""
_INOTIFY_INSTANCES = 1024


def kubelet(layout: Layout, tools: Path) -> list[str]:
    """Writes its configuration, returns the command."""
    state, pki = layout.state, layout.pki
    # Never empty: containerd would copy the machine's own into pods with dnsPolicy Default.
    (state / "resolv.conf").write_text(f"nameserver {DNS_IP}\n")
    (state / "kubelet.json").write_text(json.dumps(_kubelet_configuration(layout), indent=1))
    return [
        str(tools / "kubelet"), "--config", str(state / "kubelet.json"),
        "--kubeconfig", str(pki / "kubelet.kubeconfig"),
        "--root-dir", str(state / "kubelet"), "--cert-dir", str(pki), "--hostname-override", NODE, "--node-ip", NODE_IP,
        "--v", "1",
    ]  # fmt: skip


def _kubelet_configuration(layout: Layout) -> dict[str, object]:
    state, pki = layout.state, layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NAME}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # CPU limits are not enforced: KubeRay's init container has one of 200m, under which importing Ray takes 19 s.
        "cpuCFSQuota": False,
        # Lowering it needs CAP_SYS_RESOURCE, which root may lack.
        "oomScoreAdj": 0,
        "clusterDNS": [DNS_IP],
        "clusterDomain": DOMAIN,
        "resolvConf": str(state / "resolv.conf"),
        "podLogsDir": str(state / "pod-logs"),
        "volumePluginDir": str(state / "volume-plugins"),
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "300Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
    }


def kube_proxy(layout: Layout, tools: Path) -> list[str]:
    """Writes its configuration, returns the command."""
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.pki / "kube-proxy.kubeconfig")},
        "mode": "iptables",
        "oomScoreAdj": 0,
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # Global to the machine and not writable from a network namespace: left alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s"},
    }
    path = layout.state / "kube-proxy.json"
    path.write_text(json.dumps(config, indent=1))
    return [str(tools / "kube-proxy"), "--config", str(path), "--v", "1"]


def kwok(layout: Layout, tools: Path) -> list[str]:
    """Pretends nodes labelled type=kwok, and the pods on them; never touches the real node."""
    return [
        str(tools / "kwok"), "--kubeconfig", str(layout.pki / "kwok.kubeconfig"), "--manage-all-nodes=false",
        "--manage-nodes-with-label-selector=type=kwok", "--cidr=10.253.0.0/24", f"--node-ip={NODE_IP}",
        "--node-lease-duration-seconds=40", "--server-address=127.0.0.1:10247",
    ]  # fmt: skip


def advertise_gpus(api: Api, count: int) -> None:
    """Give the real node `nvidia.com/gpu`; the kubelet makes it allocatable at its next status update (within 10 s)."""
    path = "/status/capacity/nvidia.com~1gpu"
    api.patch(f"/api/v1/nodes/{NODE}/status", [{"op": "add", "path": path, "value": str(count)}])


def ready(node: dict[str, object]) -> bool:
    """Whether the kubelet says so."""
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def make_cgroups() -> None:
    """The cgroup below which every pod of ours lives, in each hierarchy."""
    for hierarchy in _hierarchies():
        ours = hierarchy / NAME
        ours.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # In version 1 a cpuset without these takes no process.
            if (hierarchy / name).exists() and not (ours / name).read_text().strip():
                (ours / name).write_text((hierarchy / name).read_text())
    if (_CGROUPS / "cgroup.controllers").exists():
        _enable_controllers()


def remove_cgroups() -> None:
    """Deepest first; they are empty once no container is left."""
    for hierarchy in _hierarchies():
        if (hierarchy / NAME).exists():
            folders = [p for p in (hierarchy / NAME).rglob("*") if p.is_dir()]
            for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
                folder.rmdir()
            (hierarchy / NAME).rmdir()


def save_settings(layout: Layout) -> None:
    """Remember kernel settings that parts change, and raise what many containers need."""
    before = {
        name: Path("/proc/sys", name).read_text().strip()
        for name in _SETTINGS
        if Path("/proc/sys", name).exists()
    }
    write_record(layout.state / "kernel-settings.json", before)
    if int(before.get("fs/inotify/max_user_instances", _INOTIFY_INSTANCES)) < _INOTIFY_INSTANCES:
        Path("/proc/sys/fs/inotify/max_user_instances").write_text(str(_INOTIFY_INSTANCES))


def restore_settings(layout: Layout) -> None:
    """Put back what `save_settings` found."""
    for name, value in read_record(layout.state / "kernel-settings.json", {}).items():
        path = Path("/proc/sys", name)
        if path.read_text().strip() != value:
            path.write_text(value)


def _hierarchies() -> tuple[Path, ...]:
    """Mount points of cgroup version 1 controllers, or the one of version 2."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return (_CGROUPS,)
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return tuple(Path(fields[1]) for fields in lines if fields[2] in ("cgroup", "cgroup2"))


def _enable_controllers() -> None:
    """Version 2: hand the controllers on to our cgroup and to what lies below it."""
    for folder in (_CGROUPS, _CGROUPS / NAME):
        wanted = (folder / "cgroup.controllers").read_text().split()
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
