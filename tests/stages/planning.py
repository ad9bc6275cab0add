"""Workspaces by preset, and their plans."""

from __future__ import annotations

from datetime import date

from kairay.memory import Dtype
from kairay.plan import Candidate, Plan, PlanTarget, make_plan
from kairay.plan_wishes import Wishes
from kairay.presets import Preset, find_preset
from kairay.skus import Device, MachineProbe, Sku, load_skus, local_machine
from kairay.workspace import Workspace, parse_documents

TODAY = date(2026, 11, 24)
GIB = 2**30
RETIRED = "Standard_NC6s_v3"
"""Since 2025-09-30."""
HEADER = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: {name}
resource:
  labelSelector: {{matchLabels: {{app: test}}}}{resource}
"""


def tuning(
    preset: str, *, instance: str | None = None, method: str = "qlora", extra: str = "", resource: str = ""
) -> Workspace:
    body = f"""tuning:
  preset: {{name: {preset}}}
  method: {method}
  input: {{urls: ["https://example.com/data.jsonl"]}}
  output: {{image: "registry.example.com/adapters/test:1", imagePushSecret: push}}{extra}
"""
    return only(header("tune-it", instance, resource) + body)


def inference(
    preset: str, *, instance: str | None = None, extra: str = "", resource: str = "", options: str = ""
) -> Workspace:
    body = f"inference:\n  preset:\n    name: {preset}{options}{extra}\n"
    return only(header("serve-it", instance, resource) + body)


def header(name: str, instance: str | None, resource: str) -> str:
    size = "" if instance is None else f"\n  instanceType: {instance}"
    return HEADER.format(name=name, resource=size + resource)


def only(text: str) -> Workspace:
    (workspace,) = parse_documents(text, "test.yaml").workspaces
    return workspace


def planned(
    workspace: Workspace,
    *,
    preset: Preset | None = None,
    skus: dict[str, Sku] | None = None,
    machine: Sku | None = None,
    target: PlanTarget = PlanTarget.CLUSTER,
    now: date = TODAY,
    advise: dict[str, Sku] | None = None,
    wishes: Wishes | None = None,
) -> Plan:
    spec = workspace.tuning or workspace.inference
    assert spec is not None
    if preset is None:
        assert spec.preset is not None
        preset = find_preset(spec.preset.name)
    table = load_skus() if skus is None else skus
    return make_plan(
        workspace, preset, skus=table, machine=machine, target=target, now=now, advise=advise, wishes=wishes
    )


def chosen(plan: Plan) -> Candidate:
    assert plan.chosen is not None, plan.problems
    return plan.chosen


def weighed(plan: Plan, name: str) -> Candidate:
    return next(candidate for candidate in plan.candidates if candidate.sku.name == name)


def shape(plan: Plan) -> tuple[Device, Dtype]:
    assert plan.tuning is not None, plan.problems
    return plan.tuning.device, plan.tuning.dtype


def laptop(gib: int, *, free: int) -> Sku:
    return local_machine(MachineProbe(cores=2, ram_bytes=gib * GIB, available_bytes=free * GIB))


def plan_on_laptop(workspace: Workspace) -> Plan:
    """What golden files are of."""
    return planned(workspace, target=PlanTarget.LOCAL, machine=laptop(16, free=14))
