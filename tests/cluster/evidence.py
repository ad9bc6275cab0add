"""What a person would look at after a failure: pods with states and log lines, events, Ray objects, the operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import requests

from onebox.addons import OPERATOR_NAMESPACE
from onebox.api import Api, ApiError, Manifest

_LINES = "15"
_WIDTH = 300


def collect(api: Api, namespace: str) -> str:
    """The evidence of a namespace as text; what cannot be had is said in its place, never raised."""
    sections: dict[str, Callable[[], Iterator[str]]] = {
        "pods": lambda: _pods(api, namespace),
        "events": lambda: _events(api, namespace),
        "ray objects": lambda: _ray_objects(api, namespace),
        "operator": lambda: _logs_of(api, OPERATOR_NAMESPACE),
    }
    text = []
    for title, lines in sections.items():
        text.append(f"--- {title} of {namespace}" if title != "operator" else "--- operator")
        try:
            # One by one: what came before a failure stays.
            for found in lines():
                text += [line[:_WIDTH] for line in found.splitlines()]
        except (requests.RequestException, ApiError, LookupError, TypeError) as error:
            text.append(f"(not to be had: {error!r})")
    return "\n".join(text)


def _pods(api: Api, namespace: str) -> Iterator[str]:
    for pod in api.items(f"/api/v1/namespaces/{namespace}/pods"):
        status = pod["status"]
        yield f"{pod['metadata']['name']}: {status.get('phase')} {status.get('reason', '')}"
        for container in _containers(pod):
            yield f"  {container['name']}: {json.dumps(container['state'])} restarts {container['restartCount']}"
    yield from _logs_of(api, namespace)


def _logs_of(api: Api, namespace: str) -> Iterator[str]:
    for pod in api.items(f"/api/v1/namespaces/{namespace}/pods"):
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
        for container in _containers(pod):
            if "waiting" in container["state"]:
                continue
            options = {"container": container["name"], "tailLines": _LINES}
            yield f"--- log of {name}/{container['name']}\n{_log(api, path, options)}"
            if container["restartCount"]:
                yield f"--- its previous log\n{_log(api, path, options | {'previous': 'true'})}"


def _log(api: Api, path: str, options: dict[str, str]) -> str:
    """Pods that end now, and those on pretended nodes, have no log: the others' are wanted all the same."""
    try:
        return api.text(path, **options)
    except (requests.RequestException, ApiError) as error:
        return f"(not to be had: {error})"


def _containers(pod: Manifest) -> list[Manifest]:
    """Statuses of its init containers, then of the others."""
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _events(api: Api, namespace: str) -> Iterator[str]:
    for event in api.items(f"/api/v1/namespaces/{namespace}/events")[-40:]:
        about = event["involvedObject"]
        yield f"{about['kind']}/{about['name']}: {event.get('reason')}: {event.get('message')}"


def _ray_objects(api: Api, namespace: str) -> Iterator[str]:
    for plural in ("rayclusters", "rayjobs", "rayservices"):
        for found in api.items(f"/apis/ray.io/v1/namespaces/{namespace}/{plural}"):
            yield f"{plural}/{found['metadata']['name']}:"
            yield json.dumps(found.get("status", {}), indent=1)
