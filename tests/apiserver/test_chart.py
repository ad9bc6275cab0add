"""The Helm chart with the real helm: what it draws is what kuberay/install holds, and an API server takes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bare import BareApiServer, NotBuiltError, bare_api_server, eventually
from kairay.controller.settings import ModelSettings, NodeSettings, Provider, Settings, read_settings
from kairay.kube.objects import RAY_SERVICE
from kairay.nodes.aks_settings import AksSettings, read_aks_settings
from kairay.nodes.groups import Sharing
from kairay.prices import MOUNTED, PRICES_MAP
from kairay.quantities import parse_bytes
from kairay.ray.pods import PodSize
from kairay.ray.raycluster import RayImage
from onebox.api import Manifest
from onebox.kairay import INSTALL, manifests
from onebox.layout import Layout
from onebox.tools import helm_folder
from rights import NAMESPACE, controller

pytestmark = pytest.mark.cluster

CHART = INSTALL.parent / "chart"
NAME = "kairay-controller"
RIGHTS = "/apis/rbac.authorization.k8s.io/v1"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = helm_folder(Layout.default().tools) / "helm"
    if not program.exists():
        pytest.skip("helm is not built on this machine; run `make cluster-tools`")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


def drawn(*arguments: str, namespace: str = NAMESPACE) -> list[Manifest]:
    """`helm template`, parsed."""
    done = helm(
        "template", "kairay", str(CHART), "--namespace", namespace, "--include-crds", "--kube-version", "1.34.0",
        *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def named(objects: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    assert len(found) == len(objects)
    return found


def settings(objects: list[Manifest]) -> dict[str, str]:
    data: dict[str, str] = named(objects)["ConfigMap", NAME]["data"]
    return data


AKS = ("--set", "nodes.provider=aks", "--set", "aks.subscription=s,aks.resourceGroup=g,aks.cluster=c")

KARPENTER = ("--set", "nodes.provider=karpenter")


@pytest.mark.parametrize("provider", [(), AKS, KARPENTER], ids=["nodes-there", "aks", "karpenter"])
def test_the_chart_draws_what_kubectl_installs(provider: tuple[str, ...]) -> None:
    ours, theirs = named(drawn(*provider)), named(list(manifests()))
    if not provider:
        # Rights that only nodes that Kairay brings need.
        theirs = {key: each for key, each in theirs.items() if key[1] != f"{NAME}-nodes"}
    if provider is KARPENTER:
        rights = (INSTALL / "karpenter-rbac.yaml").read_text("utf-8")
        theirs |= named(list(yaml.safe_load_all(rights)))
    # Helm makes the namespace with --create-namespace, and keeps the settings.
    del ours["ConfigMap", NAME]
    del theirs["Namespace", NAMESPACE]
    del ours["Deployment", NAME]["spec"]["template"]["metadata"]["annotations"]
    assert ours == theirs


def test_the_defaults_are_the_controllers_own() -> None:
    assert read_settings(settings(drawn())) == Settings()


def test_every_value_reaches_the_controller() -> None:
    found = drawn(
        "--set", "ray.image=r.example/ray:1", "--set", "ray.version=2.61.0", "--set", "ray.head=0.5/1Gi-1/2Gi",
        "--set", "ray.worker=4/8Gi", "--set", "ray.workerIdleSeconds=5", "--set", "ray.runStorage=0",
        "--set", "ray.storageClass=fast", "--set", "ray.advertisedGpus=1", "--set", "tuning.attempts=1",
        "--set", "tuning.serveByDefault=false", "--set", "inference.idleSeconds=1200",
        "--set", "insecureRegistries={a:5000,b:5000}", "--set", "watchNamespaces={team}",
        "--set", "models.hub=false", "--set", "models.endpoint=https://hub.example",
        "--set", "models.registries={mine.azurecr.io,b:5000}",
        "--set", "nodes.idleSeconds=30,nodes.sharing=cluster", *AKS,
        "--set", "aks.location=l,aks.subnet=/subscriptions/s/x,aks.endpoint=https://arm.example",
    )  # fmt: skip
    head, worker = parse_bytes("1Gi"), parse_bytes("8Gi")
    assert read_settings(settings(found)) == Settings(
        image=RayImage(name="r.example/ray:1", ray_version="2.61.0"),
        head=PodSize(cpus=0.5, memory=head, most_cpus=1, most_memory=2 * head),
        worker=PodSize(cpus=4, memory=worker, most_cpus=4, most_memory=worker),
        worker_idle_seconds=5, run_storage=0, storage_class="fast", advertised_gpus=1, attempts=1,
        serve_by_default=False, idle_seconds=1200, insecure_registries="a:5000,b:5000", namespaces=("team",),
        nodes=NodeSettings(provider=Provider.AKS, idle_seconds=30, sharing=Sharing.CLUSTER),
        models=ModelSettings(
            hub=False, endpoint="https://hub.example", registries=frozenset({"mine.azurecr.io", "b:5000"})
        ),
    )  # fmt: skip

    assert read_aks_settings(settings(found)) == AksSettings(
        subscription="s", resource_group="g", cluster="c", location="l", subnet="/subscriptions/s/x",
        endpoint="https://arm.example",
    )  # fmt: skip


def test_a_value_that_is_taken_back_leaves_the_controllers_default() -> None:
    data = settings(drawn("--set", "tuning.attempts=null", "--set", "ray.head=null"))
    assert "KAIRAY_ATTEMPTS" not in data
    assert read_settings(data) == Settings()


def test_other_settings_roll_the_pods() -> None:
    def mark(*arguments: str) -> str:
        template = named(drawn(*arguments))["Deployment", NAME]["spec"]["template"]
        return str(template["metadata"]["annotations"]["kairay.dev/settings"])

    assert mark() == mark("--set", "replicas=1") != mark("--set", "tuning.attempts=2")


def test_the_operators_prices_are_mounted_and_other_ones_roll_the_pods(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"

    def release(text: str) -> dict[tuple[str, str], Manifest]:
        file.write_text(text)
        return named(drawn("--set-file", f"prices={file}"))

    text = "name,usd_per_hour,price_region\nStandard_NC24ads_A100_v4,2.0,westeurope\n"
    first, other = release(text), release(text.replace("2.0", "2.5"))
    assert first["ConfigMap", PRICES_MAP]["data"] == {MOUNTED.name: text}
    assert read_settings(settings(list(first.values()))) == Settings(prices=Path(MOUNTED))
    marks = [
        each["Deployment", NAME]["spec"]["template"]["metadata"]["annotations"]["kairay.dev/settings"]
        for each in (named(drawn()), first, other)
    ]
    assert len(set(marks)) == 3


def test_the_pod_is_the_operators_to_place() -> None:
    digest = f"sha256:{'0' * 64}"
    found = named(drawn(
        "--set", "image.repository=r.example/controller", "--set", f"image.digest={digest}",
        "--set", "image.pullSecrets={pull}", "--set", "nodeSelector.pool=system",
        "--set", "tolerations[0].operator=Exists", "--set", "priorityClassName=high", "--set", "replicas=1",
        "--set-string", r"podAnnotations.prometheus\.io/scrape=true",
        "--set-string", r"podLabels.azure\.workload\.identity/use=true", "--set", "env.AZURE_CLIENT_ID=1-2",
        "--set-json", 'affinity={"nodeAffinity": {}}',
        "--set-string", r"serviceAccount.annotations.azure\.workload\.identity/client-id=1",
    ))  # fmt: skip
    deployment = found["Deployment", NAME]["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["replicas"] == 1
    assert pod["containers"][0]["image"] == f"r.example/controller@{digest}"
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "system"}, [{"operator": "Exists"}])
    assert (pod["priorityClassName"], pod["affinity"]) == ("high", {"nodeAffinity": {}})
    assert deployment["template"]["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
    assert deployment["template"]["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert {"name": "AZURE_CLIENT_ID", "value": "1-2"} in pod["containers"][0]["env"]
    annotations = found["ServiceAccount", NAME]["metadata"]["annotations"]
    assert annotations == {"azure.workload.identity/client-id": "1"}


def test_the_controllers_own_logins_are_in_secrets_that_may_be_named() -> None:
    found = named(drawn("--set", "models.hubTokenSecret=hub", "--set", "models.registrySecret=acr"))
    pod = found["Deployment", NAME]["spec"]["template"]["spec"]
    tokens = [each["valueFrom"] for each in pod["containers"][0]["env"] if each["name"] == "HF_TOKEN"]
    assert tokens == [{"secretKeyRef": {"name": "hub", "key": "HF_TOKEN", "optional": True}}]
    assert pod["volumes"][0] == {"name": "registry", "secret": {"secretName": "acr", "optional": True}}


def test_another_namespace_is_meant_everywhere() -> None:
    found = drawn(namespace="ml")
    text = yaml.safe_dump_all(each for each in found if each["kind"] != "CustomResourceDefinition")
    assert "kairay-system" not in text
    bindings = [each for each in found if each["kind"] == "ValidatingAdmissionPolicyBinding"]
    references = [each["spec"]["paramRef"]["namespace"] for each in bindings if "paramRef" in each["spec"]]
    assert references == ["ml"] * 3


def test_one_namespace_to_watch_gives_roles_and_only_nodes_and_kaitos_webhook_cluster_wide() -> None:
    everywhere, found = named(drawn()), named(drawn("--set", "watchNamespaces={team}"))
    assert ("ClusterRole", NAME) not in found
    assert ("ClusterRoleBinding", NAME) not in found
    role, binding = found["Role", "kairay-workspaces"], found["RoleBinding", "kairay-workspaces"]
    assert role["rules"] == everywhere["ClusterRole", NAME]["rules"]
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "team"
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kairay-workspaces",
    }  # fmt: skip
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]
    wide = [
        rule["resources"] for key, each in found.items() if key[0] == "ClusterRole" for rule in each["rules"]
    ]
    assert wide == [["nodes"], ["validatingwebhookconfigurations"]]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("ray.imag=r.example/ray:1", "imag"),
        ("tunning.attempts=1", "tunning"),
        ("replicas=many", "replicas"),
        ("ray.head=lots", "head"),
        ("ray.runStorage=lots", "runStorage"),
        ("image.digest=latest", "digest"),
        ("watchNamespaces={one,two}", "watchNamespaces"),
        ("nodes.provider=gke", "provider"),
        ("prices=prices.csv", "prices"),
        ("nodes.provider=aks", "subscription"),
        ("models.endpoint=hub.example", "endpoint"),
        ("models.registries={https://mine.azurecr.io}", "registries"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: str, told: str) -> None:
    done = helm("template", "kairay", str(CHART), "--kube-version", "1.34.0", "--set", wrong)
    assert done.returncode != 0
    assert told in done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[BareApiServer]:
    """An API server with KubeRay's kinds and nothing of ours."""
    try:
        with bare_api_server() as found:
            found.install_kuberay_crds()
            found.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
            yield found
    except NotBuiltError as error:
        pytest.skip(str(error))


