"""Why Kubernetes does not let a pod be made, in words for people: what, where and the remedy. Pure.

The patterns are the wordings of kube-apiserver's admission (Kubernetes 1.26 to 1.36); what matches none is told in its
own words, shortened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kairay.controller.conditions import Reason
from kairay.controller.trouble import Trouble, shorten
from kairay.controller.unmade import OBJECT, Unmade
from kairay.controller.waiting import foremost
from kairay.errors import InputError, KairayError
from kairay.kube.errors import DeniedError
from kairay.kube.objects import CLAIM, Key
from kairay.quantities import parse_bytes


class NotMadeError(KairayError):
    """An object of a Workspace that a rule of the cluster does not let be made; the sentence belongs into status."""


class NotChangedError(KairayError):
    """An object of a Workspace that a rule of the cluster does not let be changed; what is there goes on."""


_Draw = Callable[[re.Match[str], Unmade], str]
_MOST_WORDS: Final = 300
"""Of a policy's own sentence: it may name each field that it misses."""
_KUBERAY_CUTS: Final = 50
"""Characters of a cluster's name that its pods keep."""
_WHAT: Final[Mapping[str, str]] = {"head": "its head pod", "worker": "a worker pod", "": "its pod"}
_SMALLER: Final[Mapping[str, str]] = {
    "head": "set Helm ray.head",
    "worker": "take another size (resource.instanceType), or set Helm ray.worker",
    "": "change resources in inference.template",
}
"""What makes a pod ask for less, or otherwise for more."""
_RUN_STORAGE: Final = "set Helm ray.runStorage"


def refused(unmade: Unmade, verb: str = "made") -> Trouble:
    """What the API server's refusal means; `verb` is what cannot be done to it."""
    text = _steady(unmade)
    drawn = (
        (reason, _draw(draw, found, unmade))
        for pattern, reason, draw in _REFUSALS
        if (found := re.search(pattern, text)) is not None
    )
    reason, told = next(drawn, None) or (
        Reason.NOT_ALLOWED,
        f"{shorten(text, _MOST_WORDS)}; more: {_kubectl(unmade, f'describe {unmade.kind} {unmade.owner}')}",
    )
    what = _WHAT.get(unmade.role) or _named(unmade)
    message = f"{what} cannot be {verb} in namespace {unmade.namespace}: {told}"
    return Trouble(reason=reason, message=message)


def with_refusal(pods: Trouble | None, unmade: Unmade | None) -> Trouble | None:
    """Of pods that are there, and of one that cannot be made: without Ray's head nothing else matters."""
    if unmade is None:
        return pods
    missing = refused(unmade)
    return foremost(missing, pods) if unmade.role in ("head", OBJECT) else foremost(pods, missing)


def not_made(key: Key, error: DeniedError) -> NotMadeError:
    """What it means that an object of ours is denied."""
    trouble = refused(_unmade(key, error))
    return NotMadeError(trouble.message, reason=trouble.reason or Reason.NOT_ALLOWED)


def not_changed(key: Key, error: DeniedError) -> NotChangedError:
    """What it means that an edit of an object of ours is denied."""
    trouble = refused(_unmade(key, error), "changed")
    return NotChangedError(trouble.message, reason=trouble.reason or Reason.NOT_ALLOWED)


def _unmade(key: Key, error: DeniedError) -> Unmade:
    return Unmade(
        namespace=key.namespace, kind=key.kind.plural, owner=key.name, role=OBJECT, words=error.message
    )


def _named(unmade: Unmade) -> str:
    """The object as the API server names it."""
    found = re.search(r'(\S+) "([^"]+)" is forbidden', unmade.words)
    return f"{found[1]}/{found[2]}" if found else f"{unmade.kind}/{unmade.owner}"


