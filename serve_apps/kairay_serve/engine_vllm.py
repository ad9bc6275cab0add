"""Engine `vllm`: vLLM's own OpenAI app and asynchronous engine inside the replica.

The default on GPUs, and faster than the transformers engine on CPUs with many clients, at the price of a minute
to start. Adapters stay apart from the base model (vLLM batches them together). vLLM's launcher modules move
between releases: they are touched in this file only, and tests/local/test_serving_vllm.py is their contract.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from starlette.types import ASGIApp

from kairay.errors import HostError, InputError
from kairay_serve.args import ChatArgs, Device
from kairay_serve.metrics import ServeMetrics
from kairay_serve.sources import ADAPTER_CONFIG, adapter_folder, model_folder

_GIB = 2**30


class VllmEngine:
    """An AsyncLLM with vLLM's app over it; its processes end with this one."""

    def __init__(self, args: ChatArgs, metrics: ServeMetrics) -> None:  # vLLM counts for itself
        self._args = args
        self._scratch = TemporaryDirectory(prefix="kairay-adapters-")
        self._llm: Any = None
        self._has_template = False

    async def start(self) -> ASGIApp:
        """Load, and return vLLM's OpenAI app."""
        folder = model_folder(self._args.preset, self._args.model)
        adapters = {
            adapter.name: adapter_folder(adapter.source, Path(self._scratch.name) / str(at))
            for at, adapter in enumerate(self._args.adapters)
        }
        os.environ.update(environment(self._args))
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.entrypoints.launchers.api_server.app_state import init_app_state
            from vllm.entrypoints.launchers.app import build_app
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise HostError(
                f"engine vllm needs vLLM here: {error}; install requirements/serve-vllm-cpu.txt or "
                "serve-vllm-cuda.txt, or choose engine transformers"
            ) from error
        namespace = _parsed(options(self._args, folder, adapters))
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(namespace))
        tasks = await self._llm.get_supported_tasks()
        app: ASGIApp = build_app(namespace, tasks, self._llm.model_config)
        await init_app_state(self._llm, app.state, namespace, tasks)  # type: ignore[attr-defined]
        tokenizer = self._llm.get_tokenizer()
        self._has_template = bool(namespace.chat_template or getattr(tokenizer, "chat_template", None))
        return app

    def has_chat_template(self, model: str) -> bool:  # one template for all
        """Whether messages can be put to the model."""
        return self._has_template

    def fault(self) -> str | None:
        """Why it cannot answer; None while it can."""
        if self._llm is None:
            return "the engine has not started"
        return f"the engine died: {self._llm.dead_error}" if self._llm.errored else None

    def waiting(self) -> int:
        """Not known here; vLLM reports `vllm:num_requests_waiting`."""
        return 0

    def metrics(self) -> bytes:
        """vLLM's own: tokens, time to first token, cache use."""
        from prometheus_client import generate_latest
        from vllm.v1.metrics.prometheus import get_prometheus_registry

        return generate_latest(get_prometheus_registry())

    async def close(self) -> None:
        """End the engine and drop the pulled adapters."""
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None
        self._scratch.cleanup()


def environment(args: ChatArgs) -> dict[str, str]:
    """What vLLM reads from the environment; must be set before its import."""
    settings = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    if args.device is Device.CPU:
        # Whole GiB; a second process that pins and spins on every core starves the HTTP proxy.
        settings["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, args.kv_cache_bytes // _GIB))
        settings["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        settings["OMP_NUM_THREADS"] = str(args.threads or 1)
    return settings


def options(args: ChatArgs, folder: Path, adapters: Mapping[str, Path]) -> dict[str, Any]:
    """vLLM's command-line options, by name; `engineConfig` comes last and wins."""
    chosen: dict[str, Any] = {
        "model": str(folder),
        "served-model-name": args.model_name,
        "dtype": args.dtype.value,
        "max-model-len": args.context_length,
        "max-num-seqs": args.max_ongoing_requests,
        "tensor-parallel-size": args.tensor_parallel,
        "pipeline-parallel-size": args.pipeline_parallel,
    }
    if args.max_batch_tokens is not None:
        chosen["max-num-batched-tokens"] = args.max_batch_tokens
    if args.tensor_parallel * args.pipeline_parallel == 1:
        chosen["distributed-executor-backend"] = "uni"
    if args.device is Device.CPU:
        chosen["enforce-eager"] = True
    else:
        # vLLM counts one GPU's part, the arguments a replica's.
        chosen["kv-cache-memory-bytes"] = args.kv_cache_bytes // (
            args.tensor_parallel * args.pipeline_parallel
        )
    if not _samples(folder):
        chosen["override-generation-config"] = {"temperature": 0.0}  # as the transformers engine does
    if adapters:
        chosen |= _lora_options(adapters, args.model_name)
    return chosen | dict(args.engine_config)


def _lora_options(adapters: Mapping[str, Path], base: str) -> dict[str, Any]:
    ranks = [json.loads((path / ADAPTER_CONFIG).read_text("utf-8"))["r"] for path in adapters.values()]
    modules = [
        {"name": name, "path": str(path), "base_model_name": base} for name, path in sorted(adapters.items())
    ]
    return {
        "enable-lora": True,
        "lora-modules": modules,
        "max-loras": len(adapters),
        "max-lora-rank": next(
            (rank for rank in (8, 16, 32, 64, 128, 256, 320, 512) if rank >= max(ranks)), max(ranks)
        ),
    }


def _samples(folder: Path) -> bool:
    """Whether the model's own generation config asks for sampling."""
    path = folder / "generation_config.json"
    return path.is_file() and bool(json.loads(path.read_text("utf-8")).get("do_sample"))


def _parsed(chosen: Mapping[str, Any]) -> Namespace:
    """vLLM's own parser over our options, so that every default is vLLM's; InputError for an unknown one."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())

    def refuse(message: str) -> NoReturn:
        raise InputError(f"engineConfig: vLLM refuses it: {message}")

    parser.error = refuse
    namespace: Namespace = parser.parse_args(list(_words(chosen)))
    return namespace


def _words(chosen: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in chosen.items():
        match value:
            case bool():
                words.append(f"--{name}" if value else f"--no-{name}")
            case list():
                words += [
                    f"--{name}",
                    *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value),
                ]
            case dict():
                words.append(f"--{name}={json.dumps(value)}")
            case _:
                words.append(f"--{name}={value}")
    return words
