"""Tuning speed on the demo's data: non-padding tokens per training second, as ratios to KAITO's recipe.

Three recipes, each in a process of its own (so that peak memory is its own), in turns, medians over the rounds:

- packed: the job as `kairay run` runs it, with the preset's defaults (kairay_train.trainer);
- unpacked: the same with packing off, 8 padded rows a step (TRL's own path in the same trainer);
- kaito: what KAITO's fine_tuning.py does with its qlora-params-template: one row a step, no packing, loss on the
  whole conversation, r 8 on peft's default modules of all layers, activations recomputed.

All three train NF4 weights with double quantisation in the number format that the planner chooses for this machine.
A token counts when it is in a row; padding never counts, and a prefix that rows share counts once for each row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kairay.machine import probe_machine
from kairay.plan_sizes import compute_dtype
from kairay.presets import find_preset
from kairay.registry.models import model_cache_dir, resolve_model
from kairay.skus import local_machine

DATA = Path(__file__).resolve().parents[2] / "examples" / "quickstart" / "train.jsonl"
PRESET = "smollm2-135m-instruct"
GOAL_SPEED, GOAL_MEMORY = 2.5, 1.1
UNPACKED_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one recipe."""

    steps: int
    tokens: int
    seconds: float
    """Of training: from the first batch to the last step, without loading and quantising."""
    cpu_seconds: float
    peak_bytes: int

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def main() -> None:
    """Run the recipes in turns and print figures and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each recipe (default: 3)")
    parser.add_argument("--dtype", help="number format (default: as the planner chooses)")
    parser.add_argument("--recipe", choices=RECIPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    dtype = options.dtype or str(compute_dtype(local_machine(probe_machine())))
    if options.recipe:
        print(json.dumps(asdict(RECIPES[options.recipe](dtype))))
        return
    runs: dict[str, list[Measured]] = {name: [] for name in RECIPES}
    for n in range(options.rounds):
        for name in RECIPES:
            runs[name].append(_in_own_process(name, dtype))
            print(f"round {n + 1} {name}: {runs[name][-1].speed:.0f} tokens/s", file=sys.stderr)
    _report(runs, dtype)


def _in_own_process(recipe: str, dtype: str) -> Measured:
    command = [sys.executable, __file__, "--recipe", recipe, "--dtype", dtype]
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{recipe} failed:\n{done.stderr[-4000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _report(runs: dict[str, list[Measured]], dtype: str) -> None:
    peer = runs["kaito"]
    table = Table(
        "recipe", "steps", "tokens", "tokens/s", "× kaito", "tokens/CPU-s", "× kaito", "peak GiB", "× kaito"
    )
    for name, measured in runs.items():
        figures: list[str] = []
        for value, form in ((_speed, ".0f"), (_cpu_speed, ".0f"), (_peak, ".2f")):
            mine, theirs = (statistics.median(value(run) for run in of) for of in (measured, peer))
            figures += [f"{mine:{form}}", f"{mine / theirs:.2f}"]
        table.add_row(name, str(measured[0].steps), str(measured[0].tokens), *figures)
    console = Console(width=110)
    console.print(f"{PRESET}, {dtype}, {os.cpu_count()} CPUs, median of {len(peer)} rounds in turns")
    console.print(table)
    console.print(f"goal: packed ≥ {GOAL_SPEED} × the tokens/s of kaito at ≤ {GOAL_MEMORY} × its memory")


def _speed(run: Measured) -> float:
    return run.speed


def _cpu_speed(run: Measured) -> float:
    return run.tokens / run.cpu_seconds


def _peak(run: Measured) -> float:
    return run.peak_bytes / 2**30


def run_packed(dtype: str) -> Measured:
    """The demo's own run, to its end."""
    return _run_kairay(dtype, packing=True, parameters={})


def run_unpacked(dtype: str) -> Measured:
    """Two epochs of the same without packing."""
    arguments = {"per_device_train_batch_size": UNPACKED_ROWS, "num_train_epochs": 2}
    return _run_kairay(dtype, packing=False, parameters={"TrainingArguments": arguments})


