from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kairay.workspace import Method, Workspace, load_documents, parse_documents
from workspace_documents import INFERENCE, TUNING, changed, fault_of_text, parse

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_is_a_tuning_workspace() -> None:
    (workspace,) = load_documents(EXAMPLES / "tuning-phi-3.yaml").workspaces
    assert workspace.metadata.name == "workspace-tuning-phi-3"
    assert workspace.resource.instance_type == "Standard_NC6s_v3"
    assert workspace.inference is None
    tuning = workspace.tuning
    assert tuning is not None
    assert tuning.preset.name == "phi-3-mini-128k-instruct"
    assert tuning.method is Method.QLORA
    assert tuning.serve is True
    assert tuning.workers is None
    assert tuning.input.urls[0].host == "huggingface.co"
    assert str(tuning.output.image) == "contoso.azurecr.io/phi-3-tuned:0.0.1"
    assert tuning.output.image_push_secret == "contoso-push"


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_workspace(path: Path) -> None:
    assert load_documents(path).workspaces


def test_the_example_with_its_names_not_yet_filled_in_says_what_to_write() -> None:
    text = (EXAMPLES / "tuning-phi-3.yaml").read_text("utf-8")
    text = text.replace("contoso.azurecr.io/phi-3-tuned", "ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE")
    message = fault_of_text(text.replace("contoso-push", "ACR_REGISTRY_SECRET_HERE"))
    assert "tuning.output.image: image repositories are lower case" in message
    assert "tuning.output.imagePushSecret: give a name of lower-case letters" in message


EVERY_FIELD = changed(
    INFERENCE,
    {
        "metadata.namespace": "n",
        "metadata.labels": {"a": "b"},
        "metadata.annotations": {"kaito.sh/enablelb": "True"},
        "resource": {
            "count": 2,
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {
                "matchLabels": {"example.com/app": "m"},
                "matchExpressions": [{"key": "zone", "operator": "In", "values": ["1", "2"]}],
            },
            "preferredNodes": ["node-1"],
            "partition": {"mode": "mig", "profile": "1g.10gb"},
            "spot": True,
            "maxHourlyCostUSD": 5,
        },
        "inference": {
            "preset": {
                "name": "org/model",
                "accessMode": "private",
                "presetOptions": {
                    "image": "r.io/m:1",
                    "imagePullSecrets": ["pull"],
                    "modelAccessSecret": "hf",
                },
            },
            "config": "my-config",
            "adapters": [
                {
                    "source": {"name": "a", "image": "r.io/a:1", "imagePullSecrets": ["pull"]},
                    "strength": "0.5",
                },
                {"source": {"name": "b", "volumeSource": {"persistentVolumeClaim": {"claimName": "c"}}}},
            ],
            "scaling": {"minReplicas": 0, "maxReplicas": 3, "targetOngoingRequests": 2.5, "idleSeconds": 60},
        },
    },
)  # fmt: skip


def test_every_field_of_inference_is_read() -> None:
    workspace = parse(EVERY_FIELD)
    resource, inference = workspace.resource, workspace.inference
    assert inference is not None
    assert inference.preset is not None
    assert inference.scaling is not None
    assert (resource.count, resource.spot, resource.max_hourly_cost_usd) == (2, True, 5.0)
    assert resource.partition is not None
    assert resource.partition.profile == "1g.10gb"
    assert resource.label_selector.match_expressions[0].values == ("1", "2")
    assert str(inference.preset.options.image) == "r.io/m:1"
    assert [adapter.strength for adapter in inference.adapters] == [0.5, None]
    claim = inference.adapters[1].source.volume_source
    assert claim is not None
    assert claim.persistent_volume_claim is not None
    assert claim.persistent_volume_claim.claim_name == "c"
    assert (inference.scaling.min_replicas, inference.scaling.target_ongoing_requests) == (0, 2.5)


def test_every_field_of_tuning_is_read() -> None:
    tuning = parse(
        changed(
            TUNING,
            {
                "tuning.config": "c",
                "tuning.serve": False,
                "tuning.workers": 2,
                "tuning.method": "QLoRA",  # KAITO takes any case
                "tuning.input": {
                    "name": "data",
                    "volumeSource": {"hostPath": {"path": "./d", "type": "Directory"}},
                },
                "tuning.output": {"volumeSource": {"hostPath": {"path": "/out"}}},
            },
        )
    ).tuning
    assert tuning is not None
    assert (tuning.config, tuning.serve, tuning.workers, tuning.method) == ("c", False, 2, "qlora")
    volume = tuning.input.volume_source
    assert volume is not None
    assert volume.kind == "hostPath"
    assert volume.host_path is not None
    assert volume.host_path.path == "./d"


@pytest.mark.parametrize("document", [TUNING, INFERENCE, EVERY_FIELD])
def test_what_was_written_comes_back_and_parses_again(document: dict[str, Any]) -> None:
    workspace = parse(document)
    assert parse(workspace.to_dict()) == workspace
    assert json.dumps(workspace.to_dict(), sort_keys=True) == json.dumps(
        changed(document, {}), sort_keys=True
    ).replace('"maxHourlyCostUSD": 5', '"maxHourlyCostUSD": 5.0')


def test_a_volume_that_kairay_does_not_look_into_is_kept_as_written() -> None:
    nfs = {"nfs": {"server": "10.0.0.4", "path": "/d", "readOnly": True}}
    tuning = parse(changed(TUNING, {"tuning.input": {"volumeSource": nfs}})).tuning
    assert tuning is not None
    volume = tuning.input.volume_source
    assert volume is not None
    assert (volume.kind, volume.to_dict()) == ("nfs", nfs)


def test_a_pod_template_is_kept_as_written() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "x", "args": ["--a", 1]}], "volumes": []}}
    workspace = parse(changed(INFERENCE, {"inference": {"template": template}}))
    assert workspace.inference is not None
    assert workspace.inference.template == template


def test_empty_means_not_given_as_in_kubernetes() -> None:
    workspace = parse(
        changed(TUNING, {"inference": None, "tuning.input.image": "", "tuning.input.imagePullSecrets": []})
    )
    assert workspace == parse(TUNING)


def test_an_object_read_back_from_the_api_server_is_taken() -> None:
    live = changed(
        TUNING,
        {"metadata.uid": "1", "metadata.generation": 2, "metadata.managedFields": [{}], "status": {"a": "b"}},
    )
    assert parse(live) == parse(TUNING)


def test_an_operator_may_allow_a_host_of_the_inside() -> None:
    document = json.dumps(changed(TUNING, {"tuning.input.urls": ["http://localhost:8000/a"]}))
    assert parse_documents(document, "w.yaml", allowed_hosts=["localhost"]).workspaces
    assert "localhost is this machine itself" in fault_of_text(document)


def test_the_types_give_a_json_schema() -> None:
    schema = Workspace.model_json_schema()
    assert schema["required"] == ["apiVersion", "kind", "metadata", "resource"]
    assert schema["additionalProperties"] is False
    assert "maxHourlyCostUSD" in schema["$defs"]["ResourceSpec"]["properties"]


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, kairay.workspace; "
        "print({'torch', 'ray', 'requests', 'rich', 'pyarrow', 'email.message'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
