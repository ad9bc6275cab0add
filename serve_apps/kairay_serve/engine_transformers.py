"""Engine `transformers`: the default on CPUs. Starts in seconds, batches continuously, merges adapters.

Every served name has a model and a batch of its own; they share the base model's tensors and the cores.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from starlette.types import ASGIApp

from kairay.errors import InputError
from kairay_serve.answers import Served
from kairay_serve.args import ChatArgs, Device
from kairay_serve.batching import DEFAULT_BATCH_TOKENS, DEFAULT_PAGE_TOKENS, Batcher, CacheShape, cache_shape
from kairay_serve.metrics import ServeMetrics
from kairay_serve.openai_app import build_app
from kairay_serve.packing import can_pack, pack_linears
from kairay_serve.sampling import Sampling
from kairay_serve.sources import adapter_folder, model_folder, say
from kairay_serve.weights import LoadedModel, load_base

_SETTINGS = {"pageTokens": DEFAULT_PAGE_TOKENS, "sharePages": True, "packWeights": True}


class TransformersEngine:
    """Models in this process, each with a thread that runs its batch."""

    def __init__(self, args: ChatArgs, metrics: ServeMetrics) -> None:
        unknown = sorted(set(args.engine_config) - set(_SETTINGS))
        if unknown:
            raise InputError(
                f"engineConfig: the transformers engine has no {', '.join(unknown)}; "
                f"it has {', '.join(_SETTINGS)}"
            )
        if args.tensor_parallel * args.pipeline_parallel > 1:
            raise InputError(
                "the transformers engine runs on one device; choose engine vllm to split a model"
            )
        self._args = args
        self._settings: dict[str, Any] = {**_SETTINGS, **args.engine_config}
        self._metrics = metrics
        self._served: dict[str, Served] = {}

    async def start(self) -> ASGIApp:
        """Load, warm up, and return the OpenAI app."""
        if self._args.threads is not None:
            torch.set_num_threads(self._args.threads)
        loaded = await asyncio.to_thread(self._load)
        shape = self._shape(loaded[0])
        self._served = {model.name: self._serve(model, shape) for model in loaded}
        for served in self._served.values():
            await _warm_up(served)
        return build_app(self._served)

    def has_chat_template(self, model: str) -> bool:
        """Whether messages can be put to this served name."""
        return self._served[model].has_chat_template

    def fault(self) -> str | None:
        """Why it cannot answer: the first batch that died; None while all live."""
        return next((fault for served in self._served.values() if (fault := served.batcher.fault())), None)

    def waiting(self) -> int:
        """Requests that no forward pass has seen yet."""
        return sum(served.batcher.waiting() for served in self._served.values())

    def metrics(self) -> bytes:
        """Nothing beyond the front's."""
        return b""

    async def close(self) -> None:
        """End every batch."""
        await asyncio.gather(*(asyncio.to_thread(served.batcher.stop) for served in self._served.values()))

    def _load(self) -> list[LoadedModel]:
        args, started = self._args, time.monotonic()
        folder = model_folder(args.preset, args.model)
        base = load_base(folder, name=args.model_name, device=args.device.value, dtype=args.dtype.value)
        say(f"loaded {args.model_name} in {time.monotonic() - started:.1f} s")
        models = [base]
        if args.adapters:
            from kairay_serve.adapters import merge_adapter  # peft takes seconds to import
        for adapter in args.adapters:
            with TemporaryDirectory(prefix="kairay-adapter-") as scratch:
                source = adapter_folder(adapter.source, Path(scratch))
                models.append(merge_adapter(base, source, name=adapter.name))
            say(f"merged {adapter.name}, {time.monotonic() - started:.1f} s from the beginning")
        if self._settings["packWeights"] and args.device is Device.CPU and can_pack(base.model.dtype):
            pack_linears(model.model for model in models)
        return models

    def _shape(self, base: LoadedModel) -> CacheShape:
        args = self._args
        config = base.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", args.context_length)
        if args.context_length > longest:
            raise InputError(
                f"contextLength is {args.context_length}, but {args.preset} was made for {longest} at most"
            )
        return cache_shape(
            config,
            kv_cache_bytes=args.kv_cache_bytes // len(args.names),
            bytes_per_element=base.model.dtype.itemsize,
            context_length=args.context_length,
            requests=args.max_ongoing_requests,
            page_tokens=int(self._settings["pageTokens"]),
            batch_tokens=args.max_batch_tokens or DEFAULT_BATCH_TOKENS,
        )

    def _serve(self, model: LoadedModel, shape: CacheShape) -> Served:
        batcher = Batcher(model, shape, share_pages=bool(self._settings["sharePages"]))
        batcher.start()
        return Served(model, batcher, context_length=self._args.context_length, metrics=self._metrics)


async def _warm_up(served: Served) -> None:
    """One token, so that the cache is there and a model that cannot be batched fails now."""
    async for _ in served.batcher.generate(served.text_tokens("a"), Sampling(max_tokens=1)):
        pass
