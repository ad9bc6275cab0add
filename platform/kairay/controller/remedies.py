"""What holds a pod, in words for people: what, where and the remedy, from what Kubernetes says of it. Pure.

The patterns are the wordings of kube-scheduler, kubelet, containerd and the volume controllers (Kubernetes 1.26 to
1.36); what matches none is told in their own words, shortened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kairay.controller.complaints import Complaint
from kairay.controller.conditions import Reason
from kairay.controller.trouble import Place, Trouble, shorten


def said_in_event(complaint: Complaint, place: Place) -> Trouble:
    """What an event says of a pod or of its claim."""
    text = complaint.message
    if complaint.claim:
        return _claim_unbound(complaint.claim, text, place)
    match complaint.reason:
        case "FailedScheduling":
            return unschedulable(text, place)
        case "FailedAttachVolume" | "FailedMount" | "FailedMapVolume":
            return _not_mounted(text, place)
        case "Pulling":
            image = _first(r'Pulling image "([^"]+)"', text)
            return Trouble(
                reason=None, message=f"its node pulls the image {image}; a large one takes minutes"
            )
        case _:
            message = f"its node cannot start it: {shorten(text)}; {_describe(place)}"
            return Trouble(reason=Reason.POD_NOT_STARTED, message=message)


_NO_ROOM: Final[Sequence[tuple[str, str]]] = (
    (r"Insufficient|Too many pods", "other pods hold the rest: free a node, or add one"),
    (r"volume node affinity|PersistentVolume's node affinity", "its volume is in a zone without a free node"),
    (r"untolerated taint|had taint", "take the taint off a node, or add a node without it"),
)
"""What the scheduler says -> the remedy. A node's missing labels are ResourceReady's to explain."""


def unschedulable(message: str, place: Place) -> Trouble:
    """The scheduler's words, less its counts of nodes, which change as nodes come and go."""
    if (missing := _missing_object(message, place)) is not None:
        return missing
    words = "; ".join(_scheduler_words(message)) or "the scheduler gives no reason"
    if "unbound immediate PersistentVolumeClaims" in message:
        told = f"its claim has no volume yet; why: {place.kubectl('describe pvc')}"
        return Trouble(reason=Reason.CLAIM_NOT_BOUND, message=told)
    if place.in_pool:
        return Trouble(reason=None, message=f"waits for a node of its pool ({words})")
    remedy = next((f": {remedy}" for pattern, remedy in _NO_ROOM if re.search(pattern, message)), "")
    return Trouble(reason=Reason.POD_UNSCHEDULABLE, message=f"no node takes it ({words}){remedy}")


def _scheduler_words(message: str) -> list[str]:
    """`0/3 nodes are available: 2 Insufficient cpu, 1 node(s) …. preemption: …` -> each reason once, in one order."""
    text = re.split(r"\.? (?:no new claims to deallocate|preemption:|No preemption)", message)[0]
    _, counted, reasons = text.partition(" nodes are available: ")
    if not counted:
        return [shorten(text)] if text else []
    parts = {re.sub(r"^\d+ ", "", part.strip()).rstrip(".") for part in reasons.split(", ")}
    return [shorten(part) for part in sorted(parts) if part]


def _not_mounted(text: str, place: Place) -> Trouble:
    if (missing := _missing_object(text, place)) is not None:
        return missing
    reason = Reason.VOLUME_NOT_MOUNTED
    volume = _first(r'for volume "([^"]+)"', text)
    if text.startswith("Multi-Attach error"):
        users = _first(r"already used by pod\(s\) ([^ ,]+)", text)
        holder = f"pod {users}" if users else "another node"
        message = (
            f"{holder} still holds the volume {volume}: it is free some minutes after its last pod is gone; several"
            " nodes at once need a ReadWriteMany claim"
        )
        return Trouble(reason=reason, message=message)
    if (late := _first(r"unmounted volumes=\[([^\]]*)\]", text)) or not volume:
        message = f"its volumes {late} are not mounted yet; {_describe(place)}"
        return Trouble(reason=reason, message=message, vague=True)
    words = text.partition(f'"{volume}" : ')[2] or text.partition(f'"{volume}": ')[2] or text
    if (folder := _first(r"hostPath type check failed: (\S+) is not", text)) is not None:
        message = f"its node has no {folder}: make it on every node that may run the pod, or use a claim"
        return Trouble(reason=reason, message=message)
    return Trouble(
        reason=reason, message=f"volume {volume} cannot be mounted: {shorten(words)}; {_describe(place)}"
    )


