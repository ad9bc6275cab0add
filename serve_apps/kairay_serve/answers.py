"""From a request to text: one served model's template, limits and batch, and an answer as it grows.

Knows nothing of HTTP but its errors.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from inspect import signature
from typing import Any

from jinja2 import TemplateError
from tokenizers.decoders import DecodeStream

from kairay_serve.api_errors import invalid
from kairay_serve.batching import Batcher
from kairay_serve.metrics import ServeMetrics
from kairay_serve.openai_types import ChatRequest, CompletionRequest
from kairay_serve.sampling import Sampling, StopScanner, answer_room
from kairay_serve.weights import LoadedModel


class Served:
    """A served name: its tokenizer, its batch and its limits."""

    def __init__(
        self, loaded: LoadedModel, batcher: Batcher, *, context_length: int, metrics: ServeMetrics
    ) -> None:
        self.name = loaded.name
        self.parent = loaded.parent
        self.context_length = context_length
        self.batcher = batcher
        self._loaded = loaded
        self._metrics = metrics

    @property
    def has_chat_template(self) -> bool:
        """Whether messages can be put to it."""
        return bool(self._loaded.tokenizer.chat_template)

    def chat_tokens(self, request: ChatRequest) -> list[int]:
        """The conversation through the chat template, up to where the answer begins."""
        if not self.has_chat_template:
            raise invalid(f"{self.name} has no chat template; use /v1/completions", "messages")
        render = self._loaded.tokenizer.apply_chat_template
        reserved = sorted(set(request.chat_template_kwargs) & set(signature(render).parameters))
        if reserved:  # such as chat_template itself: a client chooses values, never the program
            raise invalid(f"chat_template_kwargs may not set {', '.join(reserved)}", "chat_template_kwargs")
        try:
            encoded = render(
                [message.turn() for message in request.messages],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                **request.chat_template_kwargs,
            )
        except (TemplateError, TypeError) as error:
            raise invalid(f"the chat template refuses these messages: {error}", "messages") from error
        return list(encoded["input_ids"])

    def text_tokens(self, prompt: str | list[int]) -> list[int]:
        """Plain text, or token ids that are checked."""
        tokenizer = self._loaded.tokenizer
        ids = list(tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else prompt
        if not ids:
            raise invalid("the prompt is empty", "prompt")
        vocabulary = int(self._loaded.model.config.get_text_config().vocab_size)
        if not all(0 <= token < vocabulary for token in ids):
            raise invalid(f"token ids lie between 0 and {vocabulary - 1}", "prompt")
        return ids

    def answer(self, prompt: list[int], request: ChatRequest | CompletionRequest, *, param: str) -> Answer:
        """An answer that has not begun; ApiError 400 when it cannot fit the context."""
        room = answer_room(
            request.wanted_tokens, prompt_tokens=len(prompt), context_length=self.context_length, param=param
        )
        return Answer(self, prompt, request.sampling(self._loaded.defaults, room))

    def decoder(self) -> TokenDecoder:
        """A fresh decoder for one answer."""
        return TokenDecoder(self._loaded.tokenizer)

    def is_end(self, token: int) -> bool:
        """Whether a token ends the turn."""
        return token in self._loaded.eos_token_ids

    def count(self, *, prompt: int, generated: int, first_token_seconds: float | None) -> None:
        """Note one answer's figures."""
        self._metrics.prompt_tokens.labels(self.name).inc(prompt)
        self._metrics.generated_tokens.labels(self.name).inc(generated)
        if first_token_seconds is not None:
            self._metrics.first_token_seconds.labels(self.name).observe(first_token_seconds)


class TokenDecoder:
    """Token ids to text, a piece at a time, special tokens left out; half characters wait for the rest."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer._tokenizer
        self._stream = DecodeStream([], skip_special_tokens=True)

    def feed(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        return self._stream.step(self._tokenizer, token) or ""


class Answer:
    """One answer: text in pieces, then how many tokens it took and why it ended."""

    def __init__(self, served: Served, prompt: list[int], sampling: Sampling) -> None:
        self.prompt = prompt
        self.generated = 0
        self.finish_reason = "length"
        self._served = served
        self._sampling = sampling

    async def text(self) -> str:
        """The whole answer."""
        return "".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The answer as it comes; leaving early cancels it."""
        started = time.monotonic()
        first: float | None = None
        decoder, scanner = self._served.decoder(), StopScanner(self._sampling.stop)
        steps = self._served.batcher.generate(self.prompt, self._sampling)
        try:
            async for tokens in steps:
                first = time.monotonic() - started if first is None else first
                piece = ""
                for token in tokens:
                    piece += self._take(token, decoder, scanner)
                    if scanner.stopped:
                        break
                if piece:
                    yield piece
                if scanner.stopped:
                    return
            if rest := scanner.flush():
                yield rest
        finally:
            await steps.aclose()
            self._served.count(prompt=len(self.prompt), generated=self.generated, first_token_seconds=first)

    def _take(self, token: int, decoder: TokenDecoder, scanner: StopScanner) -> str:
        self.generated += 1
        if self._served.is_end(token):
            self.finish_reason = "stop"
            return ""
        piece = scanner.feed(decoder.feed(token))
        if scanner.stopped:
            self.finish_reason = "stop"
        return piece
