"""One model's continuous batch: token ids in, token ids out as they come.

Wraps transformers' ContinuousBatchingManager, which runs the model in a thread of its own. What it leaves
to its user is done here: a cache of a stated size (its own default grew to 19.6 GB), cancelling, and nothing
left behind by a request, whatever way it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from kairay.errors import InputError
from kairay_serve.api_errors import SERVER, ApiError, unavailable
from kairay_serve.sampler import RowSampler
from kairay_serve.sampling import Sampling
from kairay_serve.weights import LoadedModel

DEFAULT_PAGE_TOKENS = 64
DEFAULT_BATCH_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """How large one model's key-value cache and batches are."""

    pages: int
    page_tokens: int
    batch_tokens: int
    """Tokens in one forward pass; long prompts are read in pieces of this size."""
    requests: int
    """Requests in one forward pass."""


def cache_shape(
    config: Any,
    *,
    kv_cache_bytes: int,
    bytes_per_element: int,
    context_length: int,
    requests: int,
    page_tokens: int = DEFAULT_PAGE_TOKENS,
    batch_tokens: int = DEFAULT_BATCH_TOKENS,
) -> CacheShape:
    """As many pages as fit `kv_cache_bytes`; InputError when one full context does not."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * head_dim * bytes_per_element
    pages = kv_cache_bytes // (token_bytes * page_tokens)
    if pages * page_tokens < context_length:
        needed = -(-context_length // page_tokens) * page_tokens * token_bytes
        raise InputError(
            f"kvCacheBytes leaves each model {kv_cache_bytes} bytes for {pages * page_tokens} tokens; "
            f"a context of {context_length} needs {needed}: give more or lower contextLength"
        )
    return CacheShape(pages=pages, page_tokens=page_tokens, batch_tokens=batch_tokens, requests=requests)


class Batcher:
    """The running batch of one model. Used from one event loop."""

    def __init__(self, loaded: LoadedModel, shape: CacheShape, *, share_pages: bool = True) -> None:
        self._manager = loaded.model.init_continuous_batching(
            # The batch as a whole is greedy and endless; every request brings its own settings.
            generation_config=_endless_greedy(),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=shape.page_tokens,
                num_blocks=shape.pages,
                max_batch_tokens=shape.batch_tokens,
                max_requests_per_batch=shape.requests,
                max_memory_percent=0.95,  # only checked: the sizes above decide
                allow_block_sharing=share_pages,
                use_async_batching=False,
                use_cuda_graph=False,
                auto_switch_to_flash=False,
            ),
        )
        self._manager.logit_processor = RowSampler().as_list()
        self._eos_token_ids = list(loaded.eos_token_ids)
        self._asked = 0
        self._name = loaded.name

    def start(self) -> None:
        """Start the model's thread."""
        self._manager.start()

    def stop(self) -> None:
        """Fail what is under way and end the thread."""
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=10, hard_stop=True)

    def fault(self) -> str | None:
        """Why no more tokens will come; None while they can."""
        status = self._manager.background_thread_status
        if (error := status.fatal_error) is not None:
            return f"the engine of {self._name} died: {type(error).__name__}: {error}"
        # A dying thread refuses requests a moment before it says why.
        if status.can_accept_new_requests() is None and self._manager.is_running():
            return None
        return f"the engine of {self._name} is not running"

    def waiting(self) -> int:
        """Requests that no forward pass has seen yet."""
        processor = self._manager.batch_processor
        scheduled = len(processor.scheduler.waiting_requests) if processor is not None else 0
        return scheduled + int(self._manager.input_queue.qsize())

    async def generate(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[list[int], None]:
        """New token ids, step by step, the end-of-turn token included; leaving early cancels the request."""
        self._asked += 1
        request_id = f"request-{self._asked}"
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        self._manager.register_result_handler(request_id, outputs.put_nowait)
        finished = False
        try:
            self._submit(request_id, prompt, sampling)
            seen = 0
            while not finished:
                output = await outputs.get()
                finished = output.is_finished()
                if output.error is not None:
                    raise self._failure(output.error)
                fresh, seen = output.generated_tokens[seen:], len(output.generated_tokens)
                if fresh:
                    yield fresh
        finally:
            if not finished:
                self._manager.cancel_request(request_id)
            self._forget(request_id)

    def _submit(self, request_id: str, prompt: list[int], sampling: Sampling) -> None:
        accepted = self._manager.add_request(
            prompt,
            request_id=request_id,
            max_new_tokens=sampling.max_tokens,
            streaming=True,
            eos_token_id=self._eos_token_ids,
            sampling=sampling,
        )
        if accepted is None:
            raise unavailable(f"the engine of {self._name} is not running")

    def _failure(self, error: str) -> ApiError:
        if self.fault():
            return unavailable(f"the engine of {self._name} died: {error}")
        return ApiError(500, f"generating failed: {error}", kind=SERVER)

    def _forget(self, request_id: str) -> None:
        router = self._manager.output_router
        with router._lock:
            router.result_handlers.pop(request_id, None)
        # Outputs of cancelled requests find no handler and would pile up here; nobody else reads this queue.
        with contextlib.suppress(queue.Empty):
            while True:
                router.output_queue.get_nowait()


def _endless_greedy() -> GenerationConfig:
    return GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)  # type: ignore[no-untyped-call]