def _claim_unbound(claim: str, text: str, place: Place) -> Trouble:
    own = claim == place.own_claim
    elsewhere = " or Helm ray.storageClass" if own else ""
    storage = _first(r'storageclass\.storage\.k8s\.io "([^"]+)" not found', text)
    if storage is not None:
        told = f"there is no storage class {storage}; kubectl get storageclass lists them: correct the claim{elsewhere}"
    elif "no storage class is set" in text:
        told = "there is no default storage class: name one in the claim" + elsewhere
        told += ", or set ray.runStorage to 0 (checkpoints then last as long as the pod)" if own else ""
    else:
        storage = _first(r'StorageClass "([^"]+)"', text) or "its storage class"
        words = text.partition(f'StorageClass "{storage}": ')[2] or text
        told = f"{storage} gives no volume: {shorten(words)}; {place.kubectl(f'describe pvc {claim}')}"
    return Trouble(reason=Reason.CLAIM_NOT_BOUND, message=f"claim {claim}: {told}")


def _missing_object(text: str, place: Place) -> Trouble | None:
    """A Secret, ConfigMap or claim, or a key of one."""
    message = next(
        (draw(found, place) for pattern, draw in _MISSING if (found := re.search(pattern, text)) is not None),
        None,
    )
    return None if message is None else Trouble(reason=Reason.REFERENCE_MISSING, message=message)


def _no_secret(found: re.Match[str], place: Place) -> str:
    name = found["name"]
    kind, options = ("generic", "--from-literal=KEY=VALUE")
    if 'volume "login-' in found.string:
        kind, options = (
            "docker-registry",
            "--docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD",
        )
    make = place.kubectl(f"create secret {kind} {name} {options}")
    return f"there is no Secret {name} in namespace {place.namespace}; create it: {make}"


def _no_config_map(found: re.Match[str], place: Place) -> str:
    return f"there is no ConfigMap {found['name']} in namespace {place.namespace}; apply it"


def _no_claim(found: re.Match[str], place: Place) -> str:
    return f"there is no PersistentVolumeClaim {found['name']} in namespace {place.namespace}; apply it"


def _no_key(found: re.Match[str], place: Place) -> str:
    return f"{found['kind']} {found['name']} in namespace {place.namespace} has no key {found['key']}; add it"


def _no_key_for_volume(found: re.Match[str], place: Place) -> str:
    volume, key = found["volume"], found["key"]
    return (
        f"volume {volume} of pod {place.pod} wants the key {key}; add it to the volume's Secret or ConfigMap"
    )


_MISSING: Final[Sequence[tuple[str, Callable[[re.Match[str], Place], str]]]] = (
    (r'\bsecret "(?P<name>[^"]+)" not found', _no_secret),
    (r'\bconfigmap "(?P<name>[^"]+)" not found', _no_config_map),
    (r'\bpersistentvolumeclaim "(?P<name>[^"]+)" not found', _no_claim),
    (r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>[^\s,]+)", _no_key),
    (
        r'for volume "(?P<volume>[^"]+)" ?: .*references non-existent (?:secret|config) key: (?P<key>\S+)',
        _no_key_for_volume,
    ),
)


