"""What a chat application is told, typed and strict: the `args` of its entry in the Serve config.

The planner decides all of it; nothing here is looked up. Light: no torch, no ray.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.alias_generators import to_camel

Positive = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


class EngineKind(StrEnum):
    """The two engines behind one seam."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


class Device(StrEnum):
    """Where the weights lie."""

    CPU = "cpu"
    CUDA = "cuda"


class Dtype(StrEnum):
    """Type of weights, activations and cache."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class AdapterArgs(_Args):
    """A LoRA adapter, served beside the base model under its own name."""

    name: Name
    source: Annotated[str, Field(min_length=1)]
    """`oci:/dir:tag`, an image reference, or a folder in peft's format."""


class ChatArgs(_Args):
    """One chat application. Sizes are bytes, lengths are tokens."""

    name: Name
    """The Workspace; also the application's name."""
    preset: Name
    model: str | None = None
    """Where the weights are when not where the preset says: a folder or `oci:/dir:tag`."""
    model_name: Name
    """What the base model is called in requests and in /v1/models."""
    adapters: tuple[AdapterArgs, ...] = ()
    default_model: Name
    """Answers requests that name no model; /chat's as well."""
    engine: EngineKind = EngineKind.TRANSFORMERS
    device: Device = Device.CPU
    dtype: Dtype = Dtype.FLOAT32
    context_length: Positive
    """Prompt and answer together."""
    kv_cache_bytes: Positive
    """Of the whole replica; the transformers engine gives each served model an equal part."""
    max_batch_tokens: Positive | None = None
    """Tokens in one forward pass; None: the engine's default."""
    threads: Positive | None = None
    """CPU threads for the arithmetic; None: as many as Ray gave the replica CPUs."""
    max_ongoing_requests: Positive = 16
    """Requests in the engine at once, per replica."""
    max_queued_requests: Annotated[int, Field(ge=0)] = 64
    """Requests that wait for the engine, per replica; more get 429."""
    tensor_parallel: Positive = 1
    pipeline_parallel: Positive = 1
    engine_config: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the chosen engine, in its own words; unknown ones are refused."""
    keys_path: Annotated[str, Field(min_length=1)] | None = None
    """A file of API keys, one a line, or a folder of such files (a mounted Secret), which may appear later."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every served name, the base model first."""
        return (self.model_name, *(adapter.name for adapter in self.adapters))

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"two models have one name: {', '.join(self.names)}; give each adapter its own")
        if self.default_model not in self.names:
            raise ValueError(
                f"defaultModel {self.default_model!r} is not served; choose one of {', '.join(self.names)}"
            )
        return self


class UserConfig(_Args):
    """Serve's `user_config`: what changes in a replica that runs."""

    require_keys: bool
    """Whether a request needs an API key; until this is said, one is needed where `keysPath` is given."""
