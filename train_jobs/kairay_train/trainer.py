"""The loop that every Ray Train worker runs: load, quantise, add LoRA, train, hand the adapter back."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel, set_seed
from trl import SFTConfig

from kairay_train.adapter import collect_adapter
from kairay_train.batches import ROWS_ATTENTION, FlatCollator
from kairay_train.checkpoints import ReportCheckpoints, checkpoint_interval
from kairay_train.config import DataType, Device
from kairay_train.frozen_layers import FrozenLayers, can_cache
from kairay_train.job import Fault, Trained, WorkerJob
from kairay_train.meter import Meter
from kairay_train.model import dequantise, first_tuned_layer, load_base, lora_config
from kairay_train.pack_table import PackTable
from kairay_train.settings import Settings, total_steps
from kairay_train.sft import PlainTrainer, RowsTrainer, TrlCollator


def train_worker(job: WorkerJob) -> Trained | Fault | None:
    """Ray Train's loop; the first worker's result is the run's.

    What a lone worker's own process cannot do is a Fault and ends the run; among several, an error may be the
    echo of a lost one, so it is raised and Ray Train tries again.
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
        if context.get_world_size() == 1:
            _forget_group()
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


def _forget_group() -> None:
    """A lone worker needs no DistributedDataParallel; accelerate would see these variables and wrap the model."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)


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
        self.meter = Meter(job, table, world, total)
        self.trainer = (RowsTrainer if rows else PlainTrainer)(
            model=model,
            args=_arguments(job, folder, total),
            train_dataset=Dataset.from_dict({"pack": list(range(len(table)))}),
            processing_class=tokenizer,
            data_collator=FlatCollator(table)
            if rows
            else TrlCollator(table, _pad_token(tokenizer), flat=settings.packing),
            peft_config=lora,
            callbacks=[
                self.meter,
                ReportCheckpoints(
                    checkpoint_interval(settings, total), clock=time.monotonic, progress=self.meter.progress
                ),
            ],
        )
        if job.device is Device.CPU or settings.dtype is DataType.FLOAT32:
            _in_float32(self.trainer.model)  # TRL made QLoRA adapters bfloat16
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
    return dequantise(model.get_decoder().layers[first_layer:], settings.dtype)


def _pad_token(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _in_float32(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


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


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
