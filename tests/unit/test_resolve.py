"""Any model as a preset: folders, OCI artifacts, the hub's cache and the hub, and `kairay models inspect` on them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml

from answering import COMMIT, SMALL_LLAMA, AnsweringServer, answering_server, listing
from command_line import exit_code
from kairay.cli.named_model import named_preset
from kairay.errors import InputError, TransientError
from kairay.plan import PlanTarget
from kairay.presets import SourceKind, TuningMethod, find_preset, parse_preset, render_preset
from kairay.registry import artifact
from kairay.registry.model_files import cached_snapshot, read_artifact, read_hub
from kairay.registry.model_folder import check_model_folder
from kairay.registry.models import resolve_model
from kairay.registry.resolve import NOT_IN_PODS, preset_of, resolve_preset

CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n\nlicense: other\n"


def write_weights(path: Path, tensors: Mapping[str, tuple[str, int]]) -> None:
    """A safetensors file of tensors by name: their number format and bytes."""
    header, at = {}, 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def model_folder(path: Path, *, config: Mapping[str, Any] = SMALL_LLAMA) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    write_weights(path / "model.safetensors", {"a": ("BF16", 600), "b": ("F32", 400)})
    return path


def hub_cache(home: Path, model_id: str, *, main_at: str | None = COMMIT) -> Path:
    """HF_HOME with one model in its cache; the snapshot's folder."""
    kept = home / "hub" / f"models--{model_id.replace('/', '--')}"
    snapshot = model_folder(kept / "snapshots" / COMMIT)
    if main_at is not None:
        (kept / "refs").mkdir()
        (kept / "refs" / "main").write_text(main_at)
    return snapshot


def test_a_folder_is_a_preset_of_what_its_files_say(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "README.md").write_text(CARD)
    preset = resolve_preset(str(folder))
    assert preset.name == preset.model.id == str(folder)
    assert (preset.model.layers, preset.model.head_dim, preset.model.weight_bytes) == (2, 16, 1000)
    assert (preset.model.license, preset.model.mirrorable) == ("apache-2.0", True)
    assert preset.sources[0].kind is SourceKind.FOLDER
    assert preset.tuning is not None
    assert set(preset.tuning.methods) == set(TuningMethod)


def test_its_weights_are_the_folder_itself(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    preset = resolve_preset(str(folder))
    assert resolve_model(preset, override=None, cache=tmp_path / "cache", report=print) == folder


def test_a_relative_path_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve_preset("./mine").name == str(folder)


def test_a_word_of_the_catalogue_is_never_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_folder(tmp_path / "phi-4")
    model_folder(tmp_path / "microsoft" / "phi-4")
    model_folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve_preset("phi-4") is resolve_preset("microsoft/phi-4") is find_preset("phi-4")
    with pytest.raises(InputError, match="there is no preset 'mine'"):
        resolve_preset("mine")


def test_weights_in_several_files_are_added_up(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    write_weights(folder / "model-2.safetensors", {"c": ("BF16", 500)})
    shards = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert resolve_preset(str(folder)).model.weight_bytes == 1500


def test_config_and_index_are_enough_when_the_weights_are_elsewhere(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {"total_size": 9000}, "weight_map": {"a": "model-1.safetensors"}})
    )
    assert resolve_preset(str(folder)).model.weight_bytes == 9000
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(InputError, match=r"no metadata\.total_size"):
        resolve_preset(str(folder))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "[]", r"config\.json: not a JSON object"),
        ("config.json", "{", r"config\.json: not JSON"),
        ("config.json", '{"hidden_size": 64}', "no model_type in it"),
        ("config.json", '{"hidden_size": 64, "model_type": "llama"}', "num_hidden_layers is missing"),
        ("model.safetensors", "weights", "not a safetensors file"),
        ("model.safetensors.index.json", "[]", None),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, said: str | None) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / file).write_text(content)
    if said is None:
        assert resolve_preset(str(folder)).model.weight_bytes == 1000
    else:
        with pytest.raises(InputError, match=said):
            resolve_preset(str(folder))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("model.gguf",), r"its weights are model\.gguf.*; take the model that it was made of"),
        (
            ("adapter_config.json", "adapter_model.safetensors"),
            "it is an adapter and no model; name the model",
        ),
        (("params.json", "consolidated.00.pth"), "its weights are in their maker's own format"),
    ],
)
def test_what_needs_no_config_is_told_by_what_it_is(
    tmp_path: Path, files: tuple[str, ...], said: str
) -> None:
    folder, reference = tmp_path / "mine", f"oci:{tmp_path / 'layout'}:v1"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}")
    artifact.push_directory(folder, reference, media=artifact.ArtifactMedia.MODEL, annotations={})
    for name in (str(folder), reference):
        with pytest.raises(InputError, match=said):
            resolve_preset(name)
    with pytest.raises(InputError, match=said):
        check_model_folder(folder)
    for name in files:
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"config\.json: no such file; a model folder has a config\.json"):
        resolve_preset(str(folder))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "./nowhere", "~/nowhere/at/all"])