_UNREACHABLE: Final = "check that node's network, proxy and certificates"
_PULLS: Final[Sequence[tuple[str, str]]] = (
    (r"429|toomanyrequests|rate limit", "the registry limits pulls: wait, or mirror the image"),
    (r"40[13] |unauthorized|denied|insufficient_scope|authorization failed|no basic auth", "{login}"),
    (r"no match for platform|no matching manifest", "it is not built for that node's processor"),
    (r"not found|manifest unknown|does not exist", "correct its name or tag, or push it"),
    (r"no space left", "the node's disk is full: give nodes a larger one"),
    (r"no such host|timeout|refused|unreachable|deadline exceeded|x509|tls:", _UNREACHABLE),
    (
        r"invalid reference format|InvalidImageName|must be lowercase",
        "that is no image: write registry/name:tag",
    ),
)
"""What a registry, or the way to it, says -> the remedy. `403` comes for a missing repository too."""


def image_not_pulled(image: str, words: Sequence[str], place: Place) -> Trouble:
    """`words`: what the kubelet says, the best first; none: it only says that it tries again."""
    text = " ".join(words)
    secret = _first(r"Unable to retrieve some image pull secrets \(([^),]+)", text)
    if secret is not None:
        make = place.kubectl(f"create secret docker-registry {secret} …")
        message = f"there is no Secret {secret} to pull the image {image} with; create it: {make}"
        return Trouble(reason=Reason.REFERENCE_MISSING, message=message)
    parts = re.sub(r'"[^"]*"', "", text).split(": ")
    for pattern, remedy in _PULLS:
        said = [part for part in parts if re.search(pattern, part, re.IGNORECASE)]
        if said:
            remedy = remedy.format(login=_login(place))
            message = f"cannot pull the image {image} ({shorten(said[-1], 80)}): {remedy}"
            return Trouble(reason=Reason.IMAGE_NOT_PULLED, message=message)
    why = shorten(words[0]) if words else _describe(place)
    return Trouble(reason=Reason.IMAGE_NOT_PULLED, message=f"cannot pull the image {image}: {why}")


def _login(place: Place) -> str:
    if not place.role:
        return "correct its name, or name a pull secret in inference.template.spec.imagePullSecrets"
    return (
        "correct Helm ray.image, or let nodes log in: their identity (AKS: az aks update --attach-acr NAME), or a"
        " registry without login"
    )


def container_refused(name: str, reason: str, message: str, place: Place) -> Trouble:
    """A container that the kubelet does not start; `reason` is the kubelet's."""
    if (missing := _missing_object(message, place)) is not None:
        return missing
    if "runAsNonRoot" in message:
        told = f"container {name}: its image runs as root, which the pod forbids: build it for another user"
        return Trouble(reason=Reason.POD_NOT_STARTED, message=told)
    words = shorten(message) if message else _describe(place)
    return Trouble(reason=Reason.POD_NOT_STARTED, message=f"container {name}: {reason}: {words}")


def container_ended(name: str, ended: Mapping[str, Any], place: Place) -> Trouble:
    """A container that has ended where it should run; `ended` is Kubernetes' `terminated`."""
    code, said = ended.get("exitCode"), " ".join(str(ended.get("message") or "").split())
    if ended.get("reason") == "OOMKilled":
        message = f"container {name} used more memory than its limit (OOMKilled): {_more_memory(place)}"
        return Trouble(reason=Reason.CONTAINER_OUT_OF_MEMORY, message=message)
    why = f" ({shorten(said)})" if said else ""
    log = f"its log: {place.kubectl(f'logs {place.pod} -c {name}')}"
    if code is None:
        message = f"container {name} ends again and again; {log}"
    elif code == 0:
        message = f"container {name} ends by itself (exit code 0), and should go on; {log}"
    else:
        message = f"container {name} ended with exit code {code}{why}; {log}"
    return Trouble(reason=Reason.CONTAINER_ENDED, message=message)


def _more_memory(place: Place) -> str:
    match place.role:
        case "head":
            return "give heads more, Helm ray.head"
        case "worker":
            return "take a size with more memory (resource.instanceType), or set Helm ray.worker"
        case _:
            return "raise resources.limits.memory in inference.template"


def _describe(place: Place) -> str:
    return f"more: {place.kubectl(f'describe pod {place.pod}')}"


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return None if found is None else found[1]
