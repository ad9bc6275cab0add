"""The plans in docs/plan.md are what the planner says of the samples (KAIRAY_WRITE_GOLDEN=1 writes them again)."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path

from kairay.plan import PlanTarget, make_plan
from kairay.plan_config import read_tuning
from kairay.plan_job import TrainingData
from kairay.plan_table import render_plan
from kairay.presets import TuningMethod, find_preset
from kairay.skus import load_skus
from kairay.workspace import load_documents
from planning import planned

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "plan.md"
BLOCK = re.compile(r"(?<=```text\n)\$ kairay plan (examples/plan/\S+\.yaml)([^\n]*)\n.*?(?=```)", re.DOTALL)
DATA = TrainingData(tokens=1_000_000, epochs=3, basis="characters ÷ 4")


def test_the_plans_on_the_page_are_the_planners() -> None:
    written = PAGE.read_text("utf-8")
    drawn = BLOCK.sub(lambda match: block(match[1], match[2]), written)
    if os.environ.get("KAIRAY_WRITE_GOLDEN"):
        PAGE.write_text(drawn, "utf-8")
    assert PAGE.read_text("utf-8") == drawn, "docs/plan.md: KAIRAY_WRITE_GOLDEN=1 writes it again"


def test_every_sample_plan_is_on_the_page() -> None:
    shown = {match[1] for match in BLOCK.finditer(PAGE.read_text("utf-8"))}
    assert shown == {str(path.relative_to(ROOT)) for path in (ROOT / "examples" / "plan").glob("*.yaml")}


def test_what_a_size_loses_by_is_what_the_planner_says_of_the_sample_with_the_settings_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    (settings,) = re.findall(r"^    (training_config: .*)$", page, re.MULTILINE)
    ((size, told),) = re.findall(r"^    (Standard_\S+) +(tuning needs .*)$", page, re.MULTILINE)
    (workspace,) = load_documents(ROOT / "examples/plan/tune-8b.yaml").workspaces
    wishes = read_tuning(settings, "ConfigMap mine", TuningMethod.QLORA)
    reasons = {each.sku.name: each.reason for each in planned(workspace, wishes=wishes).candidates}
    assert reasons[size] == told


def block(file: str, flags: str) -> str:
    (workspace,) = load_documents(ROOT / file).workspaces
    work = workspace.tuning or workspace.inference
    assert work is not None
    assert work.preset is not None
    plan = make_plan(
        workspace, find_preset(work.preset.name), skus=load_skus(), machine=None, target=PlanTarget.CLUSTER,
        now=date(2026, 11, 25), data=DATA if "--data" in flags else None,
    )  # fmt: skip
    return f"$ kairay plan {file}{flags}\n{render_plan(plan, explain='--explain' in flags)}\n"
