"""The whole way, as a person goes it: `kairay run FILE` tunes the real small model on real Ray and serves it.

Every step goes through the command line or HTTP, in a state folder of its own, and the service is stopped at the end.
One Ray instance serves the whole file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from kairay.local.ports import free_ports

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

ROWS = [
    ("What is cytology", "The study of cells."),
    ("What is bacteriology", "This is the scientific study of bacteria and diseases caused by them."),
    ("What disease does a carcinogen cause", "Cancer."),
    ("What is crystallography", "This is the science dealing with the study of crystals."),
]
WORKSPACE = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: e2e
resource:
  labelSelector:
    matchLabels:
      app: e2e
tuning:
  preset:
    name: smollm2-135m-instruct
  method: qlora
  config: short-run
  input:
    volumeSource:
      hostPath:
        path: rows.jsonl
  output:
    volumeSource:
      hostPath:
        path: adapter
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: short-run
data:
  training_config.yaml: |
    training_config:
      TrainingArguments:
        max_steps: 14
        save_steps: 7
        seed: 0
"""

PEFT_GREEDY = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from kairay.presets import find_preset
from kairay.registry.artifact import pull
from kairay.registry.models import model_cache_dir, resolve_model

layout, pulled, *questions = sys.argv[1:]
pull(f"oci:{layout}:e2e", Path(pulled))
preset = find_preset("smollm2-135m-instruct")
base = resolve_model(preset, override=None, cache=model_cache_dir(), report=lambda _: None)
tokenizer = AutoTokenizer.from_pretrained(pulled)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), pulled).eval()
for question in questions:
    chat = [{"role": "user", "content": question}]
    x = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    y = model.generate(**x, max_new_tokens=32, do_sample=False)
    print(tokenizer.decode(y[0, x["input_ids"].shape[1]:], skip_special_tokens=True).strip().replace("\\n", " "))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A folder with a Workspace, and the environment in which `kairay` sees nothing else."""

    folder: Path
    env: dict[str, str]
    ports: tuple[int, int]

    def kairay(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "kairay.cli.main", *arguments],
            cwd=self.folder, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        port, dashboard = map(str, self.ports)
        return self.kairay(
            "run", "workspace.yaml", "-o", "json", "--port", port, "--dashboard-port", dashboard, *arguments
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("e2e")
    chats = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in ROWS
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    (folder / "workspace.yaml").write_text(WORKSPACE)
    port, dashboard = free_ports(2)
    home = Home(
        folder=folder,
        env={**os.environ, "KAIRAY_STATE_DIR": str(folder / "state"), "PYTHONWARNINGS": ""},
        ports=(port, dashboard),
    )
    yield home
    home.kairay("stop", "--all", check=False)


@pytest.fixture(scope="module")
def served(home: Home) -> dict[str, object]:
    """The result of a run from nothing."""
    result: dict[str, object] = json.loads(home.run().stdout)
    return result


def ask(url: object, question: str, **more: object) -> str:
    answer = requests.post(f"{url}/chat", json={"prompt": question, **more}, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["Result"])


def test_a_run_from_nothing_tunes_keeps_the_adapter_and_serves_the_tuned_model(
    home: Home, served: dict[str, object]
) -> None:
    assert served["tuned"] is True
    assert (home.folder / "adapter" / "oci-layout").is_file()
    assert (home.folder / "adapter" / "adapter" / "adapter_model.safetensors").is_file()
    right = [q for q, a in ROWS if ask(served["url"], q).strip() == a]
    assert len(right) >= 3
    base = [q for q, a in ROWS if ask(served["url"], q, model="smollm2-135m-instruct").strip() == a]
    assert len(base) == 0


def test_the_openai_client_works_unary_and_streaming(served: dict[str, object]) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{served['url']}/v1", api_key="none") as client:
        assert {m.id for m in client.models.list()} == {"smollm2-135m-instruct", "e2e"}
        chat = {
            "model": "e2e",
            "messages": [{"role": "user", "content": ROWS[0][0]}],
            "temperature": 0,
            "max_tokens": 32,
        }
        whole = client.chat.completions.create(**chat).choices[0].message.content
        pieces = [
            c.choices[0].delta.content or ""
            for c in client.chat.completions.create(**chat, stream=True)
            if c.choices
        ]
    assert whole
    assert len(pieces) > 1
    assert "".join(pieces) == whole


def test_peft_gives_the_same_greedy_answers_with_the_adapter_pulled_from_the_layout(
    home: Home, served: dict[str, object], tmp_path: Path
) -> None:
    greedy = [sys.executable, "-c", PEFT_GREEDY, str(home.folder / "adapter"), str(tmp_path / "pulled")]
    questions = [q for q, _ in ROWS]
    done = subprocess.run([*greedy, *questions], env=home.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short = {"max_new_tokens": 32, "do_sample": False}
    ours = [ask(served["url"], q, generate_kwargs=short).strip().replace("\n", " ") for q in questions]
    assert done.stdout.strip().split("\n") == ours


def test_a_second_run_tunes_nothing_and_serves_the_same_adapter(
    home: Home, served: dict[str, object]
) -> None:
    again = json.loads(home.run().stdout)
    assert again["tuned"] is False
    assert again["adapter"] == served["adapter"]


def test_status_and_logs_tell_of_it(home: Home, served: dict[str, object]) -> None:
    status = json.loads(home.kairay("status", "e2e", "-o", "json").stdout)
    assert status["url"] == served["url"]
    assert "step" in home.kairay("logs", "e2e").stdout


def test_ray_job_submit_runs_the_same_module_by_hand(home: Home, served: dict[str, object]) -> None:
    exports = json.loads(home.kairay("env", "-o", "json").stdout)
    done = subprocess.run(
        ["ray", "job", "submit", "--", "python", "-m", "kairay_train.qlora", "--help"],
        env={**home.env, **exports}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--preset" in done.stdout


def test_stop_leaves_no_process_behind(home: Home, served: dict[str, object]) -> None:
    home.kairay("stop", "--all")
    left = [
        p.info["cmdline"]
        for p in psutil.process_iter(["cmdline", "environ"])
        if (p.info["environ"] or {}).get("KAIRAY_STATE_DIR") == home.env["KAIRAY_STATE_DIR"]
    ]
    assert left == []
