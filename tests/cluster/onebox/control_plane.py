"""Command lines of etcd, API server, controller manager and scheduler."""

from __future__ import annotations

from pathlib import Path

from onebox.layout import DOMAIN, NODE_IP, POD_CIDR, SERVICE_CIDR, Layout

_ETCD, _PEER = "http://127.0.0.1:2379", "http://127.0.0.1:2380"


def etcd(layout: Layout, tools: Path) -> list[str]:
    """On loopback of the node's namespace; not synced to disk, since nothing outlives the cluster."""
    return [
        str(tools / "etcd"), "--name", "onebox", "--data-dir", str(layout.state / "etcd"),
        "--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD,
        "--listen-peer-urls", _PEER, "--initial-advertise-peer-urls", _PEER, "--initial-cluster", f"onebox={_PEER}",
        "--unsafe-no-fsync", "--log-level", "warn",
    ]  # fmt: skip


def api_server(layout: Layout, tools: Path) -> list[str]:
    """On the node's address: Endpoints of the Service `kubernetes` must be reachable from pods."""
    pki = layout.pki
    return [
        str(tools / "kube-apiserver"), "--etcd-servers", _ETCD,
        "--bind-address", NODE_IP, "--advertise-address", NODE_IP, "--secure-port", "6443",
        "--service-cluster-ip-range", SERVICE_CIDR,
        "--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged=true",
        "--client-ca-file", str(pki / "ca.crt"),
        "--tls-cert-file", str(pki / "apiserver.crt"), "--tls-private-key-file", str(pki / "apiserver.key"),
        "--kubelet-client-certificate", str(pki / "apiserver-kubelet-client.crt"),
        "--kubelet-client-key", str(pki / "apiserver-kubelet-client.key"),
        "--kubelet-certificate-authority", str(pki / "ca.crt"), "--kubelet-preferred-address-types", "InternalIP",
        # Without these two the controller manager complains for ever about a missing CA bundle.
        "--requestheader-client-ca-file", str(pki / "ca.crt"), "--requestheader-allowed-names", "front-proxy",
        "--service-account-issuer", f"https://kubernetes.default.svc.{DOMAIN}",
        "--service-account-key-file", str(pki / "sa.pub"), "--service-account-signing-key-file", str(pki / "sa.key"),
        "--v", "1",
    ]  # fmt: skip


def controller_manager(layout: Layout, tools: Path) -> list[str]:
    """All of its controllers, each with its own service account as in production."""
    pki = layout.pki
    return [
        *_with_kubeconfig(layout, tools, "kube-controller-manager"),
        "--service-account-private-key-file", str(pki / "sa.key"), "--root-ca-file", str(pki / "ca.crt"),
        "--use-service-account-credentials=true", "--cluster-cidr", POD_CIDR,
    ]  # fmt: skip


def scheduler(layout: Layout, tools: Path) -> list[str]:
    """The default profile."""
    return _with_kubeconfig(layout, tools, "kube-scheduler")


def _with_kubeconfig(layout: Layout, tools: Path, name: str) -> list[str]:
    config = str(layout.pki / f"{name}.kubeconfig")
    return [
        str(tools / name), "--kubeconfig", config, "--authentication-kubeconfig", config,
        "--authorization-kubeconfig", config, "--leader-elect=false", "--bind-address", "127.0.0.1", "--v", "1",
    ]  # fmt: skip
