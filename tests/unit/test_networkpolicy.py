"""Who reaches a Workspace's pods, asked flow by flow of the policy as Kubernetes reads one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kairay.objects.networkpolicy import network_policy

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "networkpolicy.json"
OWNER = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "name": "my-chat",
    "uid": "7b0c4a52-1111-4222-8333-944445555666",
    "controller": True,
    "blockOwnerDeletion": True,
}
OURS = {"kairay.dev/workspace": "my-chat", "app.kubernetes.io/name": "kuberay", "ray.io/node-type": "worker"}
PORTS = (6379, 8000, 8080, 8265, 10001, 29500, 44217, 44227, 52365)


@dataclass(frozen=True)
class Peer:
    """Where a connection comes from; without a namespace it is no pod."""

    namespace: str | None
    labels: dict[str, str] = field(default_factory=dict)
    on_its_node: bool = False


KUBELET = Peer(None, on_its_node=True)
INTERNET = Peer(None)
SIBLING = Peer("team", OURS)
COLLEAGUE = Peer("team", {"app": "shop"})
OTHER_WORKSPACE = Peer("team", {**OURS, "kairay.dev/workspace": "other"})
NAMESAKE = Peer("rivals", OURS)
STRANGER = Peer("rivals", {"app": "shop"})
CONTROLLER = Peer("kairay-system", {"app.kubernetes.io/name": "kairay-controller", "pod-template-hash": "1"})
FALSE_CONTROLLER = Peer("rivals", {"app.kubernetes.io/name": "kairay-controller"})
NEIGHBOUR = Peer("kairay-system", {"app": "shop"})
CHART_OPERATOR = Peer("ray", {"app.kubernetes.io/name": "kuberay-operator"})
KUSTOMIZE_OPERATOR = Peer(
    "ray-system",
    {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/component": "kuberay-operator"},
)

REACHED = {
    "kubelet": (KUBELET, PORTS, PORTS),
    "pod of the Workspace": (SIBLING, PORTS, PORTS),
    "pod of the namespace": (COLLEAGUE, (8000,), (8000,)),
    "Ray pod of another Workspace": (OTHER_WORKSPACE, (8000,), (8000,)),
    "Workspace of that name elsewhere": (NAMESAKE, (), (8000,)),
    "pod of another namespace": (STRANGER, (), (8000,)),
    "internet": (INTERNET, (), (8000,)),
    "controller": (CONTROLLER, (8080, 8265), (8000, 8080, 8265)),
    "controller's label in another namespace": (FALSE_CONTROLLER, (), (8000,)),
    "another pod beside the controller": (NEIGHBOUR, (), (8000,)),
    "operator from its chart": (CHART_OPERATOR, (8000, 8265, 52365), (8000, 8265, 52365)),
    "operator from its manifests": (KUSTOMIZE_OPERATOR, (8000, 8265, 52365), (8000, 8265, 52365)),
}
"""Who -> (peer, ports that it reaches, ports that it reaches when the Workspace is exposed)."""


def policy(*, exposed: bool = False) -> dict[str, Any]:
    return network_policy("my-chat", "team", "kairay-system", OWNER, exposed=exposed)


def allows(drawn: dict[str, Any], peer: Peer, target: dict[str, str], port: int) -> bool:
    """Whether a pod of the policy's namespace that has the labels `target` takes TCP from `peer`."""
    spec = drawn["spec"]
    if peer.on_its_node or not selects(spec["podSelector"], target) or "Ingress" not in spec["policyTypes"]:
        return True
    return any(admits(rule, peer, port, drawn["metadata"]["namespace"]) for rule in spec["ingress"])


def admits(rule: dict[str, Any], peer: Peer, port: int, home: str) -> bool:
    """A rule without `from` is for everybody, one without `ports` for all of them."""
    open_ports = [(each["port"], each["protocol"]) for each in rule.get("ports", [])]
    return ("ports" not in rule or (port, "TCP") in open_ports) and (
        "from" not in rule or any(comes_from(each, peer, home) for each in rule["from"])
    )


def comes_from(written: dict[str, Any], peer: Peer, home: str) -> bool:
    if peer.namespace is None:
        return False
    if "namespaceSelector" in written:
        if not selects(written["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != home:
        return False
    return selects(written.get("podSelector", {}), peer.labels)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("who", REACHED)
def test_each_peer_reaches_its_ports_and_no_others(who: str, exposed: bool) -> None:
    peer, inside, outside = REACHED[who]
    reached = tuple(port for port in PORTS if allows(policy(exposed=exposed), peer, OURS, port))
    assert reached == (outside if exposed else inside)


def test_pods_of_others_are_not_touched() -> None:
    assert allows(policy(), STRANGER, {"app": "shop"}, 5432)
    assert allows(policy(), STRANGER, OTHER_WORKSPACE.labels, 8265)


def test_nothing_is_said_about_where_pods_may_go() -> None:
    assert policy()["spec"]["policyTypes"] == ["Ingress"]
    assert "egress" not in policy()["spec"]


def test_the_policy_is_stable_to_the_byte() -> None:
    text = json.dumps({"inside": policy(), "exposed": policy(exposed=True)}, indent=2, sort_keys=True) + "\n"
    assert text == GOLDEN.read_text("utf-8")


def test_the_workspace_owns_it() -> None:
    metadata = policy()["metadata"]
    assert metadata["ownerReferences"] == [OWNER]
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "kairay",
        "kairay.dev/workspace": "my-chat",
    }