def _steady(unmade: Unmade) -> str:
    """One line without the pod's name, which is another at every try."""
    text = " ".join(unmade.words.split())
    text = re.sub(r'^.*?\S+ "[^"]*" is forbidden: ', "", text)
    text = re.sub(r'^Pod "[^"]*" is invalid: ', "the pod is invalid: ", text)
    ray = r"[a-z0-9-]*-(?:head|worker)-[a-z0-9]{5}"
    suffix = ray if unmade.role else r"-[a-z0-9]{6,10}-[a-z0-9]{5}"
    return re.sub(rf"\b{re.escape(unmade.owner[:_KUBERAY_CUTS])}{suffix}\b", unmade.owner, text)


# -- quotas and limits -----------------------------------------------------------------------------------------------


def _quota(found: re.Match[str], unmade: Unmade) -> str:
    wanted, used, limit = (_amounts(found[part]) for part in ("wanted", "used", "limit"))
    rooms = [
        f"{name}: {amount} wanted, {used.get(name, '?')} of {limit.get(name, '?')} used"
        for name, amount in wanted.items()
    ]
    never = any(_is_more(amount, limit.get(name, "")) for name, amount in wanted.items())
    ways = (
        [_smaller(unmade), "ask for a larger one"] if never else ["free some of it", "ask for a larger one"]
    )
    name, state = found["quota"], "is too small" if never else "is used up"
    remedy = f"{_either(ways)}; {_kubectl(unmade, f'describe quota {name}')}"
    return f"quota {name} {state} ({'; '.join(rooms)}): {remedy}"


def _amounts(text: str) -> dict[str, str]:
    """`cpu=1,pods=4` by resource."""
    return dict(re.findall(r"([^,=\s]+)=([^,\s]+)", text))


def _is_more(wanted: str, limit: str) -> bool:
    try:
        return parse_bytes(wanted) > parse_bytes(limit)
    except InputError:
        return False


def _unwritten(found: re.Match[str], unmade: Unmade) -> str:
    write = "" if unmade.role else "write them under resources in inference.template; "
    return (
        f"quota {found['quota']} wants every container to name {found['fields']}: {write}"
        "a LimitRange in the namespace can give defaults"
    )


def _not_covered(found: re.Match[str], unmade: Unmade) -> str:
    return f"{shorten(found[0])}: a quota that covers it has to be made; {_kubectl(unmade, 'describe quota')}"


def _limit_range(found: re.Match[str], unmade: Unmade) -> str:
    # Of several the order changes from try to try.
    rules = sorted(re.split(r", (?=minimum |maximum |\S+ max limit )", found[0].rstrip("]")))
    words = shorten(", ".join(rules), _MOST_WORDS)
    change = f"change the LimitRange: {_kubectl(unmade, 'describe limitrange')}"
    return f"{words}: {_either([_smaller(unmade), change])}"


def _smaller(unmade: Unmade) -> str:
    """What makes it ask for less, or otherwise for more; empty: nothing."""
    return _SMALLER.get(unmade.role, _RUN_STORAGE if unmade.kind == CLAIM.plural else "")


def _either(ways: Sequence[str]) -> str:
    return ", or ".join(way for way in ways if way)


# -- policies --------------------------------------------------------------------------------------------------------

_LOOSER: Final[Mapping[str, str]] = {"restricted": "baseline", "baseline": "privileged"}
"""Levels of the Pod Security Standards, and the next that allows more."""


def _pod_security(found: re.Match[str], unmade: Unmade) -> str:
    # In brackets stands which container must set which field.
    fields = shorten(re.sub(r" \([^()]*(?:\([^()]*\)[^()]*)*\)", "", found["why"]), _MOST_WORDS)
    level = _LOOSER.get(found["level"], "privileged")
    label = f"pod-security.kubernetes.io/enforce={level}"
    allow = f"where your rules allow it, kubectl label namespace {unmade.namespace} {label} --overwrite"
    return f"Pod Security {found['level']} forbids {fields}: {_either([_corrected(unmade), allow])}"