def test_a_folder_that_is_not_there_is_said_so(path: str) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        resolve_preset(path)


def test_a_quantised_model_and_one_of_an_unknown_architecture_are_served_only(tmp_path: Path) -> None:
    awq = model_folder(
        tmp_path / "awq", config=SMALL_LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    )
    strange = model_folder(tmp_path / "strange", config=SMALL_LLAMA | {"architectures": ["OfTomorrow"]})
    assert resolve_preset(str(awq)).tuning is None
    assert resolve_preset(str(strange)).tuning is None


def test_an_oci_artifact_is_looked_at_without_its_weights(tmp_path: Path) -> None:
    reference = f"oci:{tmp_path / 'layout'}:v1"
    artifact.push_directory(
        model_folder(tmp_path / "mine"), reference, media=artifact.ArtifactMedia.MODEL, annotations={}
    )
    preset = resolve_preset(reference)
    assert preset.name == reference
    assert (preset.sources[0].kind, preset.sources[0].name) == (SourceKind.IMAGE, reference)
    size = (tmp_path / "mine" / "model.safetensors").stat().st_size
    assert (preset.model.layers, preset.model.weight_bytes) == (2, size)
    pulled = resolve_model(preset, override=None, cache=tmp_path / "cache", report=print)
    assert (pulled / "model.safetensors").stat().st_size == size


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_oci_artifact_that_is_no_model_is_refused(tmp_path: Path, missing: str) -> None:
    folder, reference = model_folder(tmp_path / "mine"), f"oci:{tmp_path / 'layout'}:v1"
    (folder / missing).unlink()
    artifact.push_directory(folder, reference, media=artifact.ArtifactMedia.MODEL, annotations={})
    with pytest.raises(InputError, match="so it is no model"):
        resolve_preset(reference)
    with pytest.raises(InputError, match="does not exist; check its name and tag"):
        resolve_preset(f"oci:{tmp_path / 'layout'}:v2")


@pytest.mark.parametrize("main_at", [COMMIT, "d" * 40, None])
def test_the_hubs_cache_is_found_by_its_main_or_by_any_snapshot(tmp_path: Path, main_at: str | None) -> None:
    snapshot = hub_cache(tmp_path, "org/model", main_at=main_at)
    assert cached_snapshot("org/model", {"HF_HOME": str(tmp_path)}) == snapshot
    assert cached_snapshot("org/model", {"HF_HUB_CACHE": str(tmp_path / "hub")}) == snapshot
    assert cached_snapshot("org/other", {"HF_HOME": str(tmp_path)}) is None


def test_a_cached_hub_id_needs_no_network_and_is_pinned_to_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_cache(tmp_path, "org/model")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    preset = resolve_preset("org/model")
    assert (preset.name, preset.model.revision) == ("org/model", COMMIT)
    assert (preset.sources[0].kind, preset.sources[0].name) == (SourceKind.HUB, "org/model")


