"""What a real API server says where a pod cannot be made, and what becomes of its words in status.

Each namespace has one rule. The pod is posted as KubeRay does, by generateName, so that each try has another name. No
controller counts quotas here: the test writes what is used.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bare import BareApiServer, eventually
from kairay.controller.refusals import not_made, refused
from kairay.controller.unmade import Unmade
from kairay.kube.client import Client
from kairay.kube.connect import connect
from kairay.kube.errors import DeniedError
from kairay.kube.objects import CONFIG_MAP, Key
from onebox.api import ApiError, Manifest

pytestmark = pytest.mark.cluster

CLUSTER = "mine-x1y2z"
QUOTA = "/api/v1/namespaces/{}/resourcequotas/{}/status"
GPU = "requests.nvidia.com/gpu"
ADMISSION = "admissionregistration.k8s.io/v1"


def namespace(server: BareApiServer, name: str, **labels: str) -> str:
    server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return name


def quota(server: BareApiServer, place: str, name: str, used: dict[str, str], hard: dict[str, str]) -> None:
    server.api.apply({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard},
    }, place)  # fmt: skip
    server.api.patch(QUOTA.format(place, name), {"status": {"hard": hard, "used": used}})


def head(**spec: Any) -> Manifest:
    room = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    container = {"name": "ray-head", "image": "none", "resources": {"requests": room, "limits": room}}
    metadata = {"generateName": f"{CLUSTER}-head-", "labels": {"ray.io/cluster": CLUSTER}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec},
    }  # fmt: skip


def words(server: BareApiServer, place: str, pod: Manifest) -> str:
    """The refusal, or nothing: rules take effect a moment after they are written."""
    try:
        server.api.post(f"/api/v1/namespaces/{place}/pods", pod)
    except ApiError as error:
        return error.message
    return ""


def told(server: BareApiServer, place: str, pod: Manifest, rule: str) -> tuple[str | None, str]:
    """Reason and sentence of the refusal in which `rule` stands; those of the next try are the same."""

    def sentence() -> tuple[str | None, str] | None:
        said = words(server, place, pod)
        if rule not in said:
            return None
        unmade = Unmade(namespace=place, kind="raycluster", owner=CLUSTER, role="head", words=said)
        found = refused(unmade)
        return None if found.reason is None else str(found.reason), found.message

    first = eventually(f"the rule {rule} holds", sentence)
    assert sentence() == first
    assert first is not None
    return first


def test_a_quota(api_server: BareApiServer) -> None:
    place = namespace(api_server, "quota")
    quota(api_server, place, "gpu", {GPU: "4"}, {GPU: "4"})
    reason, message = told(api_server, place, head(), "exceeded quota")
    assert reason == "NamespaceQuotaExceeded"
    assert message == (
        f"its head pod cannot be made in namespace quota: quota gpu is used up ({GPU}: 1 wanted, 4 of 4 used):"
        " free some of it, or ask for a larger one; kubectl -n quota describe quota gpu"
    )


def test_a_quota_that_never_fits_and_one_that_nobody_has_counted(api_server: BareApiServer) -> None:
    place = namespace(api_server, "small")
    quota(api_server, place, "memory", {"requests.memory": "0"}, {"requests.memory": "1Gi"})
    _, message = told(api_server, place, head(), "exceeded quota")
    assert (
        "quota memory is too small (requests.memory: 4Gi wanted, 0 of 1Gi used): set Helm ray.head" in message
    )
    place = namespace(api_server, "uncounted")
    quota(api_server, place, "new", {}, {"pods": "1"})
    assert told(api_server, place, head(), "status unknown")[0] is None


def test_a_quota_that_wants_what_a_container_does_not_name(api_server: BareApiServer) -> None:
    place = namespace(api_server, "unnamed")
    hard = {"limits.cpu": "9", "limits.memory": "9Gi"}
    quota(api_server, place, "room", dict.fromkeys(hard, "0"), hard)
    pod = head(containers=[{"name": "mesh", "image": "none"}])
    _, message = told(api_server, place, pod, "must specify")
    assert (
        "quota room wants every container to name limits.cpu for: mesh; limits.memory for: mesh:" in message
    )
    assert message.endswith("a LimitRange in the namespace can give defaults")


def test_a_limit_range(api_server: BareApiServer) -> None:
    place = namespace(api_server, "limits")
    limits = [{"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}}]
    api_server.api.apply({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits},
    }, place)  # fmt: skip
    reason, message = told(api_server, place, head(), "usage per Container")
    assert reason == "NotAllowed"
    assert (
        "maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi"
        in message
    )
    assert "set Helm ray.head, or change the LimitRange: kubectl -n limits describe limitrange" in message


def test_pod_security(api_server: BareApiServer) -> None:
    place = namespace(api_server, "secure", **{"pod-security.kubernetes.io/enforce": "restricted"})
    reason, message = told(api_server, place, head(), "PodSecurity")
    assert reason == "NotAllowed"
    assert (
        "Pod Security restricted forbids allowPrivilegeEscalation != false, unrestricted capabilities, "
        in message
    )
    assert "pod-security.kubernetes.io/enforce=baseline" in message


def want_team_label(server: BareApiServer, place: str, resource: str) -> None:
    """A policy of this namespace alone."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}
    wanted = "has(object.metadata.labels) && 'team' in object.metadata.labels"
    server.api.apply({
        "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": f"{place}-label"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": wanted, "message": "label team is missing"}],
        },
    })  # fmt: skip
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}}}
    server.api.apply({
        "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": f"{place}-label"},
        "spec": {"policyName": f"{place}-label", "validationActions": ["Deny"], "matchResources": here},
    })  # fmt: skip


