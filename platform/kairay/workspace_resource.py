"""`resource`: the machines that a Workspace asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from kairay.workspace_fields import Count, Flag, LabelKey, LabelValue, Number, Problem, Written, dig
from kairay.workspace_messages import describe_value

_RESERVED_KEYS = re.compile(r"(?:[a-z0-9.-]+\.)?(?:kaito\.sh|kairay\.dev)/.*")
"""Labels that a controller sets itself; KAITO reads over them in a selector."""
_MIG_PROFILE = re.compile(r"[1-7]g\.[0-9]+gb(?:\+me)?")


class PartitionMode(StrEnum):
    """How a GPU is divided."""

    MIG = "mig"
    ACCELERATOR = "accelerator"


class MatchExpression(Written):
    """One expression of a label selector; only In, as in KAITO."""

    key: LabelKey = Field(description="a label's key")
    operator: Literal["In"] = Field(description="In, the only operator here")
    values: tuple[LabelValue, ...] = Field(description="a list of one value or more")


class LabelSelector(Written):
    """Labels of the nodes to use; reserved keys are read over."""

    match_labels: dict[LabelKey, LabelValue] = Field({}, description="labels by key")
    match_expressions: tuple[MatchExpression, ...] = Field((), description="expressions with operator In")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """At least one label that is not a controller's own."""
        labels, expressions = written.get("matchLabels", {}), written.get("matchExpressions", [])
        if not isinstance(labels, dict) or not isinstance(expressions, list):
            return
        keys = [*labels, *(dig(each, "key") for each in expressions)]
        if all(_RESERVED_KEYS.fullmatch(str(key)) for key in keys):
            yield (), "give at least one label of your own under matchLabels, such as app: my-model"


class Partition(Written):
    """A share of a GPU, or some of a node's GPUs (KAITO: v1beta1)."""

    mode: PartitionMode = Field(description="mig or accelerator")
    profile: str | None = Field(None, description="a MIG profile such as 1g.10gb")
    count: Count | None = Field(None, description="how many GPUs of each node to use, with mode accelerator")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """MIG has a profile and no count; whole accelerators have a count and no profile."""
        if written.get("mode") == PartitionMode.ACCELERATOR:
            if written.get("count") is None:
                yield ("count",), "give the number of GPUs of each node to use, 1 or more"
            if "profile" in written:
                yield ("profile",), "leave it out with mode accelerator; it belongs to mode mig"
        if written.get("mode") != PartitionMode.MIG:
            return
        profile = written.get("profile")
        if profile is None or (isinstance(profile, str) and not _MIG_PROFILE.fullmatch(profile)):
            yield ("profile",), f"give a MIG profile such as 1g.10gb, found {describe_value(profile)}"
        if "count" in written:
            yield ("count",), "leave it out with mode mig; it belongs to mode accelerator"


class ResourceSpec(Written):
    """Machines by size and label; what is not given is derived from the model."""

    count: Count | None = Field(None, description="a number of nodes; by default what the model needs")
    instance_type: str | None = Field(None, description="a machine size such as Standard_NC24ads_A100_v4")
    label_selector: LabelSelector = Field(
        description="the labels of the nodes to use, such as labelSelector: {matchLabels: {app: my-model}}"
    )
    preferred_nodes: tuple[str, ...] = Field((), description="node names; accepted and not used, as in KAITO")
    partition: Partition | None = Field(None, description="a share of a GPU")
    spot: Flag = Field(False, description="true for spot nodes; tuning resumes by itself")
    max_hourly_cost_usd: Annotated[Number, Field(gt=0)] | None = Field(
        None, alias="maxHourlyCostUSD", description="the highest price per hour, in US dollars"
    )
