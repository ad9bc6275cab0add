"""A user's own config, the Workspace that names it, and what the plan and the job read of it."""

from __future__ import annotations

import json
from datetime import date

import yaml

from kairay.config_maps import training_sections
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_config import read_config
from kairay.plan_config import read_tuning as read_written
from kairay.plan_wishes import TuningWishes
from kairay.presets import TuningMethod, find_preset
from kairay.skus import MachineProbe, load_skus, local_machine
from kairay.workspace import Workspace, parse_documents
from kairay_train.config import TuneConfig
from kairay_train.settings import Settings, resolve

SOURCE = "ConfigMap mine"
PRESET = "llama-3.1-8b-instruct"
TODAY = date(2026, 11, 25)
HEADER = """apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: w}
resource: {labelSelector: {matchLabels: {a: b}}}
"""


def training(**sections: object) -> str:
    return yaml.safe_dump({"training_config": sections}, sort_keys=False)


def arguments(**keys: object) -> str:
    return training(TrainingArguments=keys)


def vllm(**keys: object) -> str:
    return yaml.safe_dump({"vllm": {name.replace("_", "-"): value for name, value in keys.items()}})


def workspace(work: str) -> Workspace:
    (found,) = parse_documents(HEADER + work, "w.yaml").workspaces
    return found


def tuning(method: str = "qlora") -> Workspace:
    return workspace(
        f"tuning: {{preset: {{name: {PRESET}}}, method: {method}, config: mine,"
        " input: {urls: ['https://example.com/a.jsonl']},"
        " output: {image: 'registry.example/a:1', imagePushSecret: push}}\n"
    )


def inference() -> Workspace:
    return workspace(f"inference: {{preset: {{name: {PRESET}}}, config: mine}}\n")


def read_tuning(content: str, source: str) -> TuningWishes:
    return read_written(content, source, TuningMethod.QLORA)


def planned(work: Workspace, text: str, *, target: PlanTarget = PlanTarget.CLUSTER) -> Plan:
    machine = local_machine(MachineProbe(cores=32, ram_bytes=2**41, available_bytes=2**41, bf16=True))
    return make_plan(
        work, find_preset(PRESET), skus=load_skus(), machine=machine, target=target, now=TODAY,
        wishes=read_config(work, text),
    )  # fmt: skip


def job_settings(text: str, method: str) -> Settings:
    told = {
        "run": "r", "workspace": "w", "preset": PRESET, "method": method, "data": ["/d"], "output": "oci:/o:t",
        "storage": "/s", "parameters": training_sections(text, SOURCE),
    }  # fmt: skip
    return resolve(TuneConfig.model_validate_json(json.dumps(told)), find_preset(PRESET))
