"""What is said where no pod can be made: the wordings of kube-apiserver's admission -> a sentence to act on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kairay.controller.conditions import Reason
from kairay.controller.refusals import not_made, refused, with_refusal
from kairay.controller.triggers import TRIMS
from kairay.controller.trouble import Trouble
from kairay.controller.unmade import (
    Unmade,
    read_failure_events,
    silent_clusters,
    silent_job,
    unmade_of_cluster,
    unmade_of_deployment,
    unmade_of_service,
)
from kairay.kube.answers import read_refusal
from kairay.kube.errors import DeniedError
from kairay.kube.objects import CLAIM, RAY_JOB, Key, Manifest

FORBIDDEN = 'pods "mine-x1y2z-head-4hh4r" is forbidden: '
RESTRICTED = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (containers "autoscaler", "ray-head"'
    ' must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "autoscaler",'
    ' "ray-head" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers must set'
    ' securityContext.runAsNonRoot=true)'
)  # fmt: skip
KYVERNO = (
    'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Pod/team/mine-x1y2z-head-4hh4r was'
    " blocked due to the following policies \n\nrequire-team:\n  check: 'validation error: label team is missing'\n"
)


def unmade(words: str, role: str = "head") -> Unmade:
    kind, owner = ("raycluster", "mine-x1y2z") if role else ("deployment", "mine")
    return Unmade(namespace="team", kind=kind, owner=owner, role=role, words=words)


REFUSALS = [
    (FORBIDDEN + "exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=4,"
     " limited: requests.nvidia.com/gpu=4", Reason.NAMESPACE_QUOTA,
     ("quota gpu is used up (requests.nvidia.com/gpu: 1 wanted, 4 of 4 used): free some of it, or ask for a larger one;"
      " kubectl -n team describe quota gpu")),
    (FORBIDDEN + "exceeded quota: all, requested: limits.cpu=4,pods=1, used: limits.cpu=6500m,pods=9,"
     " limited: limits.cpu=8,pods=9", Reason.NAMESPACE_QUOTA,
     "(limits.cpu: 4 wanted, 6500m of 8 used; pods: 1 wanted, 9 of 9 used): free some of it"),
    (FORBIDDEN + "exceeded quota: mem, requested: requests.memory=8Gi, used: requests.memory=0,"
     " limited: requests.memory=4Gi", Reason.NAMESPACE_QUOTA,
     ("quota mem is too small (requests.memory: 8Gi wanted, 0 of 4Gi used): set Helm ray.head,"
      " or ask for a larger one")),
    (FORBIDDEN + "failed quota: compute: must specify limits.cpu for: mesh; limits.memory for: mesh",
     Reason.NOT_ALLOWED, ("quota compute wants every container to name limits.cpu for: mesh;"
     " limits.memory for: mesh: a LimitRange in the namespace can give defaults")),
    (FORBIDDEN + "status unknown for quota: gpu, resources: requests.nvidia.com/gpu", None,
     "quota gpu has not been counted yet"),
    ("insufficient quota to match these scopes: [{PriorityClass In [high]}]", Reason.NAMESPACE_QUOTA,
     "a quota that covers it has to be made"),
    (FORBIDDEN + "[maximum memory usage per Container is 1Gi, but limit is 4Gi, maximum cpu usage per Container is 1,"
     " but limit is 2]", Reason.NOT_ALLOWED,
     ("maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi, but limit is"
      " 4Gi: set Helm ray.head, or change the LimitRange: kubectl -n team describe limitrange")),
    (FORBIDDEN + "maximum cpu usage per Pod is 1, but limit is 3", Reason.NOT_ALLOWED, "per Pod is 1, but limit is 3:"),
    (FORBIDDEN + "memory max limit to request ratio per Container is 1, but provided ratio is 2.000000",
     Reason.NOT_ALLOWED, "memory max limit to request ratio per Container is 1, but provided ratio is 2.000000: set"),
    (FORBIDDEN + RESTRICTED, Reason.NOT_ALLOWED,
     ("Pod Security restricted forbids allowPrivilegeEscalation != false, unrestricted capabilities,"
      " runAsNonRoot != true: where your rules allow it, kubectl label namespace team"
      " pod-security.kubernetes.io/enforce=baseline --overwrite")),
    (FORBIDDEN + "ValidatingAdmissionPolicy 'queue-name' with binding 'all' denied request: The label"
     " 'kueue.x-k8s.io/queue-name' is either missing or does not have a value set.", Reason.NOT_ALLOWED,
     ("ValidatingAdmissionPolicy queue-name denies it: The label 'kueue.x-k8s.io/queue-name' is either missing or does"
      " not have a value set; ask whoever keeps that rule for an exception")),
    (KYVERNO, Reason.NOT_ALLOWED,
     ("webhook validate.kyverno.svc-fail denies it: resource Pod/team/mine-x1y2z was blocked due to the following"
      " policies require-team: check: 'validation error: label team is missing'; ask")),
    (('Internal error occurred: failed calling webhook "inject.example.io": failed to call webhook: Post'
     ' "https://inject.mesh.svc:443/inject?timeout=10s": dial tcp 10.0.3.7:443: connect: connection refused'),
     Reason.NOT_ALLOWED, "the admission webhook inject.example.io does not answer (Post"),
    (FORBIDDEN + 'error looking up service account team/ray: serviceaccount "ray" not found', Reason.REFERENCE_MISSING,
     "there is no ServiceAccount ray; create it: kubectl -n team create serviceaccount ray"),
    (FORBIDDEN + "no PriorityClass with name batch was found", Reason.REFERENCE_MISSING,
     "there is no PriorityClass batch: apply it, or name another; kubectl get PriorityClass lists them"),
    (FORBIDDEN + 'pod rejected: RuntimeClass "gvisor" not found', Reason.REFERENCE_MISSING,
     "there is no RuntimeClass gvisor: apply it"),
    (FORBIDDEN + "unable to create new content in namespace team because it is being terminated", Reason.NOT_ALLOWED,
     "the namespace is being deleted"),
    (('pods is forbidden: User "system:serviceaccount:ray:kr" cannot create resource "pods" in API group "" in the'
     ' namespace "team"'), Reason.NOT_ALLOWED, "system:serviceaccount:ray:kr may not create pods there"),
    (FORBIDDEN + "pod node label selector conflicts with its namespace node label selector", Reason.NOT_ALLOWED,
     ("pod node label selector conflicts with its namespace node label selector; more: kubectl -n team describe"
      " raycluster mine-x1y2z")),
    ('Pod "mine-x1y2z-head-4hh4r" is invalid: spec.containers[0].image: Required value', Reason.NOT_ALLOWED,
     "the pod is invalid: spec.containers[0].image: Required value; more:"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "kind", "says"), REFUSALS)
def test_a_refusal_says_what_where_and_the_remedy(words: str, kind: Reason | None, says: str) -> None:
    found = refused(unmade(words))
    assert (found.reason, says in found.message) == (kind, True), found.message
    assert found.message.startswith("its head pod cannot be made in namespace team: ")


@pytest.mark.parametrize("words", [words for words, _, _ in REFUSALS])
def test_another_try_with_another_name_is_the_same_sentence(words: str) -> None:
    assert refused(unmade(words)) == refused(unmade(words.replace("4hh4r", "zz9k2")))


def test_several_limits_are_told_alike_in_whatever_order_they_come() -> None:
    one, two = (
        "maximum cpu usage per Pod is 1, but limit is 3",
        "maximum memory usage per Pod is 1Gi, but limit is 3Gi",
    )
    ways = [refused(unmade(f"{FORBIDDEN}[{', '.join(rules)}]")) for rules in ((one, two), (two, one))]
    assert ways[0] == ways[1]


@pytest.mark.parametrize(
    ("role", "whose", "remedy"),
    [
        ("head", "its head pod", "set Helm ray.head"),
        ("worker", "a worker pod", "take another size (resource.instanceType), or set Helm ray.worker"),
        ("", "its pod", "change resources in inference.template"),
    ],
)
def test_who_may_make_the_pod_smaller_depends_on_whose_it_is(role: str, whose: str, remedy: str) -> None:
    found = refused(unmade(f"{FORBIDDEN}maximum cpu usage per Pod is 1, but limit is 3", role))
    assert found.message.startswith(f"{whose} cannot be made")
    assert f": {remedy}, or change the LimitRange" in found.message


def test_a_template_is_told_that_it_may_be_corrected_itself() -> None:
    words = f'pods "mine-5f7d9c6b8-" is forbidden: {RESTRICTED}'
    assert (
        "runAsNonRoot != true: correct inference.template, or where your rules"
        in refused(unmade(words, "")).message
    )
    denied = "ValidatingAdmissionPolicy 'p' denied request: no"
    assert "denies it: no; correct inference.template, or ask" in refused(unmade(denied, "")).message


# -- where it stands -------------------------------------------------------------------------------------------------

QUOTA = "exceeded quota: gpu, requested: pods=1, used: pods=4, limited: pods=4"


def failure(reason: str = "FailedCreateHeadPod", words: str = FORBIDDEN + QUOTA) -> Manifest:
    """As KubeRay 1.6 writes it: errors.Join of its own reason and the API server's answer."""
    other = {
        "type": "HeadPodReady",
        "status": "False",
        "reason": "HeadPodNotFound",
        "message": "Head Pod not found",
    }
    told = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": f"{reason}\n{words}"}
    return {"conditions": [told, other]}


