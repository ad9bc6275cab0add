"""`kairay plan` and the question of `kairay apply`, as a person types them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from command_line import kairay
from kairay.plan_table import WIDTH

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
FILE, DATA = str(QUICKSTART / "workspace.yaml"), str(QUICKSTART / "train.jsonl")
SAMPLES = sorted(
    path for path in (ROOT / "examples").rglob("*.yaml") if "kind: Workspace" in path.read_text("utf-8")
)


def test_several_files_are_planned_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = kairay(capsys, "plan", FILE, FILE, "-o", "json")
    assert code == 0
    first, second = json.loads(out)
    assert first == second


def test_data_says_what_the_job_costs(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = kairay(capsys, "plan", FILE, "--data", DATA, "--epochs", "2")
    words = " ".join(out.split())
    assert "minutes for 2 epochs of" in words
    assert "(characters ÷ 4)" in words
    assert "a preemption costs" in words
    assert "an estimate: 6 operations per parameter and token" in words
    data = json.loads(kairay(capsys, "plan", FILE, "--data", DATA, "-o", "json")[1])
    assert data["job"]["usd"] > 0
    assert data["data"]["epochs"] >= 1


def test_the_epochs_of_the_files_own_config_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (QUICKSTART / "workspace.yaml").read_text("utf-8").replace("tuning:\n", "tuning:\n  config: own\n")
    text += """---
apiVersion: v1
kind: ConfigMap
metadata: {name: own}
data:
  training_config.yaml: |
    training_config:
      TrainingArguments: {num_train_epochs: EPOCHS}
