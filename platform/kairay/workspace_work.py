"""`inference` and `tuning`: what a Workspace does with its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from kairay.presets import TuningMethod
from kairay.workspace_fields import Count, Flag, Image, Number, ObjectName, Problem, Whole, Written, dig
from kairay.workspace_messages import describe_value, problem
from kairay.workspace_sources import AdapterSource, DataDestination, DataSource
from kairay.workspace_template import template_problems

Method = TuningMethod

MOST_ADAPTERS = 10


class AccessMode(StrEnum):
    """Deprecated in KAITO: whether the model's image may be pulled by anyone."""

    PUBLIC = "public"
    PRIVATE = "private"


def _method(value: object) -> object:
    """KAITO takes QLoRA for qlora."""
    return value.lower() if isinstance(value, str) and value.lower() in set(Method) else value


def _strength(value: object) -> float:
    if not isinstance(value, str):
        raise problem(f"give a number from 0 to 1 in quotes, found {describe_value(value)}")
    try:
        strength = float(value)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 1:
        raise problem(f"give a number from 0 to 1, found {describe_value(value)}")
    return strength


Strength = Annotated[
    float,
    PlainValidator(_strength),
    PlainSerializer(lambda strength: format(strength, "g"), return_type=str),
    WithJsonSchema({"type": "string"}),
]


class PresetOptions(Written):
    """How to get at the weights."""

    image: Image | None = Field(None, description="an image that holds the weights (deprecated in KAITO)")
    image_pull_secrets: tuple[ObjectName, ...] = Field((), description="secrets to pull that image with")
    model_access_secret: ObjectName | None = Field(None, description="the secret with the key HF_TOKEN")


class PresetRef(Written):
    """A model of the catalogue, by name, alias or hub id, or any other that can be looked up."""

    name: str = Field(
        description="a model, such as name: phi-3-mini-128k-instruct; `kairay presets` lists them"
    )
    access_mode: AccessMode = Field(AccessMode.PUBLIC, description="public or private (deprecated in KAITO)")
    options: PresetOptions = Field(
        default_factory=lambda: PresetOptions.model_validate({}),
        alias="presetOptions",
        description="how to get at the weights",
    )


class Adapter(Written):
    """A LoRA adapter to serve beside the base model."""

    source: AdapterSource = Field(description="where the adapter is: a name, and image or volumeSource")
    strength: Strength | None = Field(None, description="a factor from 0 to 1, in quotes")


class Scaling(Written):
    """Ray Serve's autoscaling; None is derived by the plan."""

    min_replicas: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="replicas kept; 0 scales to zero"
    )
    max_replicas: Count | None = Field(None, description="replicas at most")
    target_ongoing_requests: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="requests per replica at which another one starts"
    )
    idle_seconds: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="seconds without a request before replicas go"
    )

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """The bounds in their order."""
        low, high = written.get("minReplicas"), written.get("maxReplicas")
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield ("maxReplicas",), f"give minReplicas ({low}) or more, found {high}"


class InferenceSpec(Written):
    """Serve a preset, or run a pod template as it stands."""

    one_of: ClassVar[tuple[str, ...]] = ("preset", "template")

    preset: PresetRef | None = Field(None, description="a model of the catalogue")
    template: dict[str, Any] | None = Field(None, description="a pod template")
    config: ObjectName | None = Field(None, description="a ConfigMap with the key inference_config.yaml")
    adapters: tuple[Adapter, ...] = Field((), max_length=MOST_ADAPTERS, description="a list of adapters")
    scaling: Scaling | None = Field(None, description="bounds and targets of autoscaling")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """Adapters have names of their own, and of a pod template what is read has its kind."""
        for place, fault in template_problems(written.get("template")):
            yield ("template", *place), fault
        adapters = written.get("adapters")
        seen: set[str] = set()
        for index, adapter in enumerate(adapters if isinstance(adapters, list) else ()):
            name = dig(adapter, "source", "name")
            if isinstance(name, str) and name in seen:
                yield (
                    ("adapters", index, "source", "name"),
                    f"another adapter is called {name}; give each its own name",
                )
            seen.add(str(name))


class TuningSpec(Written):
    """Tune a preset on data; the adapter goes to `output`, then is served unless `serve` is false."""

    preset: PresetRef = Field(
        description="the model to tune, such as preset: {name: phi-3-mini-128k-instruct}"
    )
    method: Annotated[Method, BeforeValidator(_method)] = Field(description="lora or qlora")
    config: ObjectName | None = Field(None, description="a ConfigMap with the key training_config.yaml")
    input: DataSource = Field(description="the data: urls, volumeSource or image")
    output: DataDestination = Field(description="where the adapter goes: image or volumeSource")
    serve: Flag = Field(True, description="false to stop at the adapter")
    workers: Count | None = Field(None, description="Ray Train workers; by default what the model needs")
