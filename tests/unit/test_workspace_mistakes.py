from __future__ import annotations

from typing import Any

import pytest

from kairay.errors import InputError
from workspace_documents import GONE, INFERENCE, TUNING, changed, parse


def faults(document: dict[str, Any]) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse(document)
    head, *lines = caught.value.message.splitlines()
    assert head == "w.yaml (document 1):"
    return lines


REFUSED = [
    (TUNING, {"tuning.method": GONE, "tuning.metod": "qlora"},
     "tuning.metod: unknown field; did you mean method?"),
    (TUNING, {"tuning.method": "qlorra"}, "tuning.method: give lora or qlora, found qlorra"),
    (TUNING, {"tuning.method": GONE}, "tuning.method: required; give lora or qlora"),
    (TUNING, {"tuning.output": {}},
     "tuning.output: give exactly one of image or volumeSource, found neither"),
    (TUNING, {"tuning.output.volumeSource": {"hostPath": {"path": "/x"}}},
     "tuning.output: give exactly one of image or volumeSource, found both"),
    (TUNING, {"tuning.output.imagePushSecret": GONE},
     "tuning.output.imagePushSecret: required with image; name the registry secret that may push to it"),
    (TUNING, {"tuning.output.image": "r.io/A:1"},
     "tuning.output.image: image repositories are lower case; write a instead of A"),
    (TUNING, {"tuning.output.image": 1}, "tuning.output.image: give an image, found 1"),
    (TUNING, {"tuning.input": {"name": "d"}},
     "tuning.input: give exactly one of urls, volumeSource or image, found none of them"),
    (TUNING, {"tuning.input.image": "r.io/d"},
     "tuning.input: give exactly one of urls, volumeSource or image, found urls and image"),
    (TUNING, {"tuning.input.urls": "https://example.com"}, "tuning.input.urls: give a list, found"),
    (TUNING, {"tuning.input.urls": ["https://e.com", 3]},
     "tuning.input.urls[1]: give an http(s) address, found 3"),
    (TUNING, {"tuning.input.urls": ["http://169.254.169.254/x"]},
     "tuning.input.urls[0]: 169.254.169.254 is a metadata service;"),
    (TUNING, {"tuning.input": {"volumeSource": {"hostpath": {"path": "/d"}}}},
     "tuning.input.volumeSource.hostpath: unknown field; did you mean hostPath?"),
    (TUNING, {"tuning.input": {"volumeSource": {}}},
     "tuning.input.volumeSource: give exactly one of hostPath,"),
    (TUNING, {"tuning.input": {"volumeSource": {"nfs": {}, "emptyDir": {}}}},
     "tuning.input.volumeSource: give exactly one of hostPath, persistentVolumeClaim or another volume,"),
    (TUNING, {"tuning.input": {"volumeSource": {"nfs": "x"}}},
     "tuning.input.volumeSource.nfs: give a mapping of its settings, found x"),
    (TUNING, {"tuning.input": {"volumeSource": {"hostPath": {}}}},
     "tuning.input.volumeSource.hostPath.path: required; give a folder"),
    (TUNING, {"tuning.input": {"volumeSource": {"hostPath": {"path": "/x", "type": "Dir"}}}},
     "tuning.input.volumeSource.hostPath.type: give DirectoryOrCreate, Directory,"),
    (TUNING, {"tuning.input": {"volumeSource": {"persistentVolumeClaim": {"claim": "x"}}}},
     "tuning.input.volumeSource.persistentVolumeClaim.claim: unknown field; did you mean claimName?"),
    (TUNING, {"tuning.input": {"volume": {}}},
     "tuning.input.volume: unknown field; did you mean volumeSource?"),
    (TUNING, {"tuning.preset": GONE}, "tuning.preset: required; give the model to tune"),
    (TUNING, {"tuning.preset": "phi"}, "tuning.preset: give a mapping of fields, found phi"),
    (TUNING, {"tuning.preset.name": 3}, "tuning.preset.name: give a text, found 3; put it in quotes"),
    (TUNING, {"tuning.workers": 0}, "tuning.workers: give 1 or more, found 0"),
    (TUNING, {"tuning.workers": "2"}, "tuning.workers: give a whole number, found 2"),
    (TUNING, {"tuning.workers": 1.5}, "tuning.workers: give a whole number, found 1.5"),
    (TUNING, {"tuning.serve": "yes"}, "tuning.serve: give true or false, found yes"),
    (TUNING, {"tuning.config": "My_Config"},
     "tuning.config: give a name of lower-case letters, digits, - and ."),
    (TUNING, {"tuning": GONE}, "Workspace: give exactly one of inference or tuning, found neither"),
    (TUNING, {"inference": INFERENCE["inference"]},
     "Workspace: give exactly one of inference or tuning, found both"),
    (TUNING, {"tuning": GONE, "tunning": {}}, "tunning: unknown field; did you mean tuning?"),
    (TUNING, {"spec": {}},
     "spec: unknown field; known here: apiVersion, inference, kind, metadata, resource, tuning"),
    (TUNING, {"resource.partition": {"mode": "accelerator", "count": 1}},
     "resource.partition: leave it out; it is for serving, not for tuning"),
    (TUNING, {"apiVersion": "kaito.sh/v1"},
     "apiVersion: give kaito.sh/v1beta1 or kaito.sh/v1alpha1, found kaito.sh/v1"),
    (TUNING, {"apiVersion": GONE}, "apiVersion: required; give kaito.sh/v1beta1"),
    (TUNING, {"kind": "workspace"}, "kind: give Workspace, found workspace"),
    (TUNING, {"kind": GONE}, "kind: required; give Workspace"),
    (TUNING, {"metadata": GONE}, "metadata: required; give metadata: {name: my-model}"),
    (TUNING, {"metadata.name": "My_Model"},
     "metadata.name: give lower-case letters, digits and -, at most 63"),
    (TUNING, {"metadata.name": "3-model"},
     "metadata.name: give lower-case letters, digits and -, at most 63"),
    (TUNING, {"metadata.name": "m" * 64}, "metadata.name: give lower-case letters, digits and -, at most 63"),
    (TUNING, {"metadata.labels": {"a b": "c"}}, "metadata.labels[a b]: give a label's key"),
    (TUNING, {"metadata.labels": {"a": "b c"}}, "metadata.labels.a: give a label's value"),
    (TUNING, {"metadata.annotations": {"kaito.sh/performance-mode": "fast"}},
     "metadata.annotations[kaito.sh/performance-mode]: give balanced, interactivity or throughput,"),
    (TUNING, {"metadata.annotations": {"kaito.sh/node-image-family": "windows"}},
     "metadata.annotations[kaito.sh/node-image-family]: give azurelinux or ubuntu, found windows"),
    (TUNING, {"metadata.annotations": {"kaito.sh/use-local-weights": True}},
     "metadata.annotations[kaito.sh/use-local-weights]: give a text, found true; put it in quotes"),
    (TUNING, {"resource": GONE}, "resource: required; give"),
    (TUNING, {"resource": {}}, "resource.labelSelector: required; give"),
    (TUNING, {"resource.count": 0}, "resource.count: give 1 or more, found 0"),
    (TUNING, {"resource.count": True}, "resource.count: give a whole number, found true"),
    (TUNING, {"resource.maxHourlyCostUSD": -1}, "resource.maxHourlyCostUSD: give a number above 0, found -1"),
    (TUNING, {"resource.maxHourlyCostUSD": "5"}, "resource.maxHourlyCostUSD: give a number, found 5"),
    (TUNING, {"resource.maxhourlycost": 1},
     "resource.maxhourlycost: unknown field; did you mean maxHourlyCostUSD?"),
    (TUNING, {"resource.labelSelector": {}}, "resource.labelSelector: give at least one label of your own"),
    (TUNING, {"resource.labelSelector": {"matchLabels": {"kaito.sh/workspace": "m"}}},
     "resource.labelSelector: give at least one label of your own"),
    (TUNING, {"resource.labelSelector.matchExpressions": [{"key": "a", "operator": "No", "values": ["b"]}]},
     "resource.labelSelector.matchExpressions[0].operator: give In, found No"),
    (TUNING, {"resource.labelSelector.matchExpressions": [{"key": "a", "operator": "In", "values": []}]},
     "resource.labelSelector.matchExpressions[0].values: required; give a list of one value or more"),
    (INFERENCE, {"resource.partition": {"mode": "mig"}},
     "resource.partition.profile: give a MIG profile such as 1g.10gb, found nothing"),
    (INFERENCE, {"resource.partition": {"mode": "mig", "profile": "big"}},
     "resource.partition.profile: give a MIG profile such as 1g.10gb, found big"),
    (INFERENCE, {"resource.partition": {"mode": "mig", "profile": "1g.10gb", "count": 2}},
     "resource.partition.count: leave it out with mode mig"),
    (INFERENCE, {"resource.partition": {"mode": "accelerator"}},
     "resource.partition.count: give the number of GPUs of each node to use, 1 or more"),
    (INFERENCE, {"resource.partition": {"mode": "accelerator", "count": 1, "profile": "1g.10gb"}},
     "resource.partition.profile: leave it out with mode accelerator; it belongs to mode mig"),
    (INFERENCE, {"resource.partition": {"mode": "half"}},
     "resource.partition.mode: give mig or accelerator, found half"),
    (INFERENCE, {"inference": {}}, "inference: give exactly one of preset or template, found neither"),
    (INFERENCE, {"inference.template": {"spec": {}}},
     "inference: give exactly one of preset or template, found both"),
    (INFERENCE, {"inference": {"template": "x"}}, "inference.template: give a mapping, found x"),
    (INFERENCE, {"inference": {"template": {"spec": "x"}}}, "inference.template.spec: give a mapping, found x"),
    (INFERENCE, {"inference": {"template": {"metadata": {"labels": ["a"]}}}},
     "inference.template.metadata.labels: give a mapping, found a list"),
    (INFERENCE, {"inference": {"template": {"spec": {"containers": {"name": "c"}}}}},
     "inference.template.spec.containers: give a list, found a mapping of name"),
    (INFERENCE, {"inference": {"template": {"spec": {"containers": [None]}}}},
     "inference.template.spec.containers[0]: give a mapping, found nothing"),
    (INFERENCE, {"inference": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"port": 80}]}]}}}},
     "inference.template.spec.containers[0].ports[0].containerPort: give a port from 1 to 65535, found nothing"),
    (INFERENCE, {"inference.preset.accessMode": "open"},
     "inference.preset.accessMode: give public or private, found open"),
    (INFERENCE, {"inference.adapters": [{"source": {"name": f"a{i}", "image": "r.io/a"}} for i in range(11)]},
     "inference.adapters: give at most 10 of them, found 11"),
    (INFERENCE, {"inference.adapters": [{"source": {"name": "a", "image": "r.io/a"}}] * 2},
     "inference.adapters[1].source.name: another adapter is called a; give each its own name"),
    (INFERENCE, {"inference.adapters": [{"source": {"name": "a"}}]},
     "inference.adapters[0].source: give exactly one of image or volumeSource, found neither"),
    (INFERENCE, {"inference.adapters": [{"source": {"image": "r.io/a"}}]},
     "inference.adapters[0].source.name: required; give the adapter's name"),
    (INFERENCE,
     {"inference.adapters": [{"source": {"name": "a", "image": "r.io/a", "urls": ["https://e.com"]}}]},
     "inference.adapters[0].source.urls: leave it out; an adapter comes from image or volumeSource"),
    (INFERENCE, {"inference.adapters": [{"strength": "1"}]}, "inference.adapters[0].source: required; give"),
    (INFERENCE, {"inference.adapters": [{"source": {"name": "a", "image": "r.io/a"}, "strength": "1.5"}]},
     "inference.adapters[0].strength: give a number from 0 to 1, found 1.5"),
    (INFERENCE, {"inference.adapters": [{"source": {"name": "a", "image": "r.io/a"}, "strength": "nan"}]},
     "inference.adapters[0].strength: give a number from 0 to 1, found nan"),
    (INFERENCE, {"inference.adapters": [{"source": {"name": "a", "image": "r.io/a"}, "strength": 0.5}]},
     "inference.adapters[0].strength: give a number from 0 to 1 in quotes, found 0.5"),
    (INFERENCE, {"metadata.annotations": {"kaito.sh/runtime": "vllm"},
                 "inference.adapters": [{"source": {"name": "a", "image": "r.io/a"}, "strength": "0.5"}]},
     "inference.adapters[0].strength: leave it out; vLLM has none"),
    (INFERENCE, {"inference.scaling": {"minReplicas": -1}},
     "inference.scaling.minReplicas: give 0 or more, found -1"),
    (INFERENCE, {"inference.scaling": {"minReplicas": 2, "maxReplicas": 1}},
     "inference.scaling.maxReplicas: give minReplicas (2) or more, found 1"),
    (INFERENCE, {"inference.scaling": {"targetOngoingRequests": 0}},
     "inference.scaling.targetOngoingRequests: give a number above 0, found 0"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "changes", "line"), REFUSED, ids=[line[:60] for _, _, line in REFUSED])
