"""How one answer is drawn and when it ends: its settings, its room in the context, its stop strings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kairay_serve.api_errors import invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Everything that shapes one answer. Temperature 0 is greedy: the same answer each time."""

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    """0: all tokens."""
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """What a model's generation_config.json says; greedy unless it asks for sampling (as `generate` does)."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


def answer_room(asked: int | None, *, prompt_tokens: int, context_length: int, param: str) -> int:
    """Tokens that the answer may have; ApiError 400 when the prompt, or prompt and answer, do not fit.

    Unasked, it is what the context leaves.
    """
    room = context_length - prompt_tokens
    if room <= 0:
        raise invalid(
            f"This model's context is {context_length} tokens; the prompt has {prompt_tokens}: shorten it.",
            param,
            "context_length_exceeded",
        )
    if asked is not None and asked > room:
        raise invalid(
            f"This model's context is {context_length} tokens; the prompt has {prompt_tokens}, max_tokens "
            f"asks for {asked} more. Ask for {room} at most.",
            "max_tokens",
            "context_length_exceeded",
        )
    return room if asked is None else asked


class StopScanner:
    """Finds stop strings in text that comes in pieces, and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that is safe to show; nothing after the first stop string."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            safe, self._held = self._held[: min(found)], ""
            return safe
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        safe = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return safe

    def flush(self) -> str:
        """What was held back, when the answer has ended without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