def test_offline_a_hub_id_that_is_not_cached_fails_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"org/model is not in the hub's cache.*HF_HUB_OFFLINE"):
        read_hub("org/model", {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    closed = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    with pytest.raises(TransientError, match=r"the hub cannot be reached for org/model \(ConnectionError\)"):
        read_hub("org/model", closed)


def test_the_hub_is_asked_for_the_listing_and_the_config_alone(hub: AnsweringServer, tmp_path: Path) -> None:
    hub.answers["/api/models/org/model?blobs=true"] = listing()
    hub.answers[f"/org/model/resolve/{COMMIT}/config.json"] = SMALL_LLAMA
    preset = preset_of(read_hub("org/model", hub.environment(tmp_path, HF_TOKEN="secret")))
    assert (preset.model.license, preset.model.gated, preset.model.revision) == ("mit", True, COMMIT)
    assert preset.model.weight_bytes == 3000
    assert hub.tokens == ["Bearer secret"] * 2


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("files", "size"),
    [
        (
            {
                "model-1.safetensors": 10,
                "model-2.safetensors": 20,
                "original/model.safetensors": 30,
                INDEX: 1,
            },
            30,
        ),
        ({"model.safetensors": 10, "consolidated.safetensors": 10}, 10),
        ({"model.safetensors": 10, "model-1.safetensors": 5, "model-2.safetensors": 5, INDEX: 1}, 10),
        ({"part-1.safetensors": 7, "part-2.safetensors": 8, "consolidated.safetensors": 15, INDEX: 1}, 15),
    ],
)
def test_weights_that_lie_there_twice_are_counted_once(
    hub: AnsweringServer, tmp_path: Path, files: dict[str, int], size: int
) -> None:
    hub.publish("org/model", SMALL_LLAMA, listing({"config.json": 700, **files}))
    assert read_hub("org/model", hub.environment(tmp_path)).published.weight_bytes == size
    content = {name: bytes(count) for name, count in files.items()}
    reference = hub.push("team/mine", "v1", {"config.json": json.dumps(SMALL_LLAMA).encode(), **content})
    assert read_artifact(reference).published.weight_bytes == size


NOT_LOADED = [
    (
        ("consolidated.safetensors", "params.json", "tekken.json"),
        "in their maker's own format only (consolidated.s",
    ),
    (("consolidated.00.pth", "params.json"), "in their maker's own format only (consolidated.00.pth)"),
    (("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"), "save the model as safetensors"),
    (("flax_model.msgpack", "tf_model.h5"), "its weights are flax_model.msgpack, a format that can run code"),
    (("mine-Q4_K_M.gguf",), "its weights are mine-Q4_K_M.gguf, a format that is not loaded here"),
    (("adapter_config.json", "adapter_model.safetensors"), "it is an adapter and no model"),
    (("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), f"{INDEX} is missing"),
    (
        ("weights.safetensors",),
        "its weights are called weights.safetensors; what is loaded is model.safetensors",
    ),
    (
        ("unet/model.safetensors", "README.md"),
        f"no model.safetensors in it and no {INDEX}, so it is no model",
    ),
    ((INDEX,), "its weights are empty or not there"),
]


@pytest.mark.parametrize(("names", "said"), NOT_LOADED)
def test_a_model_that_a_pod_could_not_load_is_refused_wherever_it_is(
    hub: AnsweringServer, tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    config = json.dumps(SMALL_LLAMA | {"model_type": "llama"}).encode()
    hub.publish("org/model", SMALL_LLAMA, listing({"config.json": 700, **dict.fromkeys(names, 900)}))
    with pytest.raises(InputError) as at_the_hub:
        read_hub("org/model", hub.environment(tmp_path))
    assert at_the_hub.value.message.startswith("org/model on the hub: ")
    reference = hub.push("team/mine", "v1", {"config.json": config, **dict.fromkeys(names, b"1" * 900)})
    with pytest.raises(InputError) as in_a_registry:
        read_artifact(reference)
    folder = tmp_path / "mine"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}")
    (folder / "config.json").write_bytes(config)
    with pytest.raises(InputError) as in_a_folder:
        check_model_folder(folder)
    if names != (INDEX,):  # a folder's index is read
        assert said in in_a_folder.value.message
    assert said in at_the_hub.value.message
    assert said in in_a_registry.value.message


def test_inspect_and_plan_refuse_it_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    file = tmp_path / "w.yaml"
    file.write_text(yaml.safe_dump({
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine"},
        "resource": {"labelSelector": {"matchLabels": {"a": "b"}}},
        "inference": {"preset": {"name": str(folder)}},
    }))  # fmt: skip
    for command in (("models", "inspect", str(folder)), ("plan", str(file), "--local")):
        assert exit_code(*command) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "in their maker's own format only (consolidated.safetensors)" in said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (404, "the hub knows no such model, or it is private or gated: then set HF_TOKEN"),
        (401, "the hub knows no such model"),
        (403, "the hub wants its licence accepted first"),
        ([], "not a JSON object"),
        (listing({"model.safetensors": 5}), r"org/model on the hub: no config\.json in it"),
        (listing({"config.json": 5, "model.safetensors": 0}), "its weights are empty"),
    ],
)
def test_what_the_hub_refuses_or_lacks_is_said_in_a_sentence(
    hub: AnsweringServer, tmp_path: Path, answer: object, said: str
) -> None:
    hub.answers["/api/models/org/model?blobs=true"] = answer
    with pytest.raises(InputError, match=said):
        read_hub("org/model", hub.environment(tmp_path))


@pytest.mark.parametrize("answer", [500, b"not json"])
def test_a_hub_that_is_unwell_may_be_asked_again(
    hub: AnsweringServer, tmp_path: Path, answer: object
) -> None:
    hub.answers["/api/models/org/model?blobs=true"] = answer
    with pytest.raises(TransientError, match="the hub cannot be reached for org/model"):
        read_hub("org/model", hub.environment(tmp_path))


def test_inspect_prints_a_preset_that_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "Mine-2B")
    assert exit_code("models", "inspect", str(folder)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "# weights: 1000 B (BF16 600 B, F32 400 B)\n# not known from its files: license\n"
    )
    preset = parse_preset(printed, "mine-2b.yaml")
    assert preset.model == resolve_preset(str(folder)).model


