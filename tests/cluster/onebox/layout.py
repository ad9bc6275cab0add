"""Where everything is: folders, addresses, names. One cluster per machine, so most of it is fixed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
TOOL_MODULES = CLONE / "tests" / "cluster" / "tools"

NAME = "kairay"
"""Of the network namespace and the cgroup: what carries it is ours."""
NODE = "onebox"
HOST_LINK, NODE_LINK = "kairay-host", "kairay-node"
HOST_IP, NODE_IP, LINK_NET = "10.250.0.1", "10.250.0.2", "10.250.0.0/30"
POD_CIDR, SERVICE_CIDR = "10.251.0.0/24", "10.252.0.0/16"
API_SERVICE_IP, DNS_IP = "10.252.0.1", "10.252.0.10"
REGISTRY_IP, PRIVATE_REGISTRY_IP, REGISTRY_PORT = "10.252.0.50", "10.252.0.51", 5000
SYSTEM_NAMESPACE = "kairay-system"
DOMAIN = "cluster.local"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RAY_VERSION = "2.60.0"
RAY_IMAGE = f"kairay.local/ray:{RAY_VERSION}"
BASE_IMAGE = "kairay.local/base:1"
PAUSE_IMAGE = "kairay.local/pause:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Folders of the cluster of this machine."""

    root: Path
    """What `down` removes, but for `logs`, `build.log` and the lock."""
    tools: Path
    """Cache of built programs, one folder per hash of what they are built from."""

    @classmethod
    def default(cls) -> Layout:
        """Fixed, since the namespaces' names are too: one cluster per machine. Tools are in the user's cache folder."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(root=Path("/var/lib/kairay-cluster"), tools=cache / "kairay" / "cluster")

    @property
    def state(self) -> Path:
        """All that lives only as long as the cluster."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """One file per part; kept until the next start, so that a failed one can be read."""
        return self.root / "logs"

    @property
    def holder(self) -> Path:
        """Who started the cluster: JSON with clone, time, tools and whether it is up."""
        return self.root / "holder.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, mode 0600."""
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Keys and certificates, made anew at each start."""
        return self.state / "pki"

    @property
    def containerd_socket(self) -> Path:
        """Of our containerd; its length is bounded by the kernel (107 bytes)."""
        return self.state / "containerd.sock"


def environment_mounts() -> tuple[Path, ...]:
    """Host folders that every container sees read-only at the same path: system, interpreter, environment, sources."""
    base = Path(sys.base_prefix).resolve()
    roots = [CLONE / name for name in ("platform", "train_jobs", "serve_apps", "presets", "kuberay")]
    shared = [Path("/usr"), Path("/etc/alternatives"), Path("/etc/ssl"), base, CLONE / ".venv", *roots]
    return tuple(path for path in shared if path == Path("/usr") or not path.is_relative_to("/usr"))
