"""The Service in front of a Workspace: there from the first minute, following the cluster that answers. Pure."""

from __future__ import annotations

from kairay.objects.metadata import Manifest, Owner
from kairay.ray.pods import SERVE_PORT

HTTP_PORT = 80
RENDEZVOUS_PORT = 29500


def service(owner: Owner, *, cluster: str | None, load_balancer: bool) -> Manifest:
    """`cluster` is the RayCluster that answers; without one the selector matches nothing on purpose."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.name),
        "spec": {
            "type": "LoadBalancer" if load_balancer else "ClusterIP",
            "selector": {"ray.io/cluster": cluster or f"{owner.name}.none", "ray.io/serve": "true"},
            "ports": [
                {"name": "http", "port": HTTP_PORT, "protocol": "TCP", "targetPort": SERVE_PORT},
                {"name": "torch", "port": RENDEZVOUS_PORT, "protocol": "TCP", "targetPort": RENDEZVOUS_PORT},
            ],
        },
    }
