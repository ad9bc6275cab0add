"""The controller's own plan of a Workspace, made here from what was seen of its cluster."""

from __future__ import annotations

import os

from kairay.cluster.checks_prices import skus_for_plan
from kairay.cluster.findings import Unseen
from kairay.cluster.observed import Observed
from kairay.controller.blueprint import Blueprint, draw_blueprint
from kairay.controller.models import look_up_model
from kairay.controller.settings import Settings
from kairay.nodes.existing import NodeView, view_node
from kairay.plan_config import read_config
from kairay.workspace import Workspace


def nodes_seen(seen: Observed) -> tuple[NodeView, ...]:
    """None where they could not be seen."""
    return () if isinstance(seen.nodes, Unseen) else tuple(view_node(each) for each in seen.nodes)


def draw_as_controller(
    workspace: Workspace, seen: Observed, settings: Settings, config_text: str | None = None
) -> Blueprint:
    """Of a Workspace with a preset: its model is looked up where the controller asks, with the logins of this machine.

    The error tree says why there is none. `config_text` is of the Workspace's own config.
    """
    work = workspace.tuning or workspace.inference
    assert work is not None
    assert work.preset is not None, "its own container needs no plan"
    return draw_blueprint(
        workspace,
        look_up_model(work.preset.name, settings.models, os.environ),
        nodes=nodes_seen(seen),
        skus=skus_for_plan(seen),
        settings=settings,
        today=seen.now.date(),
        wishes=read_config(workspace, config_text),
    )
