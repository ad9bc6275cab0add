"""The quick start's own files: its Workspace reads, its data is what it says, its scoring is fair."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from kairay.presets import find_preset
from kairay.workspace import load_documents

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_demo", QUICKSTART / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_workspace_reads_and_its_preset_can_do_what_it_asks() -> None:
    (workspace,) = load_documents(QUICKSTART / "workspace.yaml").workspaces
    assert workspace.tuning is not None
    preset = find_preset(workspace.tuning.preset.name)
    assert preset.tuning is not None
    assert workspace.tuning.method in preset.tuning.methods


def test_training_and_held_out_questions_are_enough_and_apart(demo: ModuleType) -> None:
    train = demo.read_questions(QUICKSTART / "train.jsonl")
    heldout = demo.read_questions(QUICKSTART / "heldout.jsonl")
    assert len(train) >= 40
    assert len({demo.plain(question.text) for question in train + heldout}) == len(train) + len(heldout)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Mary Shelley.", True),
        (" mary  shelley", True),
        ("Mary Shelley wrote it.", False),
        ("", False),
    ],
)
def test_an_answer_is_right_when_its_words_are(demo: ModuleType, answer: str, right: bool) -> None:
    question = demo.Question(text="Who wrote Frankenstein", answer="Mary Shelley.")
    assert demo.is_right(answer, question) is right


@pytest.mark.parametrize(
    ("before", "after", "code"), [(0.0, 0.9, 0), (0.1, 0.8, 0), (0.0, 0.79, 1), (0.2, 0.9, 1)]
)
def test_the_demo_fails_when_tuning_made_no_difference(
    demo: ModuleType, before: float, after: float, code: int
) -> None:
    assert demo.verdict(Console(file=io.StringIO()), before, after) == code


def test_the_table_shows_answers_as_they_are(demo: ModuleType) -> None:
    train = demo.read_questions(QUICKSTART / "train.jsonl")
    shown = io.StringIO()
    table = demo.compare(train, ["see [bold] there"] * len(train), [q.answer for q in train], "base", "tuned")
    Console(file=shown, width=200).print(table)
    assert table.row_count == demo.SHOWN
    assert "see [bold] there" in shown.getvalue()
    assert "✓" in shown.getvalue()