def _policy(found: re.Match[str], unmade: Unmade) -> str:
    ways = _either([_corrected(unmade), "ask whoever keeps that rule for an exception"])
    why = shorten(found["why"].rstrip("."), _MOST_WORDS)
    return f"{found['what']} {found['name']} denies it: {why}; {ways}"


def _corrected(unmade: Unmade) -> str:
    return "" if unmade.role else "correct inference.template"


# -- what a pod names ------------------------------------------------------------------------------------------------


def _no_account(found: re.Match[str], unmade: Unmade) -> str:
    name = found["name"]
    return (
        f"there is no ServiceAccount {name}; create it: {_kubectl(unmade, f'create serviceaccount {name}')}"
    )


_NO_CLASS: Final = "there is no {kind} {name}: apply it, or name another; kubectl get {kind} lists them"


def _kubectl(unmade: Unmade, rest: str) -> str:
    return f"kubectl -n {unmade.namespace} {rest}"


def _draw(draw: _Draw | str, found: re.Match[str], unmade: Unmade) -> str:
    if isinstance(draw, str):
        return draw.format(**{name: shorten(part) for name, part in found.groupdict().items()})
    return draw(found, unmade)


_REFUSALS: Final[Sequence[tuple[str, Reason | None, _Draw | str]]] = (
    # A policy's own words may be any.
    (
        r"(?P<what>ValidatingAdmissionPolicy) '(?P<name>[^']+)'(?: with binding '[^']+')? denied request: (?P<why>.*)",
        Reason.NOT_ALLOWED, _policy,
    ),
    (
        r'admission (?P<what>webhook) "(?P<name>[^"]+)" denied the request(?:: | )(?P<why>.*)',
        Reason.NOT_ALLOWED, _policy,
    ),
    (
        r"exceeded quota: (?P<quota>[^,]+), requested: (?P<wanted>.*?), used: (?P<used>.*?), limited: (?P<limit>.*)",
        Reason.NAMESPACE_QUOTA, _quota,
    ),
    (r"failed quota: (?P<quota>[^:]+): must specify (?P<fields>.*)", Reason.NOT_ALLOWED, _unwritten),
    (r"status unknown for quota: (?P<quota>[^,]+)", None, "quota {quota} has not been counted yet"),
    (r"insufficient quota to (?:consume|match these scopes): .*", Reason.NAMESPACE_QUOTA, _not_covered),
    (
        r"(?:(?:minimum|maximum) \S+ usage|[\w./-]+ max limit to request ratio) per \w+ is .*",
        Reason.NOT_ALLOWED, _limit_range,
    ),
    (r'violates PodSecurity "(?P<level>\w+)[^"]*": (?P<why>.*)', Reason.NOT_ALLOWED, _pod_security),
    (
        r'failed calling webhook "(?P<name>[^"]+)"[:;] (?:failed to call webhook: )?(?P<why>.*)', Reason.NOT_ALLOWED,
        ("the admission webhook {name} does not answer ({why}): whoever runs it has to mend it; kubectl get"
         " validatingwebhookconfigurations,mutatingwebhookconfigurations"),
    ),
    (
        r"error looking up service account [^/]+/(?P<name>[^:]+): .*not found",
        Reason.REFERENCE_MISSING, _no_account,
    ),
    (r"no (?P<kind>PriorityClass) with name (?P<name>\S+) was found", Reason.REFERENCE_MISSING, _NO_CLASS),
    (r'(?P<kind>RuntimeClass) "(?P<name>[^"]+)" not found', Reason.REFERENCE_MISSING, _NO_CLASS),
    (
        r"because it is being terminated", Reason.NOT_ALLOWED,
        "the namespace is being deleted; make the Workspace in another one",
    ),
    (
        r'User "(?P<user>[^"]+)" cannot create resource "pods"', Reason.NOT_ALLOWED,
        "{user} may not create pods there; KubeRay's operator has that right from its chart",
    ),
)  # fmt: skip
"""What the API server says -> the kind of trouble, and its sentence: drawn, or with the pattern's parts put in. The
first that fits counts."""
