"""What a client may ask of the transformers engine: OpenAI's two text requests, typed.

Fields that would change the answer and cannot be honoured are refused with a sentence; fields that would not
(user, metadata, ...) are taken and left alone, as every OpenAI client sends some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kairay_serve.sampling import Sampling, SamplingDefaults

T = TypeVar("T")

# Field -> the values under which it changes nothing.
_REFUSED: Mapping[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "tools": (None, []),
    "functions": (None, []),
}


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    include_usage: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _only_what_we_do(self) -> Self:
        for field, harmless in _REFUSED.items():
            value = (self.model_extra or {}).get(field)
            if value not in harmless:
                raise ValueError(f"{field} is not supported by the transformers engine; leave it out")
        return self

    @property
    def wanted_tokens(self) -> int | None:
        """The answer's bound, as the client states it."""
        return self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk that counts tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, defaults: SamplingDefaults, max_tokens: int) -> Sampling:
        """The settings of one answer: what is asked, else the model's own."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=max_tokens,
            temperature=_or(self.temperature, defaults.temperature),
            top_k=max(0, _or(self.top_k, defaults.top_k)),
            top_p=_or(self.top_p, defaults.top_p),
            repetition_penalty=_or(self.repetition_penalty, defaults.repetition_penalty),
            seed=self.seed,
            stop=tuple(text for text in stop if text),
        )


class TextPart(BaseModel):
    """A part of a message; only text can be read."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn."""

    role: str
    content: str | list[TextPart] | None = None

    def turn(self) -> dict[str, str]:
        """As chat templates take it."""
        parts = self.content or ""
        return {
            "role": self.role,
            "content": parts if isinstance(parts, str) else "".join(part.text for part in parts),
        }


class ChatRequest(_Request):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(gt=0)] | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def wanted_tokens(self) -> int | None:
        """The newer field wins."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(_Request):
    """POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """One entry for each answer."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0] if self.prompt else None, int):
            return [cast("list[int]", self.prompt)]
        return cast("list[str] | list[list[int]]", self.prompt)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
