"""The cases of bench_memory: shapes, and how a tuning run and a service of them are measured."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kairay import memory
from kairay.memory import Dtype, TuningWork
from kairay.presets import (
    ModelFacts,
    ModelSource,
    Preset,
    Scheduler,
    SourceKind,
    TuningDefaults,
    TuningFacts,
    TuningMethod,
    find_preset,
)
from kairay.registry.models import model_cache_dir, resolve_model

SMALL = find_preset("smollm2-135m-instruct")
DATA = Path(__file__).resolve().parents[2] / "examples" / "quickstart" / "train.jsonl"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run: live bytes as measured and as estimated."""

    measured_weights: int
    weights: int
    measured_rest: int
    rest: int
    """All but the weights: adapter, optimiser, activations, scores, buffers."""
    note: str

    @property
    def error_percent(self) -> float:
        """By how much the estimate of the whole is too high."""
        return 100 * (self.weights + self.rest) / (self.measured_weights + self.measured_rest) - 100


def facts(architecture: str, **shape: Any) -> ModelFacts:
    """A model that nobody published, with the small model's vocabulary, in float32."""
    model = ModelFacts(
        id=f"random/{architecture}",
        license="none",
        mirrorable=False,
        architecture=architecture,
        weight_bytes=1,
        dtype="float32",
        vocab_size=SMALL.model.vocab_size,
        tied_embeddings=True,
        context_length=8192,
        **shape,
    )
    parameters = memory.shape_parameters(model)
    assert parameters is not None
    return replace(model, weight_bytes=4 * parameters)


def preset(model: ModelFacts, modules: tuple[str, ...] = LINEAR) -> Preset:
    """All layers get LoRA of rank 16; a step is 512 tokens."""
    return Preset(
        name="random",
        model=model,
        sources=(ModelSource(kind=SourceKind.HUB, name=model.id),),
        tuning=TuningFacts(
            methods=(TuningMethod.LORA, TuningMethod.QLORA),
            target_modules=modules,
            defaults=TuningDefaults(
                epochs=1, learning_rate=1e-3, rank=16, alpha=32, sequence_length=512, batch_tokens=512,
                scheduler=Scheduler.CONSTANT,
            ),
        ),
    )  # fmt: skip


DENSE = preset(
    facts("LlamaForCausalLM", layers=8, hidden_size=384, heads=6, kv_heads=6, head_dim=64,
          intermediate_size=1024)
)  # fmt: skip
GROUPED = preset(
    facts("Qwen2ForCausalLM", layers=16, hidden_size=2048, heads=32, kv_heads=8, head_dim=64,
          intermediate_size=8192)
)  # fmt: skip
EXPERTS = preset(
    facts("Qwen3MoeForCausalLM", layers=8, hidden_size=768, heads=12, kv_heads=4, head_dim=64,
          experts=64, experts_per_token=4, moe_intermediate_size=384),
    LINEAR[:4],
)  # fmt: skip