def test_inspect_gives_a_program_the_same_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "mine")
    assert exit_code("models", "inspect", str(folder), "-o", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["unknown"] == ["license"]
    assert data["weightBytes"] == {"BF16": 600, "F32": 400}
    assert data["preset"]["model"]["hiddenSize"] == 64


def test_inspect_of_a_catalogues_name_shows_its_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("models", "inspect", "gpt-oss-20b") == 0
    assert parse_preset(capsys.readouterr().out, "gpt-oss-20b.yaml") == find_preset("gpt-oss-20b")


def test_inspect_of_nothing_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("models", "inspect", "phi-2") == 2
    assert "deprecated since December 2025" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["phi-4", "smollm2-135m-instruct", "gemma-4-31b-it"])
def test_a_preset_that_is_written_reads_back_the_same(name: str) -> None:
    preset = find_preset(name)
    assert parse_preset(render_preset(preset), f"{name}.yaml") == preset


def serving(file: Path, model: str) -> Path:
    """A Workspace that serves the model, written to the file."""
    manifest = {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "mine"},
        "resource": {"labelSelector": {"matchLabels": {"app": "mine"}}},
        "inference": {"preset": {"name": model}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(manifest))
    return file


def test_a_workspace_may_name_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "mine")
    file = serving(tmp_path / "workspace.yaml", str(folder))
    assert exit_code("plan", "--local", str(file), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["preset"] == str(folder)
    assert exit_code("plan", str(file)) == 2
    assert f"preset.name: {folder} is a folder, {NOT_IN_PODS}" in capsys.readouterr().err


def test_a_folder_that_is_named_like_a_preset_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder(tmp_path / "good")
    monkeypatch.chdir(tmp_path)
    assert exit_code("models", "inspect", "good") == 2
    assert "there is a folder good here: write ./good" in capsys.readouterr().err
    assert exit_code("models", "inspect", "./good") == 0
    capsys.readouterr()
    assert exit_code("models", "inspect", "other") == 2
    assert "there is a folder" not in capsys.readouterr().err
    for target, said in ((PlanTarget.LOCAL, ": write ./good"), (PlanTarget.CLUSTER, f", {NOT_IN_PODS}")):
        with pytest.raises(InputError, match=re.escape(f"there is a folder good here{said}")):
            named_preset("good", target, tmp_path)


def test_a_folder_that_a_file_names_counts_from_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "beside" / "good")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("./good", "../beside/good"):
        assert named_preset(name, PlanTarget.LOCAL, tmp_path / "beside").name == str(folder)
    assert named_preset("beside/good", PlanTarget.LOCAL, tmp_path).name == str(folder)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/good: no such model folder")):
        named_preset("./good", PlanTarget.LOCAL, tmp_path)
    file = serving(tmp_path / "beside" / "workspace.yaml", "./good")
    assert exit_code("plan", "--local", str(file), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["preset"] == str(folder)


@pytest.mark.local
def test_the_demos_model_is_what_its_preset_says(tmp_path: Path) -> None:
    known = find_preset("smollm2-135m-instruct")
    try:
        distribution(known.sources[0].name)
    except PackageNotFoundError:
        pytest.skip(f"the Python package {known.sources[0].name} is not installed (`make demo` brings it)")
    folder = resolve_model(known, override=None, cache=tmp_path, report=print)
    model = resolve_preset(str(folder)).model
    for fact in ("layers", "hidden_size", "heads", "kv_heads", "head_dim", "vocab_size", "intermediate_size"):
        assert getattr(model, fact) == getattr(known.model, fact), fact
    # Converted to float32; the preset's bytes are those of bfloat16.
    assert model.weight_bytes == pytest.approx(2 * known.model.weight_bytes, rel=1e-3)


@pytest.fixture
def hub() -> Iterator[AnsweringServer]:
    with answering_server() as server:
        yield server
