"""The adapter's files as values: collected from a trained model, completed by the driver, written as a
folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel

METADATA_FILE = "kairay.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """adapter_config.json and adapter_model.safetensors, by content."""

    config: bytes
    weights: bytes


def collect_adapter(model: PeftModel) -> AdapterFiles:
    """The files that peft would save."""
    with tempfile.TemporaryDirectory(prefix="kairay-") as folder:
        model.save_pretrained(folder, safe_serialization=True)
        return AdapterFiles(
            config=(Path(folder) / "adapter_config.json").read_bytes(),
            weights=(Path(folder) / "adapter_model.safetensors").read_bytes(),
        )


def write_adapter(
    files: AdapterFiles,
    into: Path,
    *,
    model_folder: Path,
    base_model: str,
    chat_template: str | None,
    metadata: Mapping[str, Any],
) -> None:
    """Fill `into` (an empty folder) with the adapter, the base model's tokenizer and chat template, and
    kairay.json.

    `base_model` is the hub id that adapter_config.json names; `chat_template` replaces the tokenizer's own.
    """
    config = {**json.loads(files.config), "base_model_name_or_path": base_model}
    _write_json(into / "adapter_config.json", config)
    (into / "adapter_model.safetensors").write_bytes(files.weights)
    for name in _TOKENIZER_FILES:
        if (model_folder / name).is_file():
            shutil.copyfile(model_folder / name, into / name)
    if chat_template is not None:
        (into / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    _write_json(into / METADATA_FILE, metadata)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
