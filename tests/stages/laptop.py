"""A laptop without a GPU, and what is planned on it."""

from __future__ import annotations

from datetime import date

from kairay.machine import MachineProbe
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.presets import find_preset
from kairay.skus import load_skus, local_machine
from kairay.workspace import Workspace

LAPTOP = MachineProbe(cores=2, ram_bytes=16 * 2**30, available_bytes=14 * 2**30, bf16=False)


def plan_on_laptop(workspace: Workspace) -> Plan:
    """A Workspace of the small model."""
    return make_plan(
        workspace, find_preset("smollm2-135m-instruct"), skus=load_skus(), machine=local_machine(LAPTOP),
        target=PlanTarget.LOCAL, now=date(2026, 11, 24),
    )  # fmt: skip
