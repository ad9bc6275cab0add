"""Where the weights are: a preset's model folder and an adapter's, fetched when they are not here yet."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from kairay.errors import InputError

ADAPTER_CONFIG = "adapter_config.json"


def say(sentence: str) -> None:
    """A line for the replica's log."""
    logging.getLogger("ray.serve").info(sentence)


def model_folder(preset: str, override: str | None) -> Path:
    """The folder with the model's weights; the first call converts or pulls. Errors as `resolve_model`'s."""
    from kairay.registry.models import model_cache_dir, resolve_model
    from kairay.registry.resolve import resolve_preset

    return resolve_model(resolve_preset(preset), override=override, cache=model_cache_dir(), report=say)


def adapter_folder(source: str, scratch: Path) -> Path:
    """The folder with an adapter: `source` itself, or what is pulled from it into `scratch`."""
    folder = Path(source)
    if not folder.is_dir():
        from kairay.registry.artifact import pull
        from kairay.registry.reference import ArtifactReference

        folder = scratch / "adapter"
        pull(ArtifactReference.parse(source), folder, credentials=None)
    _check_is_lora(folder / ADAPTER_CONFIG, source)
    return folder


def _check_is_lora(config: Path, source: str) -> None:
    try:
        kind = json.loads(config.read_text("utf-8")).get("peft_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{source} is not a LoRA adapter: it has no readable {ADAPTER_CONFIG}") from error
    if kind != "LORA":
        raise InputError(f"{source} is a {kind} adapter; only LORA can be served")