def test_an_admission_policy(api_server: BareApiServer) -> None:
    place = namespace(api_server, "policy")
    want_team_label(api_server, place, "pods")
    reason, message = told(api_server, place, head(), "label team is missing")
    assert reason == "NotAllowed"
    assert (
        "ValidatingAdmissionPolicy policy-label denies it: label team is missing; ask whoever keeps"
        in message
    )


def test_a_webhook_that_does_not_answer(api_server: BareApiServer) -> None:
    place = namespace(api_server, "webhook", rule="webhook")
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    api_server.api.apply({
        "apiVersion": ADMISSION, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "away"},
        "webhooks": [{
            "name": "away.example.io", "clientConfig": {"url": "https://127.0.0.1:1/check"}, "rules": [pods],
            "namespaceSelector": {"matchLabels": {"rule": "webhook"}}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        }],
    })  # fmt: skip
    reason, message = told(api_server, place, head(), "failed calling webhook")
    assert reason == "NotAllowed"
    assert "the admission webhook away.example.io does not answer (Post" in message
    assert "connection refused): whoever runs it has to mend it" in message


def test_what_a_pod_names_and_nobody_has_made(api_server: BareApiServer) -> None:
    place = namespace(api_server, "names")
    reason, message = told(api_server, place, head(priorityClassName="batch"), "PriorityClass")
    assert (reason, "there is no PriorityClass batch: apply it" in message) == ("ReferenceMissing", True), (
        message
    )
    reason, message = told(api_server, place, head(runtimeClassName="gvisor"), "RuntimeClass")
    assert (reason, "there is no RuntimeClass gvisor: apply it" in message) == ("ReferenceMissing", True), (
        message
    )


def denial(server: BareApiServer, place: str) -> str:
    """What is told of a ConfigMap of ours, once the rule holds."""

    async def apply() -> str:
        async with Client(connect({"KUBECONFIG": str(server.kubeconfig)})) as client:
            metadata = {"name": "mine", "namespace": place}
            try:
                await client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
                await client.delete(Key(CONFIG_MAP, place, "mine"))
            except DeniedError as error:
                return not_made(Key(CONFIG_MAP, place, "mine"), error).message
        return ""

    return str(eventually("the rule holds", lambda: asyncio.run(apply())))


def test_an_object_of_ours_that_a_policy_denies_is_no_mistake_in_it(api_server: BareApiServer) -> None:
    place = namespace(api_server, "ours")
    want_team_label(api_server, place, "configmaps")
    assert denial(api_server, place) == (
        "configmaps/mine cannot be made in namespace ours: ValidatingAdmissionPolicy ours-label denies it:"
        " label team is missing; ask whoever keeps that rule for an exception"
    )


def test_an_object_of_ours_that_a_quota_denies_is_told_apart_from_a_right_that_is_missing(
    api_server: BareApiServer,
) -> None:
    place = namespace(api_server, "objects")
    quota(api_server, place, "few", {"count/configmaps": "0"}, {"count/configmaps": "0"})
    assert denial(api_server, place) == (
        "configmaps/mine cannot be made in namespace objects: quota few is too small (count/configmaps: 1 wanted,"
        " 0 of 0 used): ask for a larger one; kubectl -n objects describe quota few"
    )