def pod(role: str, *, ready: bool = True, cluster: str = "mine-x1y2z", **metadata: Any) -> Manifest:
    labels = {"ray.io/cluster": cluster, "kairay.dev/role": role}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": role, "namespace": "team", "labels": labels, **metadata},
        "status": {"conditions": [condition]},
    }


def test_a_cluster_says_why_its_head_cannot_be_made_until_the_head_is_there() -> None:
    found = unmade_of_cluster("team", "mine-x1y2z", failure(), [])
    assert found == unmade(FORBIDDEN + QUOTA)
    assert unmade_of_cluster("team", "mine-x1y2z", failure(), [pod("head", ready=False)]) is None
    other = [pod("head", cluster="mine-old"), pod("head", deletionTimestamp="2026-11-24T12:00:00Z")]
    assert unmade_of_cluster("team", "mine-x1y2z", failure(), other) is not None


def test_an_evicted_head_does_not_hide_that_the_next_one_cannot_be_made() -> None:
    evicted = pod("head", ready=False)
    evicted["status"]["phase"] = "Failed"
    assert unmade_of_cluster("team", "mine-x1y2z", failure(), [evicted]) is not None
    assert [each.headless for each in silent_clusters(service(), [evicted])] == [True]


def test_a_worker_that_cannot_be_made_is_told_beside_its_head() -> None:
    found = unmade_of_cluster("team", "mine-x1y2z", failure("FailedCreateWorkerPod"), [pod("head")])
    assert found is not None
    assert found.role == "worker"


