"""Where the weights are: a preset's model folder and an adapter's, fetched when they are not here yet."""

from __future__ import annotations

import logging
from pathlib import Path

from kairay.errors import InputError
from kairay.presets import find_preset

ADAPTER_CONFIG = "adapter_config.json"


def say(sentence: str) -> None:
    """A line for the replica's log."""
    logging.getLogger("ray.serve").info(sentence)


def model_folder(preset: str, override: str | None) -> Path:
    """The folder with the model's weights; the first call converts or pulls. Errors as `resolve_model`'s."""
    from kairay.registry.models import model_cache_dir, resolve_model

    return resolve_model(find_preset(preset), override=override, cache=model_cache_dir(), report=say)


def adapter_folder(source: str, scratch: Path) -> Path:
    """The folder with an adapter: `source` itself, or what is pulled from it into `scratch`."""
    folder = Path(source)
    if not folder.is_dir():
        from kairay.registry.artifact import pull
        from kairay.registry.reference import ArtifactReference

        folder = scratch / "adapter"
        pull(ArtifactReference.parse(source), folder, credentials=None)
    if not (folder / ADAPTER_CONFIG).is_file():
        raise InputError(f"{source} is not a LoRA adapter: it has no {ADAPTER_CONFIG}")
    return folder
