"""Any model as a preset: one of the catalogue, a folder, an OCI artifact, a hub id in the hub's cache or on the hub.

A model of the catalogue is never looked up elsewhere. Another's facts come from its own files, and its preset is
named by what finds it again in a pod: the folder's path, the reference, the hub id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kairay.errors import InputError
from kairay.model_config import read_facts
from kairay.model_facts import ModelFacts, Quantisation
from kairay.presets import (
    ModelSource,
    Preset,
    SourceKind,
    TuningDefaults,
    TuningFacts,
    TuningMethod,
    find_preset,
)
from kairay.registry.model_files import HUB_ID, ModelFiles, read_artifact, read_folder, read_hub
from kairay.registry.reference import LAYOUT_PREFIX, names_a_registry

_SPLIT: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED: Final = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
_TARGETS: Final = {
    "LlamaForCausalLM": _SPLIT, "MistralForCausalLM": _SPLIT, "Qwen2ForCausalLM": _SPLIT, "Qwen3ForCausalLM": _SPLIT,
    "Phi3ForCausalLM": _FUSED,
}  # fmt: skip
"""Architecture -> the linear modules of its layers, by transformers' names."""
_DEFAULTS: Final = TuningDefaults(
    epochs=3, learning_rate=1e-4, rank=16, alpha=32, dropout=0.05, sequence_length=2048, batch_tokens=16384,
    warmup_steps=10,
)  # fmt: skip


_FOLDERS: Final = ("/", ".", "~")
NOT_IN_PODS: Final = (
    "which pods on a cluster do not have; push it (cd FOLDER && oras push REGISTRY/NAME:TAG *) and give"
    " REGISTRY/NAME:TAG"
)
"""Of a folder that is named as a model for a cluster."""


def refuse_folder(name: str) -> None:
    """InputError for the name of a model that only one machine has: a path, or `oci:/layout:tag`."""
    if name.startswith((*_FOLDERS, LAYOUT_PREFIX)):
        raise InputError(f"preset.name: {name} is a folder, {NOT_IN_PODS}")


def resolve_preset(name: str) -> Preset:
    """The preset of this name, or one made from the files of the model that it names.

    InputError: no such preset, folder, artifact or model, or its config lacks something. TransientError: the hub or a
    registry cannot be reached.
    """
    try:
        return find_preset(name)
    except InputError:
        files = read_model(name)
        if files is None:
            raise
    return preset_of(files)


def read_model(name: str) -> ModelFiles | None:
    """The files of the model that a path, a reference or a hub id names; None for a bare word."""
    path = Path(name).expanduser()
    if "/" in name and path.is_dir():
        return read_folder(path.resolve(), str(path.resolve()))
    if name.startswith(LAYOUT_PREFIX) or names_a_registry(name):
        return read_artifact(name)
    if name.startswith(_FOLDERS):
        raise InputError(f"{name}: no such model folder; give a folder with config.json and *.safetensors")
    return read_hub(name) if HUB_ID.fullmatch(name) else None


def preset_of(files: ModelFiles) -> Preset:
    """A preset from a model's own files; InputError when the config lacks what every model has."""
    model = read_facts(files.config, files.published)
    return Preset(
        name=model.id,
        model=model,
        sources=(ModelSource(kind=_kind(files), name=model.id),),
        tuning=_tuning(model),
    )


def _kind(files: ModelFiles) -> SourceKind:
    """Where the weights come from: a snapshot of the hub's cache stands for the hub."""
    if files.folder is not None and files.published.id == str(files.folder):
        return SourceKind.FOLDER
    return SourceKind.HUB if HUB_ID.fullmatch(files.published.id) else SourceKind.IMAGE


def _tuning(model: ModelFacts) -> TuningFacts | None:
    """Only what stands unquantised and whose modules are known."""
    targets = _TARGETS.get(model.architecture)
    if targets is None or model.quantisation is not Quantisation.NONE:
        return None
    return TuningFacts(methods=tuple(TuningMethod), target_modules=targets, defaults=_DEFAULTS)
