"""Real tuning on real Ray: one adapter comes out, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kairay.presets import find_preset
from kairay.registry.artifact import find, pull
from kairay.registry.model_cache import model_cache_dir
from kairay.registry.models import resolve_model

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

PRESET = find_preset("smollm2-135m-instruct")
TRAIN = Path(__file__).parents[2] / "examples" / "quickstart" / "train.jsonl"


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Ray of two CPUs for this file."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(TRAIN.read_text().splitlines(keepends=True)[:8]))
    return path


def request(folder: Path, data: Path, **changes: Any) -> dict[str, Any]:
    training = {"max_steps": 3, **changes.pop("training", {})}
    return {
        "run": "test",
        "workspace": "mine",
        "revision": "a1b2c3",
        "preset": PRESET.name,
        "data": [str(data)],
        "output": f"oci:{folder}/out:mine",
        "storage": f"{folder}/runs",
        "cpusPerWorker": 2,
        "sequenceLength": 128,
        "parameters": {"TrainingArguments": training},
        **changes,
    }


def tune(asked: dict[str, Any], say: Callable[[str], None] = print) -> Any:
    from kairay_train.config import TuneConfig
    from kairay_train.driver import run

    return run(TuneConfig.model_validate(asked), say=say)


def manifests(folder: Path) -> set[str]:
    index = json.loads((folder / "out" / "index.json").read_text())
    return {entry["digest"] for entry in index["manifests"]}


@pytest.mark.usefixtures("ray_address")
def test_rows_become_an_adapter_that_peft_loads_and_a_second_run_does_nothing(
    tmp_path: Path, data: Path
) -> None:
    outcome = tune(request(tmp_path, data))
    adapter = find(f"oci:{tmp_path}/out:mine")
    assert adapter is not None
    assert adapter.digest == outcome.adapter.digest
    assert adapter.annotations["dev.kairay.revision"] == "a1b2c3"
    assert adapter.annotations["dev.kairay.base-model"] == PRESET.model.id
    assert adapter.annotations["org.opencontainers.image.licenses"] == "apache-2.0"
    assert outcome.trained.cached_layers == 14
    result = outcome.to_dict()
    assert (result["steps"], result["resumedFrom"]) == (3, None)
    pull(f"oci:{tmp_path}/out:mine-a1b2c3", tmp_path / "pulled")
    _check_adapter(tmp_path / "pulled")
    assert not list((tmp_path / "runs").iterdir()), "checkpoints go once the adapter is stored"

    lines: list[str] = []
    again = tune(request(tmp_path, data), lines.append)
    assert again.trained is None
    assert again.adapter.digest == outcome.adapter.digest
    assert lines[-1] == f"revision a1b2c3 is at oci:{tmp_path}/out:mine already; nothing to do"


def _check_adapter(folder: Path) -> None:
    import peft
    import torch
    import transformers

    base = resolve_model(PRESET, override=None, cache=model_cache_dir(), report=print)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == PRESET.model.id
    assert config["layers_to_transform"] == list(range(14, 30))
    told = json.loads((folder / "kairay.json").read_text())
    assert (told["method"], told["revision"], told["settings"]["bits"]) == ("qlora", "a1b2c3", 4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == (base / "chat_template.jinja").read_text()
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.tensor([[1, 5, 9]])
    before = model(ids).logits
    tuned = peft.PeftModel.from_pretrained(model, folder)
    assert not torch.equal(tuned(ids).logits, before)


@pytest.mark.usefixtures("ray_address")
def test_a_worker_killed_mid_run_resumes_and_still_gives_one_adapter(tmp_path: Path, data: Path) -> None:
    asked = request(tmp_path, data, checkpointSteps=1, training={"max_steps": 12})
    killed: list[int] = []

    def kill_once(line: str) -> None:
        if not killed and _step(line) >= 4:
            workers = [p for p in psutil.Process().children(recursive=True) if _is_worker(p)]
            killed.extend(worker.pid for worker in workers)
            for worker in workers:
                worker.kill()

    outcome = tune(asked, kill_once)
    assert len(killed) == 1
    assert outcome.trained.progress.step == 12
    assert outcome.trained.progress.resumed_from >= 1
    assert len(manifests(tmp_path)) == 1


def _step(line: str) -> int:
    return int(line.split("step ")[1].split("/")[0]) if "step " in line else -1


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_driver_leaves_nothing_that_the_next_run_trips_over(
    tmp_path: Path, data: Path, ray_address: str, number: signal.Signals
) -> None:
    asked = request(tmp_path, data, checkpointSteps=1, training={"max_steps": 6})
    (tmp_path / "tune.json").write_text(json.dumps(asked))
    driver = subprocess.Popen(
        [sys.executable, "-m", "kairay_train.qlora", "--config", str(tmp_path / "tune.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": ray_address},
    )
    assert driver.stderr is not None
    for line in driver.stderr:
        if _step(line) >= 2:
            driver.send_signal(number)
            break
    out, _ = driver.communicate(timeout=60)
    if number is signal.SIGTERM:
        assert driver.returncode == 130
        assert json.loads(out.splitlines()[-1])["error"]["reason"] == "Stopped"
    assert not (tmp_path / "out").exists()
    outcome = tune(asked)
    assert outcome.trained.progress.step == 6
    assert outcome.trained.progress.resumed_from >= 1
    assert len(manifests(tmp_path)) == 1


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """Two layers with random weights, and the real tokenizer."""
    import torch
    import transformers

    base = resolve_model(PRESET, override=None, cache=model_cache_dir(), report=print)
    shutil.copytree(base, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = transformers.AutoConfig.from_pretrained(base, num_hidden_layers=2)
    torch.manual_seed(1)
    transformers.LlamaForCausalLM._from_config(config).float().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.usefixtures("ray_address")
def test_zero2_with_two_workers_gives_one_adapter(tmp_path: Path, data: Path, tiny_model: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    if not (
        shutil.which("g++") and shutil.which("ninja", path=f"{Path(sys.executable).parent}:{os.defpath}")
    ):
        pytest.skip("DeepSpeed compiles at run time and needs g++ and ninja")
    outcome = tune(
        request(
            tmp_path, data, model=str(tiny_model), workers=2, cpusPerWorker=1, deepspeed="zero2", microBatch=1
        )
    )
    assert outcome.trained.progress.step == 3
    assert len(manifests(tmp_path)) == 1


@pytest.mark.usefixtures("ray_address")
def test_without_packing_and_with_plain_lora_trls_own_path_trains(
    tmp_path: Path, data: Path, tiny_model: Path
) -> None:
    asked = request(tmp_path, data, model=str(tiny_model), method="lora", packing=False, microBatch=2)
    outcome = tune(asked)
    assert outcome.trained.progress.step == 3
    assert (outcome.trained.cached_layers, outcome.trained.dequantised_bytes) == (0, 0)


@pytest.mark.usefixtures("ray_address")
def test_workers_that_there_is_no_room_for_end_the_run_after_the_wait(
    tmp_path: Path, data: Path, tiny_model: Path
) -> None:
    from kairay.errors import JobFailedError

    asked = request(tmp_path, data, model=str(tiny_model), cpusPerWorker=64, gpuWaitSeconds=1)
    with pytest.raises(JobFailedError, match="no room for 1 worker") as raised:
        tune(asked)
    assert raised.value.reason == "CpuNeverCame"
