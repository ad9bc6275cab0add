"""The revision of a Workspace: six hex characters that change only when the work itself was written anew.

A revision decides whether a GPU is asked for again, so what goes into it is listed here by hand, and golden
hashes hold it still between releases. Not in it: defaults, secrets, `serve`, scaling, machines, prices,
labels and deprecated fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kairay.references import ImageReference
from kairay.workspace_object import Workspace
from kairay.workspace_sources import DataSource, VolumeSource
from kairay.workspace_work import InferenceSpec, PresetRef, TuningSpec
from kairay.workspace_yaml import read_yaml

REVISION_ALGORITHM = 1
"""Stored beside every revision; a change of what `revision` looks at is another number."""


def revision(workspace: Workspace, config_content: str | None = None) -> str:
    """Six hex characters of the work's hash.

    `config_content` is the text under `training_config.yaml` (or `inference_config.yaml`) of the ConfigMap
    that `config` names; its values count, its layout and comments do not. InputError when it is not YAML.
    """
    work = _tuning(workspace.tuning) if workspace.tuning else _inference(workspace.inference)
    identity = _given(algorithm=REVISION_ALGORITHM, config=_values(config_content), **work)
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _values(config_content: str | None) -> list[Any] | None:
    documents = read_yaml(config_content or "", "the config's content")
    return [document for document in documents if document is not None] or None


def _tuning(tuning: TuningSpec) -> dict[str, Any]:
    return _given(
        preset=_preset(tuning.preset),
        method=str(tuning.method),
        input=_source(tuning.input),
        output=_given(volume=_volume(tuning.output.volume_source), image=_text(tuning.output.image)),
        workers=tuning.workers,
    )


def _inference(inference: InferenceSpec | None) -> dict[str, Any]:
    assert inference is not None  # a Workspace has exactly one of the two
    return _given(
        preset=_preset(inference.preset) if inference.preset else None,
        template=inference.template,
        adapters=[_source(each.source) | _given(strength=each.strength) for each in inference.adapters]
        or None,
    )


def _preset(preset: PresetRef) -> dict[str, Any]:
    return _given(name=preset.name, image=_text(preset.options.image))


def _source(source: DataSource) -> dict[str, Any]:
    return _given(
        name=source.name,
        urls=[str(url) for url in source.urls] or None,
        volume=_volume(source.volume_source),
        image=_text(source.image),
    )


def _volume(volume: VolumeSource | None) -> dict[str, Any] | None:
    return volume.model_dump(mode="json", by_alias=True, exclude_defaults=True) if volume else None


def _text(image: ImageReference | None) -> str | None:
    return str(image) if image else None


def _given(**fields: Any) -> dict[str, Any]:
    """Without what was not given, so that a field to come changes no old hash."""
    return {name: value for name, value in fields.items() if value is not None}
