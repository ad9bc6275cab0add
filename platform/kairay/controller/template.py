"""What becomes of a Workspace with a pod template of its own: a Deployment and a Service. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.drawn_for import is_exposed
from kairay.controller.observed import Observed
from kairay.controller.refusals import with_refusal
from kairay.controller.trouble import Trouble
from kairay.controller.unmade import unmade_of_deployment
from kairay.controller.waiting import pod_trouble, waiting_reason
from kairay.kube.objects import DEPLOYMENT, POD, SERVICE, Manifest
from kairay.nodes.existing import matching
from kairay.objects.deployment import template_deployment, template_service
from kairay.objects.metadata import Owner
from kairay.objects.service import HTTP_PORT
from kairay.workspace import Workspace


def template_objects(workspace: Workspace, owner: Owner, seen: Observed) -> tuple[Manifest, ...]:
    """The Deployment and the Service in front, which is closed first: a rule may deny the other's edit."""
    assert workspace.inference is not None
    assert workspace.inference.template is not None
    template = workspace.inference.template
    labels = workspace.resource.label_selector.match_labels
    exposed = is_exposed(seen.annotations)
    deployment = template_deployment(owner, template, labels)
    front = template_service(owner, template, load_balancer=exposed)
    live = seen.find(SERVICE, owner.name)
    closes = not exposed and live is not None and live["spec"].get("type") == "LoadBalancer"
    return (front, deployment) if closes else (deployment, front)


def template_conditions(workspace: Workspace, seen: Observed) -> list[Condition]:
    """Nodes with the labels; the Deployment's own word on whether it answers."""
    nodes = [node for node in matching(seen.nodes, workspace.resource.label_selector) if node.ready]
    resources = Condition(
        type=Type.RESOURCE_READY,
        status=bool(nodes),
        reason=Reason.NODES_READY if nodes else Reason.NODES_MISSING,
        message=f"{len(nodes)} ready node(s) have the Workspace's labels",
    )
    name = workspace.metadata.name
    found = seen.find(DEPLOYMENT, name)
    live = found if found is not None and seen.owns(found) else None
    available = ((live or {}).get("status") or {}).get("availableReplicas", 0)
    trouble = None if available else _trouble(live, seen)
    ready = Condition(
        type=Type.INFERENCE_READY,
        status=bool(available),
        reason=Reason.SERVING if available else waiting_reason(trouble, Reason.STARTING),
        message=f"Deployment {name} answers"
        if available
        else f"Deployment {name}: {trouble.message if trouble else 'its pod is starting'}",
    )
    return [resources, ready, replace(ready, type=Type.SUCCEEDED), replace(ready, type=Type.READY)]


def _trouble(live: Manifest | None, seen: Observed) -> Trouble | None:
    unmade = None if live is None else unmade_of_deployment(live)
    return with_refusal(pod_trouble(seen.all(POD), seen.complaints), unmade)


def template_told(owner: Owner) -> dict[str, Any]:
    """`status.inference`."""
    return {"url": f"http://{owner.name}.{owner.namespace}.svc:{HTTP_PORT}"}