def tune(
    chosen: Preset, method: str, parameters: dict[str, Any] | None = None, dtype: str = "float32"
) -> Compared:
    """Three steps of the job's own trainer, the adapter's optimiser warm."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    from kairay_train.config import TuneConfig
    from kairay_train.job import WorkerJob
    from kairay_train.settings import resolve

    results: list[Compared] = []
    with tempfile.TemporaryDirectory() as storage:
        config = TuneConfig(
            run="bench", workspace="bench", preset=chosen.name, data=(str(DATA),), output=f"oci:{storage}:bench",
            storage=Path(storage), method=method, dtype=dtype,
            parameters={"TrainingArguments": {"max_steps": STEPS, **(parameters or {})}},
        )  # fmt: skip
        settings, model = resolve(config, chosen), folder_of(chosen, Path(storage) / "model")
        job = WorkerJob(
            run="bench", workspace="bench", model=model, settings=settings, device=config.device, threads=2,
            deepspeed=None, table=rows_of(chosen, config, settings, model, Path(storage)), watcher=None,
        )  # fmt: skip
        loop: Callable[[Any], None] = lambda _: results.append(_tuned(job, chosen, Path(storage)))  # noqa: E731
        TorchTrainer(loop, train_loop_config={}, scaling_config=ScalingConfig(num_workers=0)).fit()
    return results[0]


def _tuned(job: Any, chosen: Preset, storage: Path) -> Compared:
    import torch

    from kairay_train import trainer

    torch.set_num_threads(job.threads)
    trainer._forget_group()
    run = trainer._TrainingRun(job, storage, 1, 0)
    adapter = sum(p.nbytes for p in run.trainer.model.parameters() if p.requires_grad)
    frozen = getattr(run.trainer, "frozen", None)
    skipped = [] if frozen is None else frozen._lower
    base = storage_bytes(run.trainer.model, *skipped) - adapter
    with profiled() as peak:
        run.trainer.train()
    tokens, targets = batch_size(run.trainer, job)
    work = work_of(chosen, job.settings, tokens, targets)
    return _compared(work, chosen, job, base, adapter + peak[0])


def _compared(work: TuningWork, chosen: Preset, job: Any, base: int, rest: int) -> Compared:
    model, settings = chosen.model, job.settings
    lora = memory.lora_parameters(model, modules=work.modules, rank=work.rank, layers=work.layers)
    weights = int(memory.weight_bytes(model, work.dtype))
    hidden = 0
    if work.quantised:
        weights = memory.dequantised_weight_bytes(model, work.dtype, layers=work.layers)
    if work.rows_attend_alone:
        hidden = memory.frozen_hidden_bytes(
            model, work.dtype, layers=work.layers, data_tokens=job.table.tokens
        )
    activations, logits = memory.peak_parts(work)
    trained = memory.adapter_bytes(lora) + memory.optimizer_bytes(lora)
    note = (
        f"{work.tokens} tokens: kept {memory.kept_bytes(work) / 2**20:.0f}, scores {logits / 2**20:.0f}, "
        f"trained {trained / 2**20:.0f}, hidden {hidden / 2**20:.0f}, {settings.bits or 'no'} bits"
    )
    return Compared(
        measured_weights=base,
        weights=weights,
        measured_rest=rest,
        rest=trained + activations + logits + hidden,
        note=note,
    )


def work_of(chosen: Preset, settings: Any, tokens: int, targets: int) -> TuningWork:
    """The estimator's view of these settings."""
    return TuningWork(
        model=chosen.model,
        dtype=Dtype(settings.dtype),
        on_gpu=False,
        quantised=settings.bits == 4,
        modules=settings.target_modules,
        rank=settings.rank,
        layers=settings.layers,
        dropout=settings.dropout,
        checkpointing=settings.gradient_checkpointing,
        tokens=tokens,
        targets=targets,
    )


def batch_size(trainer: Any, job: Any) -> tuple[int, int]:
    """Tokens and targets of the largest micro-batch there is."""
    sizes = []
    for pack in range(len(job.table)):
        batch = trainer.data_collator([{"pack": pack}])
        targets = batch["shift_labels"] if "shift_labels" in batch else batch["labels"]
        sizes.append((batch["input_ids"].numel(), int((targets != -100).sum())))
    return max(sizes)


def rows_of(chosen: Preset, config: Any, settings: Any, model: Path, storage: Path) -> Any:
    """The demo's own data for the small model; else one pack of random rows, nearly all of them in the loss."""
    from kairay_train.pack_table import IGNORED, build_table
    from kairay_train.packing import pack
    from kairay_train.prepare import check_data, tokenise
    from kairay_train.tokens import EncodedRow

    if chosen is SMALL:
        return tokenise(check_data(config, settings, storage), settings, model, lambda _: None)
    random = np.random.default_rng(7)
    rows = []
    for length in (120, 128, 124, 128):
        ids = random.integers(3, 40_000, length).tolist()
        rows.append(EncodedRow(input_ids=ids, labels=[IGNORED, *ids[1:]]))
    return build_table(pack(rows, capacity=512))


def serve(chosen: Preset) -> Compared:
    """Eight prompts that fill the KV cache, read in pieces of 512 tokens."""
    from kairay_serve.args import ChatArgs
    from kairay_serve.engine_transformers import TransformersEngine
    from kairay_serve.metrics import ServeMetrics

    requests, prompt, room = 8, 240, 256
    model, dtype = chosen.model, Dtype.FLOAT32
    kv_cache = requests * room * memory.kv_bytes_per_token(model, dtype)
    with tempfile.TemporaryDirectory() as storage:
        folder = folder_of(chosen, Path(storage) / "model")
        args = ChatArgs(
            name="bench", preset=SMALL.name, model=str(folder), model_name="bench", default_model="bench",
            context_length=room, kv_cache_bytes=kv_cache, threads=2, max_ongoing_requests=requests,
            engine_config={"packWeights": False},
        )  # fmt: skip

        class Loaded(TransformersEngine):
            def _load(self) -> Any:
                return loaded

        loaded = TransformersEngine._load(TransformersEngine(args, ServeMetrics()))
        base = storage_bytes(loaded[0].model)
        engine = Loaded(args, ServeMetrics())
        with batch_profiled() as peak:
            asyncio.run(_ask(engine, requests, prompt))
    use = memory.transformers_memory(
        model, dtype, batch_tokens=512, requests=requests, cached_tokens=requests * room, on_gpu=False
    )
    return Compared(
        measured_weights=base,
        weights=memory.weight_bytes(model, dtype),
        measured_rest=peak[0] - kv_cache,
        rest=use.activations,
        note=f"{requests} × {prompt} tokens",
    )


