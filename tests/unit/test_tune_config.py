"""A tuning request, from a file or from flags, and the settings that follow from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kairay.errors import InputError
from kairay.presets import find_preset
from kairay_train.config import DataType, Device, TuneConfig, load_config
from kairay_train.qlora import main
from kairay_train.settings import Settings, resolve, steps_per_epoch, total_steps

PRESET = find_preset("smollm2-135m-instruct")


def request(**changes: Any) -> dict[str, Any]:
    return {
        "run": "mine-a1b2c3",
        "workspace": "mine",
        "revision": "a1b2c3",
        "preset": PRESET.name,
        "data": ["train.jsonl"],
        "output": "oci:/tmp/adapters:mine",
        "storage": "/tmp/runs",
        **changes,
    }


def settings(**changes: Any) -> Settings:
    return resolve(TuneConfig.model_validate(request(**changes)), PRESET)


def written(folder: Path, content: Any) -> Path:
    path = folder / "tune.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_file_that_the_control_side_writes_is_read(tmp_path: Path) -> None:
    full = request(
        model=None,
        method="qlora",
        workers=2,
        gpusPerWorker=1,
        cpusPerWorker=4,
        device="cuda",
        dtype="bfloat16",
        sequenceLength=2048,
        microBatch=1,
        accumulation=8,
        packing=True,
        deepspeed="zero2",
        gpuWaitSeconds=3600,
        maxFailures=3,
        checkpointSteps=None,
        parameters={"LoraConfig": {"r": 8}},
    )
    config = load_config(written(tmp_path, full))
    assert (config.device, config.dtype, config.micro_batch) == (Device.CUDA, DataType.BFLOAT16, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prset": "x"}, "prset: Extra inputs are not permitted"),
        ({"data": []}, "data: Tuple should have at least 1 item"),
        ({"workers": 0}, "workers: Input should be greater than or equal to 1"),
        ({"device": "cuda"}, "device is cuda, so gpusPerWorker must be at least 1"),
        ({"storage": "runs"}, "storage runs must be an absolute path"),
        ({"run": "../x"}, "run: String should match pattern"),
        ({"deepspeed": "zero9"}, "deepspeed: Input should be 'zero2'"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path, request(**changes))
    with pytest.raises(InputError) as raised:
        load_config(path)
    assert str(path) in raised.value.message
    assert message in raised.value.message


@pytest.mark.parametrize("content", ["", "not json", "[1]"])
def test_a_file_that_is_no_request_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"tune\.json"):
        load_config(written(tmp_path, content))


def test_defaults_are_the_presets() -> None:
    found = settings()
    assert PRESET.tuning is not None
    defaults = PRESET.tuning.defaults
    assert (found.rank, found.learning_rate, found.layers) == (
        defaults.rank,
        defaults.learning_rate,
        defaults.layers,
    )
    assert found.bits == 4
    assert found.sequence_length == defaults.sequence_length


def test_the_jobs_fields_win_over_the_preset_and_kaitos_sections_over_both() -> None:
    assert settings(sequenceLength=128).sequence_length == 128
    sections = {"TrainingArguments": {"max_length": 64, "num_train_epochs": 1}}
    found = settings(sequenceLength=128, parameters=sections)
    assert (found.sequence_length, found.epochs) == (64, 1.0)


def test_lora_does_not_quantise() -> None:
    assert settings(method="lora").bits is None


@pytest.mark.parametrize(
    ("method", "quantization", "message"),
    [
        ("lora", {"load_in_4bit": True}, "method lora does not quantise"),
        ("qlora", {"load_in_4bit": False}, "method qlora quantises"),
        ("qlora", {"load_in_4bit": True, "load_in_8bit": True}, "keep one"),
    ],
)
def test_method_and_quantisation_must_agree(method: str, quantization: dict[str, bool], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(method=method, parameters={"QuantizationConfig": quantization})


@pytest.mark.parametrize(
    ("device", "gpus", "planned", "asked", "used"),
    [
        ("cpu", 0, "float32", "bfloat16", "float32"),
        ("cpu", 0, "bfloat16", "float32", "float32"),
        ("cuda", 1, "bfloat16", "float16", "float16"),
        ("cuda", 1, "float16", "bfloat16", "float16"),
    ],
)
def test_a_number_type_is_used_where_the_machine_has_it(
    device: str, gpus: int, planned: str, asked: str, used: str
) -> None:
    found = settings(
        device=device, gpusPerWorker=gpus, dtype=planned, parameters={"ModelConfig": {"torch_dtype": asked}}
    )
    assert found.dtype == used
    assert bool(found.notes) is (asked != used)


def test_layers_that_the_person_chose_replace_the_presets() -> None:
    found = settings(parameters={"LoraConfig": {"layers_to_transform": [0, 1]}})
    assert found.layers is None
    assert found.lora["layers_to_transform"] == (0, 1)


@pytest.mark.parametrize(
    ("packs", "workers", "accumulation", "epochs", "steps"),
    [(5, 1, 1, 8, 40), (5, 2, 1, 8, 24), (5, 1, 2, 1, 3), (1, 4, 1, 2, 2), (4, 1, 1, 0.5, 2)],
)
def test_steps_follow_from_packs_workers_and_epochs(
    packs: int, workers: int, accumulation: int, epochs: float, steps: int
) -> None:
    found = settings(
        microBatch=1,
        accumulation=accumulation,
        parameters={"TrainingArguments": {"num_train_epochs": epochs}},
    )
    assert total_steps(packs, workers, found) == steps
    assert steps_per_epoch(packs, workers, found) >= 1


def test_max_steps_win_over_epochs() -> None:
    found = settings(parameters={"TrainingArguments": {"max_steps": 7, "num_train_epochs": 100}})
    assert total_steps(1000, 1, found) == 7


def test_a_preset_without_tuning_facts_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be tuned"):
        resolve(TuneConfig.model_validate(request()), replace(PRESET, tuning=None))


def test_the_digest_of_a_request_follows_what_was_asked_and_the_data() -> None:
    config = TuneConfig.model_validate(request(revision=None))
    other = TuneConfig.model_validate(request(revision=None, parameters={"LoraConfig": {"r": 4}}))
    elsewhere = TuneConfig.model_validate(request(revision=None, storage="/elsewhere", workers=2))
    assert len(config.request_digest("a")) == 6
    assert config.request_digest("a") == elsewhere.request_digest("a")
    assert len({config.request_digest("a"), config.request_digest("b"), other.request_digest("a")}) == 3


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(arguments)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--preset, --data, --output missing: give them, or --config FILE; --help explains"),
        (
            ("--preset", "smollm", "--data", "x.jsonl", "--output", "oci:/tmp/a:b"),
            "there is no preset 'smollm'; did you mean smollm2",
        ),
        (
            ("--preset", "smollm2", "--data", "x.jsonl", "--output", "oci:/tmp/a:b", "--epochs", "many"),
            "TrainingArguments.num_train_epochs is 'many'; a number is needed",
        ),
        (
            (
                "--preset",
                "smollm2",
                "--data",
                "x.jsonl",
                "--output",
                "oci:/tmp/a:b",
                "--epochs",
                "2",
                "--max-steps",
                "5",
            ),
            "--epochs and --max-steps contradict each other; leave one out",
        ),
        (("--config", "/nowhere.json"), "/nowhere.json: cannot be read"),
        (("--config", "a.json", "--max-steps", "3"), "--config says everything; leave out --max-steps"),
    ],
)
def test_a_wrong_command_line_ends_with_one_json_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, last = run_main(capsys, *arguments)
    assert code == 2
    assert message in last["error"]["message"]
    assert last["error"]["reason"] in {"InvalidInput", "UnknownPreset"}


@pytest.mark.parametrize(
    ("written", "flags", "refused"),
    [
        ("max_steps: 7", (), True),
        ("max_steps: '7'", ("--method", "lora"), True),
        ("max_steps: 7, num_train_epochs: 9", (), True),
        ("max_steps: -1", (), False),
        ("num_train_epochs: 9", (), False),
        ("max_steps: 7", ("--max-steps", "-1"), False),
    ],
)
def test_epochs_of_the_command_line_do_not_lose_to_the_steps_of_a_file_in_silence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, written: str, flags: tuple[str, ...], refused: bool
) -> None:
    file, data = tmp_path / "training.yaml", tmp_path / "train.jsonl"
    file.write_text(f"training_config: {{TrainingArguments: {{{written}}}}}\n")
    data.write_text("not even a row\n")
    code, last = run_main(
        capsys, "--preset", "smollm2", "--data", str(data), "--output", f"oci:{tmp_path}/out:a",
        "--parameters", str(file), "--epochs", "2", *flags,
    )  # fmt: skip
    said = (
        f"{file}: TrainingArguments.max_steps 7 and --epochs 2 contradict each other; leave --epochs out, or"
    )
    assert last["error"]["message"].startswith(said if refused else str(data))
    assert code == (2 if refused else 3)


def test_a_broken_row_ends_the_job_before_ray_is_imported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n')
    output = f"oci:{tmp_path}/out:a"
    code, last = run_main(capsys, "--preset", "smollm2", "--data", str(data), "--output", output)
    assert code == 3
    assert last["error"]["message"].startswith(f"{data}:2: ")
    assert not (tmp_path / "out").exists()