@pytest.mark.parametrize(
    "reason", ["FailedDeleteHeadPod", "FailedDeleteWorkerPod", "FailedDeleteAllPods", "SomethingNew"]
)
def test_what_cannot_be_deleted_keeps_nobody_waiting(reason: str) -> None:
    assert unmade_of_cluster("team", "mine-x1y2z", failure(reason), []) is None


def test_a_cluster_without_that_condition_or_any_says_nothing() -> None:
    assert unmade_of_cluster("team", "mine-x1y2z", {}, []) is None
    gone = failure()
    gone["conditions"][0]["status"] = "False"
    assert unmade_of_cluster("team", "mine-x1y2z", gone, []) is None


def test_a_deployment_says_it_itself() -> None:
    told = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": FORBIDDEN + QUOTA,
    }
    found = unmade_of_deployment(
        {"metadata": {"name": "mine", "namespace": "team"}, "status": {"conditions": [told]}}
    )
    assert found == unmade(FORBIDDEN + QUOTA, role="")


def test_of_a_jobs_copy_of_its_clusters_status_only_the_failure_is_kept() -> None:
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "mine"}}
    kept = TRIMS[RAY_JOB](
        {**job, "status": {"jobStatus": "", "rayClusterStatus": {**failure(), "desiredCPU": "1"}}}
    )
    assert [each["type"] for each in kept["status"]["rayClusterStatus"]["conditions"]] == ["ReplicaFailure"]
    assert TRIMS[RAY_JOB]({**job, "status": {"rayClusterStatus": {"desiredCPU": "1"}}})["status"] == {}


# -- what comes first ------------------------------------------------------------------------------------------------

HEAD, WORKER = unmade(FORBIDDEN + QUOTA), unmade(FORBIDDEN + QUOTA, "worker")


@pytest.mark.parametrize(
    ("missing", "other", "first"),
    [
        (HEAD, Trouble(reason=Reason.IMAGE_NOT_PULLED, message="pod"), Reason.NAMESPACE_QUOTA),
        (WORKER, Trouble(reason=Reason.IMAGE_NOT_PULLED, message="pod"), Reason.IMAGE_NOT_PULLED),
        (WORKER, Trouble(reason=None, message="waits for a node of its pool"), Reason.NAMESPACE_QUOTA),
        (WORKER, Trouble(reason=Reason.POD_STOPPED, message="was stopped: Evicted"), Reason.NAMESPACE_QUOTA),
        (
            WORKER,
            Trouble(reason=Reason.VOLUME_NOT_MOUNTED, message="late", vague=True),
            Reason.NAMESPACE_QUOTA,
        ),
        (WORKER, None, Reason.NAMESPACE_QUOTA),
    ],
)
def test_noise_does_not_hide_a_pod_that_cannot_be_made(
    missing: Unmade, other: Trouble | None, first: Reason
) -> None:
    found = with_refusal(other, missing)
    assert found is not None
    assert found.reason is first