async def _ask(engine: Any, requests: int, prompt: int) -> None:
    from kairay_serve.sampling import Sampling

    await engine.start()
    random = np.random.default_rng(7)

    async def one() -> None:
        ids = random.integers(3, 40_000, prompt).tolist()
        async for _ in engine._served["bench"].batcher.generate(ids, Sampling(max_tokens=12)):
            pass

    await asyncio.gather(*(one() for _ in range(requests)))
    await engine.close()


@contextmanager
def profiled() -> Iterator[list[int]]:
    """The list holds, afterwards, the most bytes that were live at once beyond those before; of this thread."""
    import torch

    peak: list[int] = []
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        yield peak
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    peak.append(most)


@contextmanager
def batch_profiled() -> Iterator[list[int]]:
    """As `profiled`, of the thread in which the engine runs its batch."""
    from transformers.generation.continuous_batching.continuous_api import (
        ContinuousBatchingManager as Manager,
    )

    peaks: list[int] = []
    loop = Manager._run_generation_loop

    def watched(manager: Any) -> None:
        with profiled() as peak:
            loop(manager)
        peaks.extend(peak)

    Manager._run_generation_loop = watched
    try:
        yield peaks
    finally:
        Manager._run_generation_loop = loop


def storage_bytes(*modules: Any) -> int:
    """Every storage of parameters, buffers and quantisation constants once."""
    import torch

    seen: dict[int, int] = {}

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            seen[storage.data_ptr()] = min(storage.nbytes(), value.nbytes)

    for tensor in (tensor for module in modules for tensor in (*module.parameters(), *module.buffers())):
        add(tensor)
        for state in (
            getattr(tensor, "quant_state", None),
            getattr(getattr(tensor, "quant_state", None), "state2", None),
        ):
            for value in vars(state).values() if state is not None else ():
                add(value)
    return sum(seen.values())


def folder_of(chosen: Preset, folder: Path) -> Path:
    """The small model's folder, or a new one with random weights and the small model's tokenizer."""
    small = Path(resolve_model(SMALL, override=None, cache=model_cache_dir(), report=lambda _: None))
    if chosen is SMALL:
        return small
    import torch
    import transformers

    model = chosen.model
    config = config_of(model)
    torch.manual_seed(3)
    made = getattr(transformers, model.architecture)._from_config(config, dtype=torch.float32)
    made.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(small).save_pretrained(folder)
    return folder


def config_of(model: ModelFacts) -> Any:
    """transformers' configuration of this shape."""
    import transformers

    kind = getattr(transformers, model.architecture.replace("ForCausalLM", "Config"))
    mixture = {
        "num_experts": model.experts,
        "num_experts_per_tok": model.experts_per_token,
        "moe_intermediate_size": model.moe_intermediate_size,
    }
    return kind(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        head_dim=model.head_dim,
        intermediate_size=model.intermediate_size or 1,
        tie_word_embeddings=model.tied_embeddings,
        max_position_embeddings=model.context_length,
        pad_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        architectures=[model.architecture],
        **(mixture if model.experts else {}),
    )


CHECKPOINTING = {"gradient_checkpointing": True}
CASES: dict[str, Callable[[], Compared]] = {
    "tune small qlora": partial(tune, SMALL, "qlora"),
    "tune small lora": partial(tune, SMALL, "lora"),
    "tune small qlora checkpointing": partial(tune, SMALL, "qlora", CHECKPOINTING),
    "tune small qlora bfloat16": partial(tune, SMALL, "qlora", dtype="bfloat16"),
    "tune dense lora": partial(tune, DENSE, "lora"),
    "tune dense qlora": partial(tune, DENSE, "qlora"),
    "tune dense lora checkpointing": partial(tune, DENSE, "lora", CHECKPOINTING),
    "tune grouped lora": partial(tune, GROUPED, "lora"),
    "tune grouped qlora": partial(tune, GROUPED, "qlora"),
    "tune experts lora": partial(tune, EXPERTS, "lora"),
    "tune experts qlora": partial(tune, EXPERTS, "qlora"),
    "serve small": partial(serve, SMALL),
    "serve dense": partial(serve, DENSE),
    "serve grouped": partial(serve, GROUPED),
    "serve experts": partial(serve, EXPERTS),
}
