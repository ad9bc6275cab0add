"""What becomes of a Workspace's service: a RayService, and a Service in front that follows its cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kairay.config_maps import INFERENCE_KEY, engine_settings
from kairay.controller.blueprint import Blueprint
from kairay.controller.conditions import Condition, Reason, Type
from kairay.controller.drawn_for import (
    DrawnFor,
    Served,
    asked_for,
    is_exposed,
    marked,
    read_drawn_for,
)
from kairay.controller.observed import Observed
from kairay.controller.refusals import refused, with_refusal
from kairay.controller.settings import Settings
from kairay.controller.trouble import Trouble
from kairay.controller.unmade import unmade_of_service
from kairay.controller.waiting import is_ready, pod_trouble, waiting_reason
from kairay.kube.objects import POD, RAY_SERVICE, SERVICE, Manifest, labels_of
from kairay.names import api_keys_name, ray_service_name
from kairay.objects.metadata import REVISION_LABEL, Owner
from kairay.objects.service import HTTP_PORT, service
from kairay.ray.cluster_places import model_override, serving_pods
from kairay.ray.pods import ROOT, SERVE_PORT, Mount
from kairay.ray.raycluster import ROLE_LABEL, RayPods, cluster_spec
from kairay.ray.rayservice import ray_service
from kairay.ray.serve_config import serve_config
from kairay.ray.target import CLUSTER, ServicePlace
from kairay.workspace import Workspace

KEYS = f"{ROOT}/keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingDecision:
    """What should be, and what to say of it."""

    objects: tuple[Manifest, ...]
    ready: Condition
    told: Mapping[str, Any] = field(default_factory=dict)
    """`status.inference`."""
    exposed: bool = False
    """Reachable from outside the cluster, so API keys are asked for."""


def decide_serving(
    workspace: Workspace, owner: Owner, blueprint: Blueprint, seen: Observed, settings: Settings,
    *, tuned: str | None,
) -> ServingDecision:  # fmt: skip
    """The service of an inference Workspace, or of the adapter `tuned` that a tuning one has made."""
    exposed = is_exposed(seen.annotations)
    manifest = draw_service(
        workspace, owner, blueprint, settings, tuned=tuned, config_text=seen.config_text, exposed=exposed
    )
    serving = blueprint.plan.serving
    assert serving is not None
    served = Served(
        models=(blueprint.plan.preset, *_adapter_names(workspace, tuned)),
        fewest=serving.min_replicas,
        most=serving.max_replicas,
        tuned=tuned,
    )
    drawn_for = DrawnFor(
        asked=asked_for(seen, tuned=tuned),
        size=blueprint.sku.name,
        need=blueprint.need,
        wish=blueprint.wish,
        served=served,
    )
    told = _told(owner, seen, served, exposed=exposed)
    drawn = marked(manifest, drawn_for)
    # Closed before its keys go: a rule may deny that, and then they have to stay.
    closes = not exposed and _is_open(owner, seen)
    return replace(told, objects=(*told.objects, drawn) if closes else (drawn, *told.objects))


def follow_service(owner: Owner, seen: Observed, *, tuned: str | None) -> ServingDecision | None:
    """The service that is there, which stays as it is; only the Service in front goes on following its cluster.

    None: there is none, or it was drawn for what its user has changed since. That it is reachable from outside may be
    taken back at any time: its keys stay on.
    """
    drawn_for = read_drawn_for(_live(owner, seen))
    if drawn_for is None or drawn_for.served is None:
        return None
    asked = {asked_for(seen, tuned=tuned)}
    exposed = is_exposed(seen.annotations)
    if not exposed:
        asked.add(asked_for(seen, tuned=tuned, exposed=True))
    if drawn_for.asked not in asked:
        return None
    return _told(owner, seen, drawn_for.served, exposed=exposed)


def without_service(owner: Owner, seen: Observed, ready: Condition) -> ServingDecision:
    """Nothing to serve yet, or ever; the Service is there from the first minute all the same. It is opened once a
    RayService that may have no keys is gone."""
    exposed = is_exposed(seen.annotations) if _live(owner, seen) is None else _stays_open(owner, seen)
    return ServingDecision(
        objects=(service(owner, cluster=None, load_balancer=exposed),), ready=ready, exposed=exposed
    )


def keep_serving(owner: Owner, seen: Observed, ready: Condition) -> ServingDecision:
    """What is there goes on, whatever it should be, and whether it answers now or not.

    At most as open as it is now: its keys are switched by what is not drawn here.
    """
    if _live(owner, seen) is None:
        return without_service(owner, seen, ready)
    return ServingDecision(objects=(find_front(owner, seen),), ready=ready, exposed=_stays_open(owner, seen))


def find_front(owner: Owner, seen: Observed) -> Manifest:
    """The Service in front of whatever answers now, at most as open as it is."""
    cluster = active_cluster(_live(owner, seen))
    return service(owner, cluster=cluster, load_balancer=_stays_open(owner, seen))


def find_serving(owner: Owner, seen: Observed, *, tuned: str | None = None) -> ServingDecision | None:
    """The service that is there as it stands, whatever is asked for now, and at most as open as it is; None: there is
    none, nobody can say what it serves, or it does not serve the adapter `tuned`."""
    drawn_for = read_drawn_for(_live(owner, seen))
    if drawn_for is None or drawn_for.served is None or tuned not in (None, drawn_for.served.tuned):
        return None
    return _told(owner, seen, drawn_for.served, exposed=_stays_open(owner, seen))


def draw_service(
    workspace: Workspace,
    owner: Owner,
    blueprint: Blueprint,
    settings: Settings,
    *,
    tuned: str | None,
    config_text: str | None,
    exposed: bool,
) -> Manifest:
    """The RayService. Adapters, engine settings and keys are in its Serve config, which is edited in place."""
    plan = blueprint.plan
    serving = plan.serving
    assert serving is not None
    # The secret may come later: it is switched by the Serve config, so that no pod template changes.
    keys = Mount(
        name="api-keys", path=KEYS, volume={"secret": {"secretName": api_keys_name(owner.name), "optional": True}}
    )  # fmt: skip
    pods = serving_pods(workspace, tuned=tuned, settings=settings.pods, keys=keys)
    spec = workspace.inference or workspace.tuning
    assert spec is not None
    assert spec.preset is not None
    engine: dict[str, Any] = {}
    if workspace.inference is not None and config_text is not None:
        where = f"ConfigMap {workspace.inference.config}, {INFERENCE_KEY}"
        engine = engine_settings(config_text, str(serving.engine), where)
    target = replace(CLUSTER, advertised_gpus=settings.advertised_gpus)
    place = ServicePlace(
        port=SERVE_PORT, route_prefix="/", adapters=pods.adapters,
        default_model=owner.name if tuned is not None else None, keys_path=KEYS, require_keys=exposed,
    )  # fmt: skip
    config = serve_config(plan, target, place, model=model_override(spec.preset), engine_config=engine)
    gpus = min(max(1, serving.gpus_per_replica), blueprint.gpus_per_node)
    size, cpus = blueprint.worker(gpus, settings)
    pods_per_replica = -(-max(1, serving.gpus_per_replica) // gpus)
    cluster = cluster_spec(RayPods(
        image=settings.image, labels=owner.labels, head=settings.head, head_parts=pods.head, worker=size,
        worker_parts=pods.worker, worker_cpus=cpus, most_workers=serving.max_replicas * pods_per_replica,
        placement=blueprint.placement, idle_seconds=settings.worker_idle_seconds, resources={},
    ))  # fmt: skip
    return ray_service(owner.metadata(ray_service_name(owner.name)), cluster, config)


def active_cluster(ray_service: Manifest | None) -> str | None:
    """The RayCluster that answers now."""
    status = (ray_service or {}).get("status") or {}
    return (status.get("activeServiceStatus") or {}).get("rayClusterName") or None


def _told(owner: Owner, seen: Observed, served: Served, *, exposed: bool) -> ServingDecision:
    """How the service stands, and the Service in front of it."""
    live = _live(owner, seen)
    cluster = active_cluster(live)
    told = {
        "url": f"http://{owner.name}.{owner.namespace}.svc:{HTTP_PORT}",
        "models": list(served.models),
        "replicas": served.most,
        "readyReplicas": len(_ready_workers(seen, cluster)),
    }
    return ServingDecision(
        objects=(service(owner, cluster=cluster, load_balancer=exposed),),
        ready=_ready(owner, live, cluster, seen, served),
        told=told,
        exposed=exposed,
    )


def _ready(
    owner: Owner, live: Manifest | None, cluster: str | None, seen: Observed, served: Served
) -> Condition:
    name = ray_service_name(owner.name)
    if live is None:
        return _condition(False, Reason.STARTING, f"RayService {name} is being made")
    status = live.get("status") or {}
    app = _application(status, name)
    if app.get("status") == "DEPLOY_FAILED":
        return _condition(False, Reason.SERVING_FAILED, f"Ray Serve: {_first_fault(app)}")
    if app.get("status") == "RUNNING" and _answers(status) and _leads_to(seen, cluster):
        return _answering(name, live, cluster, seen, served)
    trouble = _trouble(live, seen)
    said = (trouble and trouble.message) or _first_fault(app) or "its cluster is starting"
    return _condition(False, waiting_reason(trouble, Reason.STARTING), f"RayService {name}: {said}")


def _answering(name: str, live: Manifest, cluster: str | None, seen: Observed, served: Served) -> Condition:
    """Also while a replica that is wanted besides cannot come."""
    unmade = unmade_of_service(live, seen.ray_clusters, seen.all(POD))
    held = "" if unmade is None else refused(unmade).message
    if not _ready_workers(seen, cluster) and served.fewest == 0:
        told = held and f"no replica now, and none can come: {held}"
        told = told or "no replica now; the next request starts one and waits"
        return _condition(True, Reason.SCALED_TO_ZERO, told)
    return _condition(True, Reason.SERVING, f"RayService {name} answers" + (held and f"; besides, {held}"))


def _trouble(live: Manifest, seen: Observed) -> Trouble | None:
    pods = [pod for pod in seen.all(POD) if REVISION_LABEL not in labels_of(pod)]
    serving = (pod for pod in pods if "ray.io/serve" in labels_of(pod))
    trouble = pod_trouble(serving, seen.complaints) or pod_trouble(pods, seen.complaints)
    return with_refusal(trouble, unmade_of_service(live, seen.ray_clusters, pods))


def _live(owner: Owner, seen: Observed) -> Manifest | None:
    found = seen.find(RAY_SERVICE, ray_service_name(owner.name))
    return found if found is not None and seen.owns(found) else None


def _stays_open(owner: Owner, seen: Observed) -> bool:
    """It is open and is to be: what is not drawn anew gets no keys."""
    return _is_open(owner, seen) and is_exposed(seen.annotations)


def _is_open(owner: Owner, seen: Observed) -> bool:
    front = seen.find(SERVICE, owner.name)
    return front is not None and seen.owns(front) and front["spec"].get("type") == "LoadBalancer"


def _leads_to(seen: Observed, cluster: str | None) -> bool:
    """Our Service selects the cluster that answers: whoever waits for Ready asks the Service next."""
    front = seen.find(SERVICE, seen.workspace["metadata"]["name"])
    selector = {} if front is None else front["spec"]["selector"]
    return cluster is not None and selector.get("ray.io/cluster") == cluster


def _application(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The application's status; of the cluster to come while there is no active one."""
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        found = ((status.get(part) or {}).get("applicationStatuses") or {}).get(name)
        if found:
            return dict(found)
    return {}


def _answers(status: Mapping[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    return conditions.get("Ready") == "True"


def _first_fault(app: Mapping[str, Any]) -> str:
    deployments = (app.get("serveDeploymentStatuses") or {}).values()
    said = [str(each.get("message") or "") for each in deployments] + [str(app.get("message") or "")]
    return next((" ".join(text.split())[:300] for text in said if text.strip()), "")


def _ready_workers(seen: Observed, cluster: str | None) -> list[Manifest]:
    return [
        pod
        for pod in seen.all(POD)
        if cluster is not None
        and labels_of(pod).get("ray.io/cluster") == cluster
        and labels_of(pod).get(ROLE_LABEL) == "worker"
        and is_ready(pod)
    ]


def _adapter_names(workspace: Workspace, tuned: str | None) -> list[str]:
    if workspace.inference is not None:
        return [adapter.source.name for adapter in workspace.inference.adapters]
    return [] if tuned is None else [workspace.metadata.name]


def _condition(status: bool, reason: Reason, message: str) -> Condition:
    return Condition(type=Type.INFERENCE_READY, status=status, reason=reason, message=message)