def test_without_a_refusal_the_pods_speak() -> None:
    other = Trouble(reason=None, message="waits for a node of its pool")
    assert with_refusal(other, None) is other
    assert with_refusal(None, None) is None


# -- which clusters are asked ----------------------------------------------------------------------------------------


BEGINS = {"jobDeploymentStatus": "Initializing", "rayClusterName": "mine-x1y2z"}
MADE = {"creationTimestamp": "2026-11-24T11:00:00Z", "uid": "owner"}


def service(status: str = "", deployment: str = "", part: str = "pendingServiceStatus") -> Manifest:
    deployments = {"serveDeploymentStatuses": {"chat": {"status": deployment}}} if deployment else {}
    apps = {"mine": {"status": status, **deployments}} if status else {}
    told = {"rayClusterName": "mine-x1y2z", "applicationStatuses": apps}
    return {"metadata": {**MADE, "name": "mine", "namespace": "team"}, "status": {part: told}}


@pytest.mark.parametrize(
    ("what", "pods", "asked"),
    [
        (service(), [], True),
        (service(), [pod("head", cluster="mine-old")], True),
        (service(), [pod("head", ready=False)], False),
        (service(), [pod("head")], True),
        (service(), [pod("head"), pod("worker", ready=False)], False),
        (service("DEPLOYING", "UPDATING"), [pod("head"), pod("worker")], True),
        (service("RUNNING", "HEALTHY", "activeServiceStatus"), [pod("head")], False),
        (service("RUNNING", "UPSCALING", "activeServiceStatus"), [pod("head")], True),
        (service("RUNNING", "DOWNSCALING", "activeServiceStatus"), [pod("head"), pod("worker")], False),
        (service("DEPLOY_FAILED"), [pod("head")], False),
        ({"metadata": {}, "status": {"pendingServiceStatus": {}}}, [], False),
        ({"metadata": {}}, [], False),
    ],
)
def test_only_a_service_that_misses_pods_is_asked_after(
    what: Manifest, pods: list[Manifest], asked: bool
) -> None:
    headless = not any(pod["metadata"]["labels"]["ray.io/cluster"] == "mine-x1y2z" for pod in pods)
    found = [(each.cluster, each.owner, each.headless) for each in silent_clusters(what, pods)]
    assert found == ([("mine-x1y2z", "owner", headless)] if asked else [])


@pytest.mark.parametrize(
    ("status", "pods", "asked"),
    [
        (BEGINS, [], True),
        (BEGINS, [pod("head", ready=False)], False),
        ({**BEGINS, "rayClusterStatus": failure()}, [], False),
        ({**BEGINS, "jobDeploymentStatus": "Running"}, [], False),
        ({}, [], False),
    ],
)  # fmt: skip
def test_a_job_is_asked_after_while_it_begins_without_a_head_or_a_word(
    status: Manifest, pods: list[Manifest], asked: bool
) -> None:
    found = silent_job({"metadata": MADE, "status": status}, pods)
    assert [each.cluster for each in found] == (["mine-x1y2z"] if asked else [])


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SERVICES = 'services "mine-x1y2z-head-svc" is forbidden: exceeded quota: few, requested: services=1, used: services=5,'


def event(reason: str, minute: int, message: str = "") -> Manifest:
    when = f"2026-11-24T11:{minute}:00Z"
    return {"reason": reason, "message": message, "metadata": {}, "lastTimestamp": when}


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([event("FailedToCreateService", 50)], "FailedToCreateService"),
        ([event("FailedToCreateService", 50), event("CreatedService", 55)], None),
        ([event("FailedToCreateService", 55), event("CreatedService", 50)], "FailedToCreateService"),
        ([event("FailedToCreateService", 50), event("FailedToCreateHeadPod", 52)], "FailedToCreateHeadPod"),
        ([event("FailedToCreateRayCluster", 50), event("CreatedService", 55)], "FailedToCreateRayCluster"),
        ([event("FailedToCreateService", 39)], None),
        ([event("FailedToDeleteHeadPod", 59), event("UpdatedServeApplications", 59)], None),
        ([], None),
    ],
)
def test_the_latest_word_of_events_counts_until_the_thing_is_made(
    events: list[Manifest], reason: str | None
) -> None:
    found = read_failure_events(events, NOW).get("conditions", [])
    assert [each["reason"] for each in found] == ([] if reason is None else [reason])


