"""Counting tokens of training data without a tokeniser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kairay.errors import DataError, InputError
from kairay.plan_data import count_tokens

ROW = {
    "messages": [{"role": "user", "content": "x" * 96}, {"role": "assistant", "content": "y" * 91}],
    "n": 7,
}
CHARACTERS = 96 + 91 + len("userassistant")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", json.dumps(ROW) + "\n\n" + json.dumps(ROW) + "\n"),
        ("a.json", json.dumps([ROW, ROW], indent=4)),
        ("a.csv", "prompt,completion\n" + f"{'x' * 100},{'y' * 100}\n" * 2),
        ("a.ndjson", json.dumps(ROW) + "\n" + json.dumps(ROW)),
    ],
)
def test_the_characters_of_texts_count_and_not_the_names_of_fields(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert count_tokens([tmp_path / name]) == (2 * CHARACTERS // 4, "characters ÷ 4")


def test_a_cell_may_hold_a_whole_document(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "x" * 400_000 + "\n")
    assert count_tokens([tmp_path / "a.csv"])[0] == 100_000


def test_parquet_is_read_where_pyarrow_is(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([ROW] * 2), tmp_path / "a.parquet")
    assert count_tokens([tmp_path / "a.parquet"]) == (2 * CHARACTERS // 4, "characters ÷ 4")


def test_of_other_files_the_bytes_count_and_of_a_folder_only_what_a_job_would_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.jsonl").write_text(json.dumps("z" * 40))
    (tmp_path / "README.md").write_text("z" * 40)
    (tmp_path / "a.jsonl").write_text(json.dumps("x" * 40))
    assert count_tokens([tmp_path]) == (10, "characters ÷ 4")
    assert count_tokens([tmp_path, tmp_path / "README.md"]) == (20, "bytes and characters ÷ 4")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.csv", "text\n"), ("a.txt", "")],
)
def test_a_file_without_text_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name}: has no rows with text"):
        count_tokens([tmp_path / name])


def test_several_paths_add_up(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("z" * 400)
    assert count_tokens([tmp_path / "a.txt", tmp_path / "b.txt"])[0] == 200


def test_what_is_not_there_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        count_tokens([tmp_path / "none"])
    with pytest.raises(DataError, match="holds no data file"):
        count_tokens([tmp_path])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"{not json}\n"),
        ("a.json", b"\xff\xfe"),
        ("a.parquet", b"PAR1 but not really"),
        ("a.csv", b"text\n\xff\xfe\n"),
    ],
)
def test_a_broken_file_is_named_and_the_check_too(tmp_path: Path, name: str, content: bytes) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: cannot be read .*kairay data check"):
        count_tokens([tmp_path / name])
