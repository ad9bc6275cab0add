"""One tuning run from request to artifact: resolve, fetch, check, tokenise, train, push.

Everything that can be wrong in a request or its data is found here, on a CPU, before a worker is asked for. A
run whose revision is at the output already is finished; one that was begun is resumed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kairay
from kairay.errors import HostError
from kairay.names import adapter_tag
from kairay.presets import Preset
from kairay.registry.annotations import REVISION
from kairay.registry.artifact import Artifact, ArtifactMedia, ArtifactReference, find, push_directory, tag
from kairay.registry.model_cache import model_cache_dir
from kairay.registry.models import resolve_model
from kairay.registry.resolve import resolve_preset
from kairay_train.adapter import write_adapter
from kairay_train.config import Device, TuneConfig
from kairay_train.job import ZERO2, Trained, TrainingGroup, WorkerJob
from kairay_train.metrics import Progress
from kairay_train.pack_table import PackTable
from kairay_train.prepare import check_data, tokenise
from kairay_train.private_token import ensure_token
from kairay_train.settings import Settings, resolve

STEP_SHARE = 0.05
"""A progress line is written each time this much more of the run is done."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run; `trained` is None when the adapter was there already."""

    adapter: Artifact
    revision: str
    trained: Trained | None

    def to_dict(self) -> dict[str, Any]:
        """The job's last line."""
        done = {
            "outcome": "Succeeded",
            "adapter": {"reference": str(self.adapter.reference), "digest": self.adapter.digest},
            "revision": self.revision,
            "alreadyThere": self.trained is None,
        }
        if self.trained is None:
            return done
        progress = self.trained.progress
        return done | {
            "steps": progress.step,
            "loss": progress.loss,
            "tokensPerSecond": round(progress.tokens_per_second, 1),
            "trainingSeconds": round(progress.elapsed, 2),
            "resumedFrom": progress.resumed_from,
            "peakBytes": self.trained.peak_bytes,
        }


def run(config: TuneConfig, *, say: Say) -> Outcome:
    """Do what `config` asks; raises the error tree. `say` takes lines for a person."""
    preset = resolve_preset(config.preset)
    settings = resolve(config, preset)
    for note in settings.notes:
        say(f"note: {note}")
    target = ArtifactReference.parse(config.output)
    if config.revision is not None and (found := _finished(target, config.revision)) is not None:
        return _already_there(found, config.revision, say)
    with tempfile.TemporaryDirectory(prefix="kairay-data-") as folder:
        data = check_data(config, settings, Path(folder))
        revision = config.revision or config.request_digest(data.report.digest)
        if config.revision is None and (found := _finished(target, revision)) is not None:
            return _already_there(found, revision, say)
        model = resolve_model(preset, override=config.model, cache=model_cache_dir(), report=say)
        table = tokenise(data, settings, model, say)
        digest = data.report.digest
    name = f"{config.run}-{_fingerprint(settings, table, model)}"
    trained = _train(config, settings, model, table, name, say)
    metadata = _metadata(config, preset, settings, digest, revision)
    adapter = _push(config, preset, settings, model, trained, metadata)
    shutil.rmtree(config.storage / name, ignore_errors=True)
    say(f"pushed {adapter.reference} ({adapter.digest})")
    return Outcome(adapter=adapter, revision=revision, trained=trained)


def _finished(target: Any, revision: str) -> Artifact | None:
    """The adapter of this revision, at the output's tag or under its own; the former is then set to it."""
    found = find(target)
    if found is not None and found.annotations.get(REVISION) == revision:
        return found
    own = find(target.with_tag(adapter_tag(_tag(target), revision)))
    if own is None or own.annotations.get(REVISION) != revision:
        return None
    return tag(own.reference, _tag(target))


def _already_there(found: Artifact, revision: str, say: Say) -> Outcome:
    say(f"revision {revision} is at {found.reference} already; nothing to do")
    return Outcome(adapter=found, revision=revision, trained=None)


def _tag(target: Any) -> str:
    name = target.tag or "latest"
    assert isinstance(name, str)
    return name


