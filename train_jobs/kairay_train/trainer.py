"""The loop that every Ray Train worker runs: load, quantise, add LoRA, train, hand the adapter back.

TRL's SFTTrainer drives the loop. On a CPU and with packing its loss is replaced by `RowsTrainer`'s: TRL scores every
position against the vocabulary where there is no Triton, ours only the targets; see `batches` and `frozen_layers` for
the rest. With packing off, or for an architecture that `batches` does not know, TRL's own path runs.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, PreTrainedModel, TrainerCallback, TrainerState, set_seed
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from kairay_train.adapter import collect_adapter
from kairay_train.batches import ROWS_ATTENTION, FlatCollator
from kairay_train.checkpoints import ReportCheckpoints, checkpoint_interval
from kairay_train.config import DataType, Device
from kairay_train.frozen_layers import FrozenLayers, can_cache
from kairay_train.job import Fault, Trained, WorkerJob
from kairay_train.metrics import Progress, ProgressGauges, ray_gauges
from kairay_train.model import dequantise, first_tuned_layer, load_base, lora_config
from kairay_train.pack_table import PackTable
from kairay_train.settings import Settings, total_steps


def train_worker(job: WorkerJob) -> Trained | Fault | None:
    """Ray Train's loop; the first worker's result is the run's.

    What a lone worker's own process cannot do is a Fault and ends the run; among several, an error may be the echo of a
    lost one, so it is raised and Ray Train tries again.
    """
    if ray.train.get_context().get_world_size() > 1:
        return _train(job)
    try:
        return _train(job)
    except (RuntimeError, ValueError, TypeError, ImportError, OSError, MemoryError) as error:
        return _fault(error)


def _train(job: WorkerJob) -> Trained | None:
    torch.set_num_threads(job.threads)
    set_seed(job.settings.seed)
    context = ray.train.get_context()
    shared = context.get_local_world_size() > 1
    with tempfile.TemporaryDirectory(prefix="kairay-") as alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice of libraries to us, not to the person who waits
        folder = _shared_folder(job.run) if shared else Path(alone)
        run = _TrainingRun(job, folder, context.get_world_size(), context.get_local_rank())
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            run.trainer.train()
        else:
            with checkpoint.as_directory() as resumed:
                run.trainer.train(resume_from_checkpoint=str(resumed))
        result = run.result() if context.get_world_rank() == 0 else None
        if shared and context.get_local_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
        return result


def _fault(error: Exception) -> Fault:
    text = " ".join(str(error).split())[:500]
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return Fault(kind=type(error).__name__, message=text, out_of_memory=memory, disk_full=full)


def _shared_folder(run: str) -> Path:
    """Workers of one node write a checkpoint together, so they need one folder."""
    session = Path(ray.train.get_context().get_experiment_name()).name
    return Path(tempfile.gettempdir()) / f"kairay-{os.getuid()}-{run}-{session}"


class _TrainingRun:
    """The trainer of one worker with all that belongs to it."""

    def __init__(self, job: WorkerJob, folder: Path, world: int, local_rank: int) -> None:
        self._job = job
        table: PackTable = ray.get(job.table) if isinstance(job.table, ray.ObjectRef) else job.table
        settings = job.settings
        tokenizer = AutoTokenizer.from_pretrained(job.model, trust_remote_code=settings.trust_remote_code)
        model = load_base(job.model, settings, job.device, local_rank=local_rank)
        depth = model.config.get_text_config().num_hidden_layers
        lora = lora_config(settings, depth)
        rows = model.config._attn_implementation == ROWS_ATTENTION
        self.first_layer = first_tuned_layer(lora, depth) if rows else 0
        if not can_cache(model, self.first_layer, table.tokens):
            self.first_layer = 0
        self.dequantised = (
            _plain_weights(model, settings, self.first_layer) if job.device is Device.CPU else 0
        )
        total = total_steps(len(table), world, settings)
        self.meter = _Meter(job, table, world, total)
        self.trainer = _make_trainer(rows)(
            model=model,
            args=_arguments(job, folder, total),
            train_dataset=Dataset.from_dict({"pack": list(range(len(table)))}),
            processing_class=tokenizer,
            data_collator=_collator(job, table, rows, tokenizer.pad_token_id or tokenizer.eos_token_id),
            peft_config=lora,
            callbacks=[
                self.meter,
                ReportCheckpoints(
                    checkpoint_interval(settings, total), clock=time.monotonic, progress=self.meter.progress
                ),
            ],
        )
        if settings.dtype is DataType.FLOAT32:
            _in_float32(self.trainer.model)  # TRL turns QLoRA adapters to bfloat16
        if self.first_layer:
            self.trainer.frozen = FrozenLayers(model, self.first_layer, table)
        gc.collect()

    def result(self) -> Trained:
        adapter = collect_adapter(self.trainer.accelerator.unwrap_model(self.trainer.model))
        return Trained(
            adapter=adapter,
            progress=self.meter.progress(self.trainer.state),
            peak_bytes=_peak_bytes(),
            dequantised_bytes=self.dequantised,
            cached_layers=self.first_layer,
        )


def _plain_weights(model: PreTrainedModel, settings: Settings, first_layer: int) -> int:
    """Only the layers that run in every step are worth it."""
    if settings.bits != 4:
        return 0
    layers = model.get_decoder().layers
    return sum(dequantise(layer, settings.dtype) for layer in layers[first_layer:])


def _in_float32(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


class RowsTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """SFTTrainer for flat batches of rows: scores the targets only, and skips layers whose work is done."""

    frozen: FrozenLayers | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Mean negative log-likelihood over the targets of the whole optimiser step."""
        assert not return_outputs
        inputs = dict(inputs)
        targets = inputs.pop("shift_labels")[0]
        del inputs["labels"]
        rows = inputs.pop("row_indexes")
        if self.frozen is not None:
            inputs["inputs_embeds"] = self.frozen.embed(rows, inputs["layout"])
            del inputs["input_ids"]
        logits = model(**inputs, logits_to_keep=inputs.pop("predict_at"), use_cache=False).logits[0]
        count = torch.as_tensor(len(targets) if num_items_in_batch is None else num_items_in_batch)
        loss = functional.cross_entropy(logits.float(), targets, reduction="sum") / count.clamp(min=1)
        # Trainer's count is over all workers, and their gradients are averaged.
        return loss * self.accelerator.num_processes if num_items_in_batch is not None else loss

    def create_model_card(self, *_: object, **__: object) -> None:
        """No README beside a checkpoint."""


class PlainTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's own loss."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """No README beside a checkpoint."""


def _make_trainer(rows: bool) -> type[RowsTrainer] | type[PlainTrainer]:
    return RowsTrainer if rows else PlainTrainer


def _collator(job: WorkerJob, table: PackTable, rows: bool, pad: int) -> Any:
    if rows:
        return FlatCollator(table)
    return _TrlCollator(table, pad, flat=job.settings.packing)


class _TrlCollator:
    """Numbers of packs -> TRL's batch, padded or flat with positions that start again at each row."""

    def __init__(self, table: PackTable, pad: int, *, flat: bool) -> None:
        self._table = table
        self._collate = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=flat)

    def __call__(self, packs: Sequence[Mapping[str, int]]) -> Any:
        rows = [row for pack in packs for row in self._table.pack(pack["pack"])]
        return self._collate(
            [{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in rows]
        )


def _arguments(job: WorkerJob, folder: Path, total: int) -> SFTConfig:
    settings, cpu = job.settings, job.device is Device.CPU
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.accumulation,
        "max_steps": total,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": settings.warmup_steps or settings.warmup_ratio,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch",
        "seed": settings.seed,
        "data_seed": settings.shuffle_seed,
        "bf16": settings.dtype is DataType.BFLOAT16 and not cpu,
        "fp16": settings.dtype is DataType.FLOAT16 and not cpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "use_cpu": cpu,
        "logging_steps": max(1, total // 100),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "dataloader_pin_memory": not cpu,
        "ddp_find_unused_parameters": False,
        "train_sampling_strategy": "random" if settings.shuffle else "sequential",
        "deepspeed": None if job.deepspeed is None else dict(job.deepspeed),
    }
    return SFTConfig(**{**options, **settings.trainer})


class _Meter(TrainerCallback):  # type: ignore[misc]
    """Measures the run and shows it: gauges here, the driver through the watcher."""

    def __init__(self, job: WorkerJob, table: PackTable, world: int, total: int) -> None:
        per_step = job.settings.micro_batch * job.settings.accumulation * world
        self._tokens_per_step = table.tokens / max(1, len(table)) * min(per_step, len(table))
        self._total = total
        self._watcher = job.watcher
        self._gauges = ProgressGauges(ray_gauges(), workspace=job.workspace, run=job.run)
        self._began = time.monotonic()
        self._first_step = 0
        self._loss: float | None = None
        self._first = ray.train.get_context().get_world_rank() == 0

    def progress(self, state: TrainerState) -> Progress:
        """Where the run is."""
        elapsed = time.monotonic() - self._began
        done = state.global_step - self._first_step
        return Progress(
            step=state.global_step,
            total_steps=self._total,
            epoch=float(state.epoch or 0.0),
            loss=self._loss,
            tokens_per_second=done * self._tokens_per_step / elapsed if elapsed > 0 else 0.0,
            elapsed=elapsed,
            resumed_from=self._first_step or None,
        )

    def on_train_begin(self, args: object, state: TrainerState, control: object, **_: object) -> None:
        """The clock starts with the first batch, not with the imports."""
        self._began = time.monotonic()
        self._first_step = state.global_step
        self._show(state)

    def on_log(
        self, args: object, state: TrainerState, control: object, logs: Mapping[str, float], **_: object
    ) -> None:
        """Take the loss when the trainer has it."""
        if "loss" in logs:
            self._loss = float(logs["loss"])

    def on_step_end(self, args: object, state: TrainerState, control: object, **_: object) -> None:
        """Show every step."""
        self._show(state)

    def _show(self, state: TrainerState) -> None:
        if not self._first:
            return
        progress = self.progress(state)
        self._gauges.show(progress)
        if self._watcher is not None:
            self._watcher.show.remote(replace(progress))


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
