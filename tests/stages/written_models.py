"""Models that a test writes down: a preset of some sources, a folder, an artifact."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

from kairay.presets import ModelSource, Preset, find_preset
from kairay.registry import artifact


def silent(_: str) -> None:
    return None


def preset_from(*sources: ModelSource) -> Preset:
    return replace(find_preset("smollm2-135m-instruct"), sources=sources)


def write_safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def model_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    write_safetensors(path / "model.safetensors")
    return path


def push_model(path: Path, reference: str, readme: str) -> None:
    folder = model_folder(path)
    (folder / "README.md").write_text(readme)
    target = artifact.ArtifactReference.parse(reference)
    artifact.push_directory(folder, target, media=artifact.ArtifactMedia.MODEL, annotations={})