def test_it_is_not_installed_beside_a_live_kaito(server: BareApiServer) -> None:
    path = (
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/validation.workspace.kaito.sh"
    )
    server.api.apply({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "validation.workspace.kaito.sh"}, "webhooks": [],
    })  # fmt: skip
    place = (f"--kubeconfig={server.kubeconfig}", "--namespace", NAMESPACE, "--create-namespace")
    done = helm("install", "kairay", str(CHART), *place)
    server.api.delete(path)
    assert done.returncode != 0
    assert "kubectl delete validatingwebhookconfiguration validation.workspace.kaito.sh" in done.stderr


def test_it_installs_upgrades_to_fewer_rights_works_with_them_and_leaves_the_crd(
    server: BareApiServer, tmp_path: Path
) -> None:
    def release(*arguments: str) -> str:
        done = helm(*arguments, f"--kubeconfig={server.kubeconfig}", "--namespace", NAMESPACE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = release("install", "kairay", str(CHART), "--create-namespace")
    assert "helm show crds" in told
    server.wait_for_crds()
    assert server.api.find(f"{RIGHTS}/clusterroles/{NAME}")
    assert server.api.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}")
    assert server.api.find("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/kairay-presets")

    release("upgrade", "kairay", str(CHART), "--set", "watchNamespaces={team}")
    assert server.api.find(f"{RIGHTS}/clusterroles/{NAME}") is None
    assert server.api.find(f"{RIGHTS}/namespaces/team/roles/kairay-workspaces")
    with controller(server, tmp_path, KAIRAY_NAMESPACES="team"):
        server.api.apply(workspace(), "team")
        path = RAY_SERVICE.path("team", "chat")
        eventually("the Workspace is served", lambda: server.api.find(path))

    release("uninstall", "kairay")
    assert server.api.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}") is None
    assert server.api.find("/apis/kaito.sh/v1beta1/namespaces/team/workspaces/chat")


def workspace() -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "chat"},
        "resource": {"labelSelector": {"matchLabels": {"app": "gpu"}}},
        "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
    }  # fmt: skip
