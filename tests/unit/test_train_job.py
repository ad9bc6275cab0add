"""What a tuning job is told: its configuration file and its entry in the Jobs API."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from kairay.config_maps import training_sections
from kairay.errors import InputError
from kairay.plan import Plan
from kairay.ray.target import CLUSTER, LOCAL, JobPlaces
from kairay.ray.train_job import entrypoint, job_id, job_request, tune_config
from kairay.workspace import parse_documents
from planning import plan_on_laptop

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TUNING = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: my-tuning}
resource: {labelSelector: {matchLabels: {app: my-tuning}}}
tuning:
  preset: {name: smollm2-135m-instruct}
  method: qlora
  input: {urls: ["https://example.com/train.jsonl"]}
  output: {volumeSource: {hostPath: {path: ./out}}}
"""
PLACES = JobPlaces(
    config="/state/jobs/my-tuning-0a1b2c.json",
    data=("https://example.com/train.jsonl",),
    output="oci:/data/out:my-tuning",
    storage="/state/runs/my-tuning-0a1b2c",
)


def fixed_plan(text: str = TUNING) -> Plan:
    plan = plan_on_laptop(parse_documents(text, "test.yaml").workspaces[0])
    assert plan.tuning is not None
    # Written out, so that golden files hold still when the planner or a preset changes.
    fixed = replace(plan.tuning, cpus_per_worker=2, sequence_length=512, micro_batch=1, accumulation=1)
    return replace(plan, tuning=fixed)


def test_the_command_line_is_the_one_that_a_person_would_type() -> None:
    assert entrypoint("/tmp/a.json") == "python -m kairay_train.qlora --config /tmp/a.json"
    assert shlex.split(entrypoint("/tmp/my folder/a.json"))[-1] == "/tmp/my folder/a.json"


def test_the_local_configuration_is_stable_to_the_byte() -> None:
    config = tune_config(fixed_plan(), LOCAL, PLACES, revision="0a1b2c", parameters={})
    assert_golden("tune-config-local.json", config)


def test_the_local_job_is_stable_to_the_byte() -> None:
    assert_golden("tuning-job-local.json", job_request(fixed_plan(), PLACES, revision="0a1b2c", attempt=1))


def test_local_and_cluster_differ_in_their_target_only() -> None:
    local = tune_config(fixed_plan(), LOCAL, PLACES, revision="0a1b2c", parameters={})
    cluster = tune_config(fixed_plan(), CLUSTER, PLACES, revision="0a1b2c", parameters={})
    differing = {key for key in local if local[key] != cluster[key]}
    assert differing == {"gpuWaitSeconds", "maxFailures", "tunerResource"}
    assert local.keys() == cluster.keys()


def test_the_job_accepts_what_it_is_told() -> None:
    from kairay_train.config import TuneConfig

    parameters = {"TrainingArguments": {"num_train_epochs": 2}}
    config = tune_config(fixed_plan(), LOCAL, PLACES, revision="0a1b2c", parameters=parameters)
    read = TuneConfig.model_validate_json(json.dumps(config))
    assert (read.workspace, read.revision, read.data) == ("my-tuning", "0a1b2c", PLACES.data)


def test_several_gpus_share_the_optimiser_state() -> None:
    plan = fixed_plan()
    assert plan.tuning is not None
    two = replace(plan, tuning=replace(plan.tuning, workers=2, gpus_per_worker=1))
    assert tune_config(two, CLUSTER, PLACES, revision="0a1b2c", parameters={})["deepspeed"] == "zero2"
    assert tune_config(plan, LOCAL, PLACES, revision="0a1b2c", parameters={})["deepspeed"] is None


def test_another_attempt_is_another_job_and_a_long_name_is_cut() -> None:
    assert job_id("demo", "0a1b2c", 1) == "kairay-demo-0a1b2c-1"
    assert job_id("demo", "0a1b2c", 2) != job_id("demo", "0a1b2c", 1)
    assert len(job_id("x" * 300, "0a1b2c", 12)) <= 120


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("training_config: [1", "not YAML"),
        ("TrainingArguments: {}", "give a mapping training_config"),
        ("training_config: 7", "give a mapping training_config"),
        ("", "give a mapping training_config"),
    ],
)
def test_a_config_that_is_not_one_is_named(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=f"ConfigMap mine.*: {fault}"):
        training_sections(text, "ConfigMap mine")


def test_sections_are_handed_on_as_written() -> None:
    text = "training_config:\n  LoraConfig: {r: 8}\n"
    assert training_sections(text, "ConfigMap mine") == {"LoraConfig": {"r": 8}}


def assert_golden(name: str, value: object) -> None:
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    assert text == (GOLDEN / name).read_text("utf-8"), (
        f"tests/golden/{name} differs; if that is meant, write it anew"
    )