def _fingerprint(settings: Settings, table: PackTable, model: Path) -> str:
    """Names what a checkpoint belongs to, so that none is resumed with other data, settings or weights."""
    asked = json.dumps(asdict(settings), sort_keys=True, default=str)
    hasher = hashlib.sha256(asked.encode())
    hasher.update(str(model).encode())
    for part in (table.input_ids, table.labels, table.row_starts, table.pack_starts):
        hasher.update(part.tobytes())
    return hasher.hexdigest()[:6]


def _train(
    config: TuneConfig, settings: Settings, model: Path, table: PackTable, name: str, say: Say
) -> Trained:
    ensure_token(os.environ)
    # Ray is imported last: a request or data error is told seconds earlier.
    import ray

    from kairay_train.cluster import await_resources, connected, train

    try:
        config.storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"storage {config.storage}: {error.strerror}; name a folder you may write to"
        ) from error
    group = TrainingGroup(
        name=name,
        storage=config.storage,
        workers=config.workers,
        cpus=config.cpus_per_worker,
        gpus=config.gpus_per_worker,
        on_gpu=config.device is Device.CUDA,
        max_failures=config.max_failures,
        tuner_resource=config.tuner_resource,
    )
    with connected(config):
        await_resources(config)
        say(f"training on {config.workers} x {config.device} ({config.dtype})")
        job = WorkerJob(
            run=config.run,
            workspace=config.workspace,
            model=model,
            settings=settings,
            device=config.device,
            threads=config.cpus_per_worker,
            deepspeed=ZERO2 if config.deepspeed else None,
            table=ray.put(table),
        )
        return train(job, group, show=ProgressLines(say))


class ProgressLines:
    """Says how far a run is, every STEP_SHARE of it."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said = -1

    def __call__(self, progress: Progress) -> None:
        """Take one moment; most are not worth a line."""
        part = math.floor(progress.ratio / STEP_SHARE + 1e-6)
        if part > self._said:
            self._said = part
            self._say(progress.line())


def _metadata(
    config: TuneConfig, preset: Preset, settings: Settings, data_digest: str, revision: str
) -> dict[str, Any]:
    return {
        "baseModel": preset.model.id,
        "baseRevision": preset.model.revision,
        "dataDigest": data_digest,
        "kairayVersion": kairay.__version__,
        "license": preset.model.license,
        "method": str(config.method),
        "preset": preset.name,
        "revision": revision,
        "settings": {
            "alpha": settings.alpha,
            "batchRows": settings.micro_batch * settings.accumulation * config.workers,
            "bits": settings.bits,
            "dropout": settings.dropout,
            "dtype": str(settings.dtype),
            "epochs": settings.epochs,
            "layers": settings.layers,
            "learningRate": settings.learning_rate,
            "maxSteps": settings.max_steps,
            "packing": settings.packing,
            "rank": settings.rank,
            "scheduler": settings.scheduler,
            "seed": settings.seed,
            "sequenceLength": settings.sequence_length,
            "warmupSteps": settings.warmup_steps,
        },
        "workspace": config.workspace,
    }


def _push(
    config: TuneConfig,
    preset: Preset,
    settings: Settings,
    model: Path,
    trained: Trained,
    metadata: dict[str, Any],
) -> Artifact:
    target = ArtifactReference.parse(config.output)
    annotations = {
        REVISION: metadata["revision"],
        "dev.kairay.base-model": preset.model.id,
        "dev.kairay.base-revision": preset.model.revision or "",
        "dev.kairay.data-digest": metadata["dataDigest"],
        "dev.kairay.method": str(config.method),
        "dev.kairay.preset": preset.name,
        "dev.kairay.workspace": config.workspace,
        "org.opencontainers.image.licenses": preset.model.license,
    }
    with tempfile.TemporaryDirectory(prefix="kairay-adapter-") as folder:
        write_adapter(
            trained.adapter,
            Path(folder),
            model_folder=model,
            base_model=preset.model.id,
            chat_template=settings.chat_template,
            metadata=metadata,
        )
        adapter = push_directory(Path(folder), target, media=ArtifactMedia.ADAPTER, annotations=annotations)
    tag(target, adapter_tag(_tag(target), metadata["revision"]))
    return adapter
