"""What is said of pods that wait: the wordings of kubelet, scheduler and volume controllers -> a sentence to act on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from kairay.controller.complaints import Complaint, asked_after, read_complaints
from kairay.controller.conditions import Reason
from kairay.controller.triggers import TRIMS
from kairay.controller.trouble import Trouble
from kairay.controller.waiting import MOST_CHARACTERS, pod_trouble
from kairay.kube.objects import POD, Manifest

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GPU_IMAGE = "ghcr.io/kairay/ray:1"
POOL = {"nodeSelector": {"kairay.dev/pool": "kr1"}}
PREEMPTION = " preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."


def pod(role: str = "worker", spec: dict[str, Any] | None = None, name: str = "w", **status: Any) -> Manifest:
    labels = {"kairay.dev/workspace": "mine", **({"kairay.dev/role": role} if role else {})}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}", "labels": labels},
        "spec": spec or {}, "status": {"phase": "Pending", **status},
    }  # fmt: skip


def told(pod: Manifest, *complaints: Complaint) -> Trouble:
    found = pod_trouble([pod], {"uid-w": complaints})
    assert found is not None
    return found


def unplaced(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "ray-worker", "image": GPU_IMAGE, "ready": False, **state}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container(state={"waiting": {"reason": reason, **({"message": message} if message else {})}})


CREATING = waiting("ContainerCreating")

EVENTS = [
    ("FailedMount", 'MountVolume.SetUp failed for volume "login-0" : secret "push" not found', Reason.REFERENCE_MISSING,
     "there is no Secret push in namespace team; create it: kubectl -n team create secret docker-registry push "),
    ("FailedMount", 'MountVolume.SetUp failed for volume "input" : secret "data" not found', Reason.REFERENCE_MISSING,
     "create it: kubectl -n team create secret generic data "),
    ("FailedMount", 'MountVolume.SetUp failed for volume "config" : configmap "redis-cofig" not found',
     Reason.REFERENCE_MISSING, "there is no ConfigMap redis-cofig in namespace team; apply it"),
    ("FailedMount", 'MountVolume.SetUp failed for volume "gcp-sa" : references non-existent secret key: CHATBOT_SA',
     Reason.REFERENCE_MISSING, "volume gcp-sa of pod w wants the key CHATBOT_SA; add it"),
    ("FailedMount",
     'MountVolume.SetUp failed for volume "config-volume" : configmap references non-existent config key: missing-key',
     Reason.REFERENCE_MISSING, "volume config-volume of pod w wants the key missing-key; add it"),
    ("FailedMount",
     'MountVolume.SetUp failed for volume "data" : hostPath type check failed: /srv/data is not a directory',
     Reason.VOLUME_NOT_MOUNTED, "its node has no /srv/data: make it on every node"),
    ("FailedMount",
     'MountVolume.SetUp failed for volume "juicefs-pv" : rpc error: code = Internal desc = Could not mount juicefs: no',
     Reason.VOLUME_NOT_MOUNTED, "volume juicefs-pv cannot be mounted: Could not mount juicefs: no; more: kubectl"),
    ("FailedMount", ("Unable to attach or mount volumes: unmounted volumes=[nfs], unattached volumes=[nfs]"
     ": timed out waiting for the condition"), Reason.VOLUME_NOT_MOUNTED, "its volumes nfs are not mounted yet"),
    ("FailedAttachVolume", 'Multi-Attach error for volume "pvc-9db" Volume is already used by pod(s) old-1, old-2',
     Reason.VOLUME_NOT_MOUNTED, "pod old-1 still holds the volume pvc-9db: it is free some minutes after"),
    ("FailedAttachVolume", ('Multi-Attach error for volume "pvc-9db" Volume is already exclusively attached to one node'
     " and can't be attached to another"), Reason.VOLUME_NOT_MOUNTED, "another node still holds the volume pvc-9db"),
    ("FailedCreatePodSandBox", ("Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network"
     f' for sandbox "{"6091888e" * 8}": plugin type="loopback" failed (add): missing network name'),
     Reason.POD_NOT_STARTED, 'failed to setup network: plugin type="loopback" failed (add): missing network name'),
    ("Pulling", 'Pulling image "ghcr.io/kairay/ray:1"', None, "its node pulls the image ghcr.io/kairay/ray:1"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "message", "kind", "says"), EVENTS)
def test_an_event_becomes_a_sentence_with_a_remedy(
    reason: str, message: str, kind: Reason | None, says: str
) -> None:
    found = told(pod(**CREATING), Complaint(reason=reason, message=message))
    assert (found.reason, says in found.message) == (kind, True), found.message
    assert found.message.startswith("pod w: ")


SCHEDULER = [
    ("0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 Insufficient nvidia.com/gpu." + PREEMPTION,
     "no node takes it (Insufficient nvidia.com/gpu; node(s) had untolerated taint {a: b}): other pods hold the rest"),
    ("0/3 nodes are available: 3 node(s) had untolerated taint(s). no new claims to deallocate,",
     "no node takes it (node(s) had untolerated taint(s)): take the taint off a node"),
    ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
     "no node takes it (node(s) didn't match Pod's node affinity/selector)"),
    ("0/1 nodes are available: 1 Too many pods.", "no node takes it (Too many pods): other pods hold the rest"),
    ("0/2 nodes are available: 2 node(s) had volume node affinity conflict.", "its volume is in a zone without"),
    ('0/3 nodes are available: persistentvolumeclaim "data" not found.' + PREEMPTION,
     "there is no PersistentVolumeClaim data in namespace team; apply it"),
    ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims." + PREEMPTION,
     "its claim has no volume yet; why: kubectl -n team describe pvc"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "says"), SCHEDULER)
def test_the_schedulers_words_are_kept_without_what_it_counts(message: str, says: str) -> None:
    found = told(pod(**unplaced(message)))
    assert says in found.message
    assert not re.search(r"\d/\d|\d node|preemption", found.message)


def test_a_sentence_is_the_same_while_nodes_come_and_go() -> None:
    one = told(pod(**unplaced("0/3 nodes are available: 1 Insufficient cpu, 2 Too many pods." + PREEMPTION)))
    two = told(pod(**unplaced("0/9 nodes are available: 4 Too many pods, 5 Insufficient cpu.")))
    assert one == two


def test_a_worker_whose_node_kairay_brings_waits_and_is_told_nothing_else_than_resource_ready_says() -> None:
    message = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    found = told(pod(spec=POOL, **unplaced(message)))
    assert found.reason is None
    assert found.message == "pod w: waits for a node of its pool (Insufficient nvidia.com/gpu)"


CLAIMS = [
    ("mine-run", "ProvisioningFailed", 'storageclass.storage.k8s.io "fast-ssd" not found',
     ("claim mine-run: there is no storage class fast-ssd; kubectl get storageclass lists them: correct the claim or"
     " Helm ray.storageClass")),
    ("mine-run", "FailedBinding", "no persistent volumes available for this claim and no storage class is set",
     "there is no default storage class: name one in the claim or Helm ray.storageClass, or set ray.runStorage to 0"),
    ("theirs", "FailedBinding", "no persistent volumes available for this claim and no storage class is set",
     "claim theirs: there is no default storage class: name one in the claim"),
    ("mine-run", "ProvisioningFailed",
     'failed to provision volume with StorageClass "disk": rpc error: code = ResourceExhausted desc = Not enough disk',
     "disk gives no volume: Not enough disk; kubectl -n team describe pvc mine-run"),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "reason", "message", "says"), CLAIMS)
def test_a_claim_without_a_volume_says_why(claim: str, reason: str, message: str, says: str) -> None:
    unbound = unplaced("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    found = told(pod(**unbound), Complaint(reason=reason, message=message, claim=claim))
    assert (found.reason, says in found.message) == (Reason.CLAIM_NOT_BOUND, True), found.message


HEAD = f'failed to pull and unpack image "{GPU_IMAGE}": failed to resolve reference "{GPU_IMAGE}": '
IMAGES = [
    (HEAD + "unexpected status from HEAD request to https://ghcr.io/v2/x/manifests/1: 401 Unauthorized",
     "(401 Unauthorized): correct Helm ray.image, or let nodes log in"),
    (HEAD + "pull access denied, repository does not exist or may require authorization: server message:"
     " insufficient_scope: authorization failed", "(authorization failed): correct Helm ray.image"),
    (f"rpc error: code = NotFound desc = {HEAD}{GPU_IMAGE}: not found", "(not found): correct its name or tag"),
    (HEAD + 'failed to do request: Head "https://ghcr.io/v2/": dial tcp: lookup ghcr.io on 10.0.0.10:53: no such host',
     "(no such host): check that node's network"),
    (HEAD + 'failed to do request: Head "https://ghcr.io/v2/": dial tcp 31.13.95.34:443: i/o timeout',
     "(i/o timeout): check that node's network"),
    (("rpc error: code = Unknown desc = toomanyrequests: You have reached your pull rate limit. You may increase it"
     " by upgrading: https://www.docker.com/increase-rate-limit"), "the registry limits pulls"),
    (HEAD + "no match for platform in manifest: not found", "it is not built for that node's processor"),
    ("something new", f"cannot pull the image {GPU_IMAGE}: something new"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), IMAGES)
def test_an_image_that_is_not_pulled_has_the_registrys_word_and_a_remedy(words: str, says: str) -> None:
    now = told(pod(**waiting("ErrImagePull", words)))
    assert (now.reason, says in now.message) == (Reason.IMAGE_NOT_PULLED, True), now.message
    assert f"cannot pull the image {GPU_IMAGE}" in now.message
    newer = waiting("ImagePullBackOff", f'Back-off pulling image "{GPU_IMAGE}": ErrImagePull: {words}')
    older = waiting("ImagePullBackOff", f'Back-off pulling image "{GPU_IMAGE}"')
    failed = Complaint(reason="Failed", message=f'Failed to pull image "{GPU_IMAGE}": {words}')
    if "new" not in words:
        assert told(pod(**newer)) == now
        assert told(pod(**older), failed) == now, "the status is not written anew at every try"


def test_without_the_registrys_word_the_image_is_named_all_the_same() -> None:
    found = told(pod(**waiting("ImagePullBackOff", f'Back-off pulling image "{GPU_IMAGE}"')))
    assert f"cannot pull the image {GPU_IMAGE}: more: kubectl -n team describe pod w" in found.message


def test_a_template_is_told_of_its_pull_secret() -> None:
    refused = waiting(
        "ErrImagePull", "pull access denied: denied: requested access to the resource is denied"
    )
    assert "inference.template.spec.imagePullSecrets" in told(pod(role="", **refused)).message
    missing = (
        "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    )
    found = told(
        pod(role="", **refused), Complaint(reason="FailedToRetrieveImagePullSecret", message=missing)
    )
    assert "there is no Secret regcred to pull the image" in found.message


CONTAINERS = [
    (waiting("CreateContainerConfigError", 'secret "keys" not found'), Reason.REFERENCE_MISSING,
     "there is no Secret keys in namespace team"),
    (waiting("CreateContainerConfigError", "couldn't find key DB_URL in Secret team/taskboard-secrets"),
     Reason.REFERENCE_MISSING, "Secret taskboard-secrets in namespace team has no key DB_URL; add it"),
    (waiting("CreateContainerConfigError", 'container has runAsNonRoot and image will run as root (pod: "w_team(1)")'),
     Reason.POD_NOT_STARTED, "its image runs as root"),
    (waiting("RunContainerError", 'failed to create containerd task: exec: "x": executable file not found in $PATH'),
     Reason.POD_NOT_STARTED, 'RunContainerError: failed to create containerd task: exec: "x"'),
    (container(state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}},
               lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
     Reason.CONTAINER_OUT_OF_MEMORY, "used more memory than its limit (OOMKilled): take a size with more memory"),
    (container(state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed"}},
               lastState={"terminated": {"reason": "Error", "exitCode": 3, "message": "no such\n adapter\n"}}),
     Reason.CONTAINER_ENDED, "container ray-worker ended with exit code 3 (no such adapter); its log: kubectl -n team"),
    (container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 0}}),
     Reason.CONTAINER_ENDED, "ends by itself (exit code 0)"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind", "says"), CONTAINERS)
def test_a_container_that_does_not_run_says_why(status: dict[str, Any], kind: Reason, says: str) -> None:
    found = told(pod(**status))
    assert (found.reason, says in found.message) == (kind, True), found.message


def test_a_container_that_fails_again_and_again_has_one_sentence() -> None:
    ended = {"terminated": {"reason": "Error", "exitCode": 1}}
    states = [
        container(state=ended),
        container(
            state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}, lastState=ended
        ),
        container(state={"running": {"startedAt": "2026-11-24T11:59:00Z"}}, lastState=ended),
    ]
    assert len({told(pod(**state)).message for state in states}) == 1


def test_an_evicted_pod_says_so_as_it_is_kept_in_memory() -> None:
    evicted = pod(
        phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."
    )
    found = told(TRIMS[POD](evicted))
    assert found.reason is Reason.POD_STOPPED
    assert "was stopped: Evicted: The node was low on resource: ephemeral-storage." in found.message


def test_what_needs_a_hand_comes_before_what_needs_time() -> None:
    patient = pod(name="a", spec=POOL, **unplaced("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."))
    broken = pod(name="b", **waiting("CreateContainerConfigError", 'secret "keys" not found'))
    found = pod_trouble([patient, broken], {})
    assert found is not None
    assert found.message.startswith("pod b: there is no Secret keys")


def test_the_cause_comes_before_the_word_that_something_is_late() -> None:
    late = "Unable to attach or mount volumes: unmounted volumes=[login-0], unattached volumes=[]: timed out"
    why = 'MountVolume.SetUp failed for volume "login-0" : secret "push" not found'
    complaints = [Complaint(reason="FailedMount", message=text) for text in (late, why)]
    assert "no Secret push" in told(pod(**CREATING), *complaints).message


def test_a_sentence_never_outgrows_a_line_and_keeps_its_remedy() -> None:
    found = told(
        pod(**CREATING), Complaint(reason="FailedMount", message=f'for volume "v" : {"word " * 400}')
    )
    assert len(found.message) <= MOST_CHARACTERS
    assert "…; more: kubectl -n team describe pod w" in found.message


def test_pods_that_go_or_only_need_time_are_no_trouble() -> None:
    going = pod(**waiting("ErrImagePull", "not found"))
    going["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    assert pod_trouble([going, pod(**CREATING)], {}) is None


# -- which events still hold -----------------------------------------------------------------------------------------

MOUNT = 'MountVolume.SetUp failed for volume "login-0" : secret "push" not found'


def event(reason: str, seen: str, message: str = MOUNT, **more: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, "metadata": {}, "lastTimestamp": seen, **more}


def reasons(*events: dict[str, Any]) -> list[str]:
    return [each.reason for each in read_complaints(events, NOW)]


def test_a_fault_that_was_mended_is_heard_no_more() -> None:
    failed, pulling = (
        event("FailedMount", "2026-11-24T11:58:00Z"),
        event("Pulling", "2026-11-24T11:59:00Z", ""),
    )
    assert reasons(failed) == ["FailedMount"]
    assert reasons(failed, pulling) == ["Pulling"]
    again = event("FailedMount", "2026-11-24T11:59:30Z")
    assert reasons(pulling, again) == ["FailedMount", "Pulling"]
    assert reasons(event("Pulling", "2026-11-24T11:59:00Z"), event("Pulled", "2026-11-24T11:59:20Z")) == []


def test_old_events_and_noise_are_left_out() -> None:
    assert reasons(event("FailedMount", "2026-11-24T11:40:00Z")) == []
    assert reasons(event("DNSConfigForming", "2026-11-24T11:59:00Z", "Nameserver limits were exceeded")) == []
    assert reasons(event("Failed", "2026-11-24T11:59:00Z", "Error: ImagePullBackOff")) == []


def test_the_schedulers_form_of_an_event_is_read_too() -> None:
    newer = {"reason": "FailedScheduling", "message": "0/1", "metadata": {}, "lastTimestamp": None,
             "eventTime": "2026-11-24T11:00:00.000000Z"}  # fmt: skip
    assert reasons(newer) == []
    assert reasons({**newer, "series": {"lastObservedTime": "2026-11-24T11:59:00.000000Z"}}) == [
        "FailedScheduling"
    ]


def test_one_fault_with_another_count_is_one_complaint() -> None:
    twice = [event("FailedMount", f"2026-11-24T11:5{minute}:00Z", count=minute) for minute in (7, 9)]
    assert len(read_complaints(twice, NOW)) == 1


# -- whose events are asked for --------------------------------------------------------------------------------------

PENDING = {"metadata": {"name": "mine-run", "uid": "claim"}, "status": {"phase": "Pending"}}
BOUND = {**PENDING, "status": {"phase": "Bound"}}
WITH_CLAIM = {"volumes": [{"name": "run", "persistentVolumeClaim": {"claimName": "mine-run"}}]}
ON_NODE = {"nodeName": "gpu-1"}
UNBOUND = unplaced("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")


@pytest.mark.parametrize(
    ("waits", "claim", "asked"),
    [
        (pod(spec=ON_NODE, **CREATING), None, ["uid-w"]),
        (pod(), None, ["uid-w"]),
        (pod(spec=WITH_CLAIM), PENDING, ["uid-w", "claim"]),
        (pod(spec=WITH_CLAIM, **UNBOUND), PENDING, ["claim"]),
        (pod(spec=WITH_CLAIM, **UNBOUND), BOUND, []),
        (pod(spec=WITH_CLAIM, **unplaced("0/1 nodes are available: 1 Insufficient cpu.")), PENDING, []),
        (pod(spec=ON_NODE, **waiting("ImagePullBackOff", 'Back-off pulling image "x"')), None, ["uid-w"]),
        (pod(spec=ON_NODE, **waiting("ErrImagePull", "no: not found")), None, []),
        (pod(spec=ON_NODE, **container(state={"running": {}})), None, []),
        (pod(spec=ON_NODE, initContainerStatuses=[{"name": "i", "state": {"running": {}}}], **CREATING), None, []),
        (pod(spec=ON_NODE, phase="Running"), None, []),
    ],
)  # fmt: skip
def test_only_who_waits_without_a_word_is_asked_after(
    waits: Manifest, claim: Manifest | None, asked: list[str]
) -> None:
    kept = TRIMS[POD](waits)
    assert [each["metadata"]["uid"] for each in asked_after(kept, lambda name: claim)] == asked


def test_a_pod_that_was_evicted_does_not_hide_what_holds_its_replacement() -> None:
    gone = pod(name="a-old", phase="Failed", reason="Evicted", message="The node was low on memory.")
    new = pod(name="b-new", **waiting("ImagePullBackOff", 'Back-off pulling image "x": manifest unknown'))
    found = pod_trouble([gone, new], {})
    assert found is not None
    assert (found.reason, "b-new" in found.message) == (Reason.IMAGE_NOT_PULLED, True)


def test_an_image_that_cannot_be_pulled_is_said_alike_between_two_tries() -> None:
    words = "failed to pull and unpack image: unexpected status code: 500 Internal Server Error"
    tries = [
        waiting("ErrImagePull", words),
        waiting("ImagePullBackOff", f'Back-off pulling image "x:1": ErrImagePull: {words}'),
    ]
    assert len({told(pod(**each)).message for each in tries}) == 1


def test_a_container_that_ends_by_itself_again_and_again_is_told_of_while_it_runs_too() -> None:
    ended = {"terminated": {"exitCode": 0}}
    between = container(state={"running": {}}, lastState=ended, restartCount=3)
    pause = container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended, restartCount=3)
    assert told(pod(**between)) == told(pod(**pause))