def _run_kairay(dtype: str, *, packing: bool, parameters: dict[str, object]) -> Measured:
    """The worker's loop in this process: Ray Train's local mode starts no Ray."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    from kairay_train.config import TuneConfig
    from kairay_train.job import WorkerJob
    from kairay_train.prepare import check_data, tokenise
    from kairay_train.settings import resolve
    from kairay_train.trainer import train_worker

    with tempfile.TemporaryDirectory() as storage:
        config = TuneConfig(
            run="bench", workspace="bench", preset=PRESET, data=(str(DATA),), output=f"oci:{storage}:bench",
            storage=Path(storage), dtype=dtype, packing=packing, parameters=parameters,
        )  # fmt: skip
        settings, model = resolve(config, find_preset(PRESET)), _model()
        table = tokenise(check_data(config, settings, Path(storage)), settings, model, _silent)
        clock = TrainingClock()
        job = WorkerJob(
            run="bench", workspace="bench", model=model, settings=settings, device=config.device,
            threads=os.cpu_count() or 1, deepspeed=None, table=table, watcher=clock,
        )  # fmt: skip
        TorchTrainer(
            lambda _: train_worker(job), train_loop_config={}, scaling_config=ScalingConfig(num_workers=0)
        ).fit()
    return clock.measured(tokens=table.tokens / len(table) * settings.micro_batch * settings.accumulation)


class TrainingClock:
    """Stands where a Ray actor would that watches the trainer: takes the time of the first and the last word."""

    def __init__(self) -> None:
        self.show = self
        self._seen: list[tuple[int, float, float]] = []

    def remote(self, progress: Any) -> None:
        """Called before the first step and after every step."""
        self.tick(progress.step)

    def tick(self, step: int) -> None:
        """Note the time after this step."""
        self._seen.append((step, time.monotonic(), time.process_time()))

    def measured(self, *, tokens: float) -> Measured:
        """The figures, with `tokens` in an average step."""
        (_, wall, cpu), (steps, wall_end, cpu_end) = self._seen[0], self._seen[-1]
        return Measured(
            steps=steps,
            tokens=round(tokens * steps),
            seconds=wall_end - wall,
            cpu_seconds=cpu_end - cpu,
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )


def run_kaito(dtype: str) -> Measured:
    """KAITO's recipe for half an epoch; Hugging Face's own parts, put together as KAITO 0.12 does."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from transformers import DataCollatorForLanguageModeling as Collator
    from trl import SFTConfig, SFTTrainer

    number_format = getattr(torch, dtype)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=number_format,
    )
    folder = _model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=number_format, quantization_config=quantised, device_map={"": "cpu"}
    )
    model = get_peft_model(
        prepare_model_for_kbit_training(model), LoraConfig(r=8, lora_alpha=8, task_type="CAUSAL_LM")
    )
    rows = Dataset.from_list([json.loads(line) for line in DATA.read_text("utf-8").splitlines()])
    clock = TrainingClock()

    class Steps(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_train_begin(self, args: object, state: Any, control: object, **_: object) -> None:
            clock.tick(state.global_step)

        def on_step_end(self, args: object, state: Any, control: object, **_: object) -> None:
            clock.tick(state.global_step)

    with tempfile.TemporaryDirectory() as output:
        arguments = SFTConfig(
            output_dir=output, per_device_train_batch_size=1, max_steps=len(rows) // 2, save_strategy="no",
            report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, gradient_checkpointing=True,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=rows, processing_class=tokenizer,
            data_collator=Collator(tokenizer, mlm=False), callbacks=[Steps()],
        )  # fmt: skip
        tokens = sum(map(len, trainer.train_dataset["input_ids"])) / len(rows)
        trainer.train()
    return clock.measured(tokens=tokens)


def _model() -> Path:
    return resolve_model(find_preset(PRESET), override=None, cache=model_cache_dir(), report=_silent)


def _silent(_: str) -> None:
    return None


RECIPES: dict[str, Callable[[str], Measured]] = {
    "packed": run_packed,
    "unpacked": run_unpacked,
    "kaito": run_kaito,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
