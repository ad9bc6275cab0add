"""The command line: what a person types, what comes back, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import kairay

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = kairay(capsys, "--help")
    assert code == 0
    assert "run         Tune and serve" in out
    assert "130 interrupted" in out


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = kairay(capsys, "tune")
    assert code == 2
    assert "tune" in err
    assert "Did you mean" not in err
    assert "No such command 'pln'. Did you mean 'plan'?" in kairay(capsys, "pln")[2]


def test_presets_as_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert "phi-3-mini-128k-instruct" in kairay(capsys, "presets")[1]
    presets = json.loads(kairay(capsys, "presets", "-o", "json")[1])
    assert {"name", "model", "licence", "tuningMethods"} <= set(presets[0])


def test_plan_of_a_retired_size_names_the_replacement_and_ends_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = kairay(capsys, "plan", str(ROOT / "examples" / "tuning-phi-3.yaml"))
    assert code == 2
    assert "Standard_NC6s_v3" in out
    assert "retired" in out
    assert "$0.53" in out


def test_plan_for_this_machine_as_json_holds_the_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = kairay(capsys, "plan", "--local", "-o", "json", str(QUICKSTART / "workspace.yaml"))
    assert code == 0
    plan = json.loads(out)
    assert plan["problems"] == []
    assert plan["tuning"]["workers"] == 1


def test_plan_prints_the_same_bytes_twice(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(QUICKSTART / "workspace.yaml")
    assert kairay(capsys, "plan", file, "-o", "yaml") == kairay(capsys, "plan", file, "-o", "yaml")


def test_a_missing_file_is_one_sentence_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = kairay(capsys, "plan", "nowhere.yaml")
    assert (code, out) == (2, "")
    assert err == "error: nowhere.yaml: there is no such file\n"


def test_an_unknown_field_is_named_with_its_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (QUICKSTART / "workspace.yaml").read_text().replace("method:", "metod:")
    (tmp_path / "w.yaml").write_text(text)
    code, _, err = kairay(capsys, "run", str(tmp_path / "w.yaml"))
    assert code == 2
    assert "tuning.metod" in err
    assert "method" in err


def test_an_unknown_preset_suggests_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (
        (QUICKSTART / "workspace.yaml").read_text().replace("smollm2-135m-instruct", "smolm2-135m-instruct")
    )
    (tmp_path / "w.yaml").write_text(text)
    code, _, err = kairay(capsys, "plan", str(tmp_path / "w.yaml"))
    assert code == 2
    assert "smollm2-135m-instruct" in err


def test_data_check_lists_broken_rows_by_line_and_ends_with_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n{"text": 1}\nnot json\n')
    code, out, err = kairay(capsys, "data", "check", str(tmp_path / "rows.jsonl"))
    assert code == 3
    assert "rows.jsonl:2:" in out
    assert "rows.jsonl:3:" in out
    assert "2 problems" in err


def test_data_check_takes_a_folder_as_a_job_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a.jsonl", "README.md", "demo.py"):
        (tmp_path / name).write_text('{"text": "fine"}\n')
    code, out, _ = kairay(capsys, "data", "check", str(tmp_path))
    assert (code, out.count(": 1 rows, jsonl, text")) == (0, 1)
    (tmp_path / "a.jsonl").unlink()
    code, _, err = kairay(capsys, "data", "check", str(tmp_path))
    assert (code, "holds no data file" in err) == (3, True)


def test_data_check_says_no_rows_of_a_file_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = kairay(capsys, "data", "check", str(tmp_path / "missing.jsonl"))
    assert (code, out) == (3, f"problem: {tmp_path / 'missing.jsonl'}: does not exist in {tmp_path}\n")


def test_data_check_of_good_data_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = kairay(capsys, "data", "check", "-o", "json", str(QUICKSTART / "train.jsonl"))
    assert code == 0
    assert json.loads(out)["rows"] >= 40


def test_status_of_nothing_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = kairay(capsys, "status")
    assert (code, "kairay run" in out) == (0, True)
    assert kairay(capsys, "status", "-o", "json")[1].strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [("status", "ghost"), ("chat", "ghost"), ("logs", "ghost"), ("stop", "ghost")]
)
def test_a_name_that_is_not_there_is_an_input_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, _, err = kairay(capsys, *arguments)
    assert code == 2
    assert "ghost" in err


def test_chat_without_a_service_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = kairay(capsys, "chat", "-m", "hello")
    assert code == 2
    assert "kairay run" in err


def test_stop_wants_a_name_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert kairay(capsys, "stop")[0] == 2
    assert kairay(capsys, "stop", "--all")[0] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, _ = kairay(capsys, "completion", shell)
    assert code == 0
    assert "_KAIRAY_COMPLETE" in out


def test_no_colour_codes_reach_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kairay.cli.main", "presets"], capture_output=True, text=True, check=True
    )
    assert "\x1b" not in done.stdout