"""
    file = tmp_path / "w.yaml"
    file.write_text(text.replace("EPOCHS", "7"))
    assert (
        json.loads(kairay(capsys, "plan", str(file), "--data", DATA, "-o", "json")[1])["data"]["epochs"] == 7
    )
    flagged = kairay(capsys, "plan", str(file), "--data", DATA, "--epochs", "2", "-o", "json")[1]
    assert json.loads(flagged)["data"]["epochs"] == 2
    file.write_text(text.replace("EPOCHS", "many"))
    code, _, err = kairay(capsys, "plan", str(file), "--data", DATA)
    assert code == 2
    assert "num_train_epochs is 'many'" in err


@pytest.mark.parametrize("local", [True, False])
def test_epochs_beside_the_steps_of_the_files_own_config_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, local: bool
) -> None:
    text = (QUICKSTART / "workspace.yaml").read_text("utf-8").replace("tuning:\n", "tuning:\n  config: own\n")
    config = {"training_config": {"TrainingArguments": {"max_steps": 40}}}
    map_ = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"},
        "data": {"training_config.yaml": yaml.safe_dump(config)},
    }  # fmt: skip
    file = tmp_path / "w.yaml"
    file.write_text(f"{text}---\n{yaml.safe_dump(map_)}")
    flags = ["--local"] if local else []
    code, _, err = kairay(capsys, "plan", *flags, str(file), "--data", DATA, "--epochs", "2")
    assert code == 2
    assert "ConfigMap own: TrainingArguments.max_steps 40 and --epochs 2 contradict each other" in err
    assert "leave --epochs out, or take max_steps out of the config" in err
    assert kairay(capsys, "plan", *flags, str(file), "--data", DATA)[0] == 0


@pytest.mark.parametrize(
    ("named", "held", "local", "cluster"),
    [
        ("own", {"training_config.yaml": "training_config: {}"}, "", ""),
        (
            "own",
            {"config.yaml": "training_config: {}"},
            *2 * ("ConfigMap own has no key training_config.yaml",),
        ),
        (
            "owm",
            {"training_config.yaml": "training_config: {}"},
            "no ConfigMap owm in the file; did you mean own?",
            "",
        ),
        ("other", {}, "no ConfigMap other in the file; add it after a line with ---", ""),
    ],
)
def test_a_config_that_is_not_there_is_refused_where_nothing_else_can_have_it(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    named: str,
    held: dict[str, str],
    local: str,
    cluster: str,
) -> None:
    text = (QUICKSTART / "workspace.yaml").read_text("utf-8")
    text = text.replace("tuning:\n", f"tuning:\n  config: {named}\n")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": held}
    file = tmp_path / "w.yaml"
    file.write_text(f"{text}---\n{yaml.safe_dump(config)}")
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    for flags, said in ((["--local"], local), ([], cluster)):
        code, out, err = kairay(capsys, "plan", str(file), *flags)
        assert (code, said in err) == (2 if said else 0, True), err
        unseen = named != "own" and not flags
        assert ("was not seen" in " ".join(out.split())) is unseen


def test_data_that_is_not_on_this_machine_is_a_warning_of_its_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "w.yaml"
    file.write_text((QUICKSTART / "workspace.yaml").read_text("utf-8"))
    code, out, _ = kairay(capsys, "plan", "--local", str(file), "-o", "json")
    [said] = [warning for warning in json.loads(out)["warnings"] if "train.jsonl" in warning]
    assert code == 0
    assert said.startswith(
        f"`kairay run` will refuse the data: {tmp_path / 'train.jsonl'}: there is no such file"
    )
    assert "train.jsonl" not in kairay(capsys, "plan", str(file))[1]
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    assert "train.jsonl" not in kairay(capsys, "plan", "--local", str(file))[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((DATA,), f"{DATA} is data; give it with --data"),
        ((FILE, "--epochs", "2"), "--epochs has no effect without --data"),
        ((FILE, "--local", "--cloud", "aws"), "--cloud has no effect with --local"),
        ((FILE, "--local", "--quota", FILE), "--quota has no effect with --local"),
    ],
)
def test_a_flag_without_an_effect_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = kairay(capsys, "plan", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_wide_shows_every_size_and_explain_every_term(capsys: pytest.CaptureFixture[str]) -> None:
    narrow, wide = (kairay(capsys, "plan", FILE, "-o", form)[1] for form in ("table", "wide"))
    assert max(map(len, narrow.splitlines())) <= WIDTH
    assert "StandardNCADSA100v4Family" in wide
    assert "more:" not in wide
    explained = kairay(capsys, "plan", FILE, "--explain")[1]
    bars = [line for line in explained.splitlines() if "█" in line or "▌" in line]
    assert len(bars) >= 8
    assert max(map(len, explained.splitlines())) <= WIDTH


def test_a_quota_file_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    usages = tmp_path / "usages.json"
    usages.write_text(json.dumps([{"name": {"value": "cores"}, "currentValue": 10, "limit": 12}]))
    code, out, _ = kairay(capsys, "plan", FILE, "--quota", str(usages))
    assert code == 2
    assert "is within the quota" in out


def test_a_price_file_is_taken_from_the_flag_and_from_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text("name,usd_per_hour\nStandard_NC8as_T4_v3,0.01\n")
    by_flag = json.loads(kairay(capsys, "plan", FILE, "--prices", str(prices), "-o", "json")[1])
    assert by_flag["usdPerHour"] == 0.01
    monkeypatch.setenv("KAIRAY_PRICES", str(prices))
    assert json.loads(kairay(capsys, "plan", FILE, "-o", "json")[1]) == by_flag
    monkeypatch.setenv("KAIRAY_PRICES", str(tmp_path / "none.csv"))
    code, _, err = kairay(capsys, "plan", FILE)
    assert code == 2
    assert "none.csv: there is no such price file" in err


def test_a_size_of_another_cloud_is_compared_with_that_clouds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (QUICKSTART / "workspace.yaml").read_text("utf-8")
    file = tmp_path / "w.yaml"
    file.write_text(text.replace("resource:\n", "resource:\n  instanceType: g5.xlarge\n"))
    plan = json.loads(kairay(capsys, "plan", str(file), "-o", "json")[1])
    assert plan["chosen"]["instanceType"] == "g5.xlarge"
    assert {c["instanceType"].partition("_")[0] for c in plan["candidates"]} & {"Standard"} == set()


def test_the_sizes_of_another_cloud_can_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(kairay(capsys, "plan", FILE, "--cloud", "aws", "-o", "json")[1])
    assert plan["chosen"]["instanceType"] == "g6.xlarge"
    assert len(plan["candidates"]) > 30
    on_site = json.loads(kairay(capsys, "plan", FILE, "--cloud", "azure-local", "-o", "json")[1])
    assert on_site["chosen"]["usdPerHour"] is None


def test_apply_shows_the_plan_and_a_no_applies_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    code, out, err = kairay(capsys, "apply", FILE)
    assert code == 1
    assert "chosen" in out
    assert "Apply it? [Y/n]" in out + err
    assert out.rstrip().endswith("nothing was applied")


def test_apply_goes_on_where_only_the_cluster_can_read_the_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    text = (QUICKSTART / "workspace.yaml").read_text("utf-8")
    file = tmp_path / "w.yaml"
    file.write_text(text.replace("smollm2-135m-instruct", "/mnt/models/on-the-cluster"))
    code, _, err = kairay(capsys, "apply", str(file), "--yes")
    assert code > 1
    assert "note: there is no plan to show: " in err
    assert str(tmp_path / "none") in err


@pytest.mark.parametrize("arguments", [["--yes"], []])
def test_apply_does_not_ask_with_yes_or_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "stdin", Terminal("n\n") if arguments else io.StringIO("n\n"))
    code, out, err = kairay(capsys, "apply", FILE, *arguments)
    assert "Apply it?" not in out
    assert code > 1
    assert str(tmp_path / "none") in err


@pytest.mark.parametrize("file", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_every_sample_is_planned_in_a_few_times_what_loading_the_libraries_takes(file: Path) -> None:
    # Half a second where 0.14 s load them. Of the processor, against the same machine at the same moment, and the
    # best of a few: how fast the machine is, and what else it does while the test runs, is not ours.
    plan = ("-m", "kairay.cli.main", "plan", str(file))
    load = ("-c", "import click, pydantic, rich.console, rich.table, yaml")
    assert any(processor_seconds(*plan) < 4 * processor_seconds(*load) for _ in range(5))


def processor_seconds(*arguments: str) -> float:
    """Of a Python with these arguments."""
    before = os.times()
    code = subprocess.run([sys.executable, *arguments], capture_output=True, check=False).returncode
    after = os.times()
    assert code in (0, 2)
    return after.children_user + after.children_system - before.children_user - before.children_system


class Terminal(io.StringIO):
    """Somebody who sits there and types this."""

    def isatty(self) -> bool:
        return True