def test_what_is_missing_before_the_head_is_named_until_the_head_is_there() -> None:
    words = f"Failed creating service team/mine-x1y2z-head-svc, {SERVICES} limited: services=5"
    told = read_failure_events([event("FailedToCreateService", 59, words)], NOW)
    found = unmade_of_cluster("team", "mine-x1y2z", told, [])
    assert found is not None
    assert refused(found).message == (
        "services/mine-x1y2z-head-svc cannot be made in namespace team: quota few is used up (services: 1 wanted,"
        " 5 of 5 used): free some of it, or ask for a larger one; kubectl -n team describe quota few"
    )
    assert unmade_of_cluster("team", "mine-x1y2z", told, [pod("head")]) is None
    denied = 'Failed to create RayCluster team/mine-x1y2z: admission webhook "w" denied the request: no team'
    told = read_failure_events([event("FailedToCreateRayCluster", 59, denied)], NOW)
    found = unmade_of_cluster("team", "mine-x1y2z", told, [])
    assert found is not None
    assert refused(found).message.startswith(
        "raycluster/mine-x1y2z cannot be made in namespace team: webhook w denies"
    )


def test_a_service_tells_of_whichever_of_its_clusters_was_asked() -> None:
    told = {"mine-x1y2z": failure(), "mine-gone": failure("FailedCreateWorkerPod")}
    assert unmade_of_service(service(), told, []) == HEAD
    assert unmade_of_service(service(), {"mine-gone": failure()}, []) is None


def test_a_status_whose_conditions_are_null_says_nothing() -> None:
    assert unmade_of_cluster("team", "mine-x1y2z", {"conditions": None}, []) is None


# -- objects of our own ----------------------------------------------------------------------------------------------


def denial(words: str) -> DeniedError:
    about = "PersistentVolumeClaim team/mine-run"
    error = read_refusal(403, f'persistentvolumeclaims "mine-run" is forbidden: {words}', "PATCH", about, {})
    assert isinstance(error, DeniedError)
    return error


@pytest.mark.parametrize(
    ("words", "reason", "says"),
    [
        (("exceeded quota: disk, requested: requests.storage=20Gi, used: requests.storage=90Gi,"
         " limited: requests.storage=100Gi"), "NamespaceQuotaExceeded",
         "quota disk is used up (requests.storage: 20Gi wanted, 90Gi of 100Gi used): free some of it"),
        ("maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 20Gi", "NotAllowed",
         "5Gi, but request is 20Gi: set Helm ray.runStorage, or change the LimitRange"),
        ("status unknown for quota: disk, resources: requests.storage", "NotAllowed", "has not been counted yet"),
        ("some plugin says no", "NotAllowed",
         "some plugin says no; more: kubectl -n team describe persistentvolumeclaims mine-run"),
    ],
)  # fmt: skip
def test_an_object_of_ours_that_is_denied_says_why(words: str, reason: str, says: str) -> None:
    found = not_made(Key(CLAIM, "team", "mine-run"), denial(words))
    assert found.message.startswith("persistentvolumeclaims/mine-run cannot be made in namespace team: ")
    assert (found.reason, says in found.message) == (reason, True), found.message


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, 'admission webhook "validate.kyverno.svc-fail" denied the request: label team is missing'),
        (403, 'admission webhook "validation.gatekeeper.sh" denied the request: label team is missing'),
        (422, ('persistentvolumeclaims "mine-run" is forbidden: ValidatingAdmissionPolicy \'labels\' with binding'
         " 'labels' denied request: label team is missing")),
    ],
)  # fmt: skip
def test_a_policy_or_a_webhook_that_denies_an_object_of_ours_is_a_rule_whatever_its_status(
    status: int, text: str
) -> None:
    error = read_refusal(status, text, "PATCH", "PersistentVolumeClaim team/mine-run", {})
    assert isinstance(error, DeniedError)
    told = not_made(Key(CLAIM, "team", "mine-run"), error)
    assert (told.reason, " denies it: label team is missing; ask whoever" in told.message) == (
        "NotAllowed",
        True,
    ), told.message


def test_a_right_that_is_missing_is_no_rule_of_the_cluster() -> None:
    text = (
        'rayjobs.ray.io "mine" is forbidden: User "u" cannot patch resource "rayjobs" in API group "ray.io"'
    )
    error = read_refusal(403, text, "PATCH", "RayJob team/mine", {})
    assert (error.reason, "ask for the right to PATCH it" in error.message) == ("Forbidden", True)
