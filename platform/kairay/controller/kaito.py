"""KAITO in the same cluster: two controllers of one Workspace undo each other's work, so ours waits until it is gone.

How it is found (KAITO's chart, charts/kaito/workspace): its webhook has a fixed name, while its Deployment's name and
labels are the installer's choice; what stays is the image, or the variable that names its image registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kairay.controller.log import Log
from kairay.errors import TransientError
from kairay.kube.interface import Cluster
from kairay.kube.objects import DEPLOYMENT, VALIDATING_WEBHOOK, Key, Manifest

WEBHOOK: Final = Key(VALIDATING_WEBHOOK, "", "validation.workspace.kaito.sh")
LOOK_SECONDS = 30.0
_RETRY_SECONDS = 2.0
_IMAGE, _VARIABLE = "kaito/workspace", "PRESET_REGISTRY_NAME"
_ADD_ON = "kube-system"
"""Where AKS runs its add-on; a Deployment that is scaled down there comes back."""


@dataclass(slots=True, kw_only=True)
class KaitoGate:
    """Closed while KAITO is live, and until the first look."""

    cluster: Cluster
    namespaces: tuple[str, ...]
    """Watched; none: all. With some, the rights are for those, so that only the webhook is looked for."""
    log: Log
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    is_open: bool = False

    async def wait(self) -> None:
        """Return when it is open; what is in the way is logged once."""
        told: str | None = None
        while True:
            try:
                found = obstacle(*await look_for_kaito(self.cluster, everywhere=not self.namespaces))
            except TransientError as error:
                self.log.fault("cannot look for KAITO yet", message=error.message)
                await self.sleep(_RETRY_SECONDS)
                continue
            if found is None:
                break
            if found != told:
                self.log.fault("KAITO is here", message=found)
                told = found
            await self.sleep(LOOK_SECONDS)
        self.is_open = True
        if told is not None:
            self.log.info("KAITO is gone")


async def look_for_kaito(cluster: Cluster, *, everywhere: bool) -> tuple[Manifest | None, list[Manifest]]:
    """KAITO's webhook, and its live Deployments; without `everywhere` only the webhook is looked for."""
    webhook = await cluster.get(WEBHOOK)
    deployments = (await cluster.list(DEPLOYMENT, trim=_trim))[0] if everywhere else []
    return webhook, [each for each in deployments if _is_kaito(each) and _is_live(each)]


def obstacle(webhook: Manifest | None, deployments: Iterable[Manifest]) -> str | None:
    """Why Kairay must not work yet, with the command that changes it; None when nothing of KAITO is live. Pure."""
    live = sorted(map(_name, deployments))
    parts = [f"Deployment {namespace}/{name}" for namespace, name in live]
    parts += [] if webhook is None else [f"webhook {WEBHOOK.name}"]
    if not parts:
        return None
    commands = " && ".join(stop_commands(webhook, deployments))
    return (
        f"KAITO is live in this cluster ({', '.join(parts)}), and two controllers of one Workspace undo each other's "
        f"work; to hand its Workspaces to Kairay: {commands} (not helm uninstall, which deletes KAITO's CRD and every "
        f"Workspace with it); Kairay looks again every {LOOK_SECONDS:.0f} s"
    )


def stop_commands(webhook: Manifest | None, deployments: Iterable[Manifest]) -> tuple[str, ...]:
    """What a person runs so that KAITO stops and its Workspaces stay. Pure."""
    commands = [_stop(namespace, name) for namespace, name in sorted(map(_name, deployments))]
    if webhook is not None:
        commands.append(f"kubectl delete validatingwebhookconfiguration {WEBHOOK.name}")
    return tuple(dict.fromkeys(commands))


def _stop(namespace: str, name: str) -> str:
    if namespace == _ADD_ON:
        return "az aks update --disable-ai-toolchain-operator --resource-group GROUP --name CLUSTER"
    return f"kubectl -n {namespace} scale deployment/{name} --replicas=0"


def _is_kaito(deployment: Manifest) -> bool:
    return any(
        f"/{_repository(container)}".endswith(f"/{_IMAGE}") or _VARIABLE in _variables(container)
        for container in _containers(deployment)
    )


def _is_live(deployment: Manifest) -> bool:
    """Not scaled down to nothing, and not on its way out."""
    return deployment["spec"].get("replicas", 1) != 0 and "deletionTimestamp" not in deployment["metadata"]


def _trim(deployment: Manifest) -> Manifest:
    """A long list needs little memory."""
    spec = deployment["spec"]
    containers = [
        {"image": each.get("image", ""), "env": [{"name": name} for name in _variables(each)]}
        for each in _containers(deployment)
    ]
    kept = {"replicas": spec.get("replicas", 1), "template": {"spec": {"containers": containers}}}
    return {**deployment, "spec": kept, "status": {}}


def _containers(deployment: Manifest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"].get("containers") or []
    return found


def _variables(container: dict[str, Any]) -> Iterator[str]:
    return (str(each["name"]) for each in container.get("env") or ())


def _repository(container: dict[str, Any]) -> str:
    """The image without tag and digest."""
    path, slash, last = str(container.get("image") or "").partition("@")[0].rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def _name(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