def test_a_mistake_is_one_line_with_path_value_and_remedy(
    base: dict[str, Any], changes: dict[str, Any], line: str
) -> None:
    lines = faults(changed(base, changes))
    assert len(lines) == 1, lines
    assert lines[0].startswith(line)


def test_all_mistakes_of_a_document_are_told_at_once() -> None:
    lines = faults(
        changed(
            TUNING,
            {
                "metadata.name": "A",
                "resource.count": "x",
                "tuning.method": "full",
                "tuning.output.imagePushSecret": GONE,
                "tuning.input.urls": ["ftp://e.com", "http://localhost"],
                "inference": {},
            },
        )
    )
    assert {line.partition(": ")[0] for line in lines} == {
        "Workspace", "inference", "metadata.name", "resource.count", "tuning.method",
        "tuning.output.imagePushSecret", "tuning.input.urls[0]", "tuning.input.urls[1]",
    }  # fmt: skip


def test_a_message_holds_no_whole_value_however_long() -> None:
    (line,) = faults(changed(TUNING, {"tuning.method": "x" * 10_000}))
    assert len(line) < 200


def test_braces_in_a_value_are_only_text() -> None:
    (line,) = faults(changed(TUNING, {"tuning.method": "{message} {0}"}))
    assert "{message}" in line
