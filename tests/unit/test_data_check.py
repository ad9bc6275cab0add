"""Reading and checking whole files: every way of writing rows down, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from kairay.data_files import ENDINGS, find_files
from kairay.errors import DataError
from kairay_train.data import check, read_examples
from kairay_train.formats import ColumnMapping
from kairay_train.readers import HINTS

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart"


def chat(question: str = "Q", answer: str = "A") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


ROWS = [chat(f"Question {i}?", f"Answer {i}.") for i in range(5)]


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in rows)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def problems(path: Path, **options: Any) -> list[str]:
    """What `check` says about a file, without the folder; `read_examples` must say the first of it."""
    report = check([path], **options)
    found = [p.replace(f"{path.parent}{os.sep}", "") for p in report.problems]
    if report.problems:
        with pytest.raises(DataError) as raised:
            list(read_examples([path], **options))
        assert str(raised.value) == report.problems[0]
    return found


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)


def write_arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=2)


def write_arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as sink:
        sink.write_table(table)


def write_csv(path: Path) -> None:
    cells = [json.dumps(r["messages"]).replace('"', '""') for r in ROWS]
    path.write_text("id,messages\n" + "".join(f'{i},"{c}"\n' for i, c in enumerate(cells)))


def content(value: bytes) -> Callable[[Path], None]:
    def write_it(path: Path) -> None:
        path.write_bytes(value)

    return write_it


WRITERS: dict[str, Callable[[Path], None]] = {
    "parquet": write_parquet,
    "arrow file": write_arrow_file,
    "arrow stream": write_arrow_stream,
    "csv": write_csv,
    "jsonl": content(lines(*ROWS)),
    "jsonl with BOM, CRLF and blank lines": content(
        b"\xef\xbb\xbf" + lines(*ROWS).replace(b"\n", b"\r\n\r\n")
    ),
    "json array": content(json.dumps(ROWS).encode()),
    "pretty json array": content(json.dumps(ROWS, indent=2).encode()),
    "json object with one list": content(json.dumps({"version": 1, "data": ROWS, "by": {"a": []}}).encode()),
    "pretty json object": content(json.dumps({"version": 1, "data": ROWS}, indent=1).encode()),
}
KINDS = {
    "parquet": "parquet",
    "arrow": "arrow",
    "csv": "csv",
    "jsonl": "jsonl",
    "json": "json",
    "pretty": "json",
}


# Text that is no JSON is what its name says, so a csv file needs a name that does not say otherwise.
NAMINGS = [
    (how, suffix)
    for how in WRITERS
    for suffix in ("", ".jsonl", ".parquet", ".json", ".csv")
    if how != "csv" or suffix in ("", ".parquet", ".csv")
]


@pytest.mark.parametrize(("how", "suffix"), NAMINGS)
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path: Path, how: str, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    WRITERS[how](path)
    report = check([path])
    assert report.problems == ()
    assert [f.kind for f in report.files] == [KINDS[how.split()[0]]]
    assert [[m.content for m in e.messages] for e in read_examples([path])] == [
        [m["content"] for m in r["messages"]] for r in ROWS
    ]


def test_the_digest_is_that_of_the_rows_not_of_the_file(tmp_path: Path) -> None:
    digests = set()
    for i, writer in enumerate(WRITERS.values()):
        writer(tmp_path / f"{i}.csv")
        digests.add(check([tmp_path / f"{i}.csv"]).digest)
    assert len(digests) == 1
    other = write(tmp_path, "other.jsonl", lines(*reversed(ROWS)))
    assert check([other]).digest not in digests


def test_the_digest_does_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    a, b = write(tmp_path, "a.jsonl", lines(*ROWS[:2])), write(tmp_path, "b.jsonl", lines(*ROWS[2:]))
    assert check([a, b]).digest == check([b, a]).digest != check([a, a]).digest


def test_several_files_may_have_their_own_formats(tmp_path: Path) -> None:
    a = write(tmp_path, "a.jsonl", lines({"prompt": "Q", "completion": "A"}))
    b = write(tmp_path, "b.csv", b'instruction;input;output\n"two\nlines";;"semi;colon"\n')
    report = check([a, b, a])
    assert report.formats == {"alpaca": 1, "prompt-completion": 2}
    assert report.rows == 3
    assert [e.messages[-1].content for e in read_examples([a, b])] == ["A", "semi;colon"]


def test_the_report_counts_characters_and_finds_the_longest_row(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", lines(chat("ab", "c"), chat("abcd", "é"), chat("a", "b")))
    report = check([path], names={path: "d.jsonl"})
    assert (report.characters, report.longest, report.longest_characters) == (10, "d.jsonl:2", 5)
    assert report.to_dict()["longest"] == {"row": "d.jsonl:2", "characters": 5}
    assert json.loads(json.dumps(report.to_dict()))["formats"] == {"messages": 3}
    assert "3 rows, 10 characters; the longest row is d.jsonl:2 with 5" in report.summary()


def test_rows_of_columnar_files_are_numbered(tmp_path: Path) -> None:
    rows = [chat()] * 300 + [chat(answer="")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet", row_group_size=100)
    assert problems(tmp_path / "d.parquet") == ["d.parquet:row 301: has an empty assistant answer (turn 1)"]


def test_every_broken_row_is_named_by_file_and_line_up_to_twenty(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", lines(*[chat(), chat(answer=" ")] * 30))
    report = check([path], names={path: "d.jsonl"})
    assert (len(report.problems), report.problem_count, report.rows) == (20, 30, 30)
    assert report.problems[3] == "d.jsonl:8: has an empty assistant answer (turn 1)"
    assert report.summary().endswith("and 10 more problems")


def test_the_line_is_right_in_pretty_json_and_in_csv_with_line_breaks(tmp_path: Path) -> None:
    pretty = write(tmp_path, "p.json", json.dumps([chat(), chat(answer="")], indent=1).encode())
    table = write(tmp_path, "c.csv", b'prompt,completion\n"a\nb\nc",d\n\n"e\nf",\n')
    assert problems(pretty) == ["p.json:14: has an empty assistant answer (turn 1)"]
    assert pretty.read_text().splitlines()[13] == " {"
    assert problems(table) == ["c.csv:6: completion is empty"]


GOOD = lines(chat())


@pytest.mark.parametrize(
    ("name", "written", "complaint"),
    [
        ("d.jsonl", b"", "d.jsonl: is empty"),
        ("d.jsonl", b" \n\n", "d.jsonl: is empty"),
        ("d.json", b"[]", "d.json: has no rows"),
        ("d.json", b'{"data": []}', "d.json: has no rows"),
        ("d.csv", b"prompt,completion\n", "d.csv: has no rows"),
        ("d.jsonl", GOOD + b"\xe9t\xe9\n", f"d.jsonl:2: is not UTF-8: byte 0xe9 at byte {len(GOOD)} of the file; save the file as UTF-8"),  # noqa: E501
        ("d.json", b'[{"text": "\xff"}]', "d.json: is not UTF-8: byte 0xff at byte 11 of the file; save the file as UTF-8"),  # noqa: E501
        ("d.csv", b"text\nok\n\xff\n", "d.csv:3: is not UTF-8: byte 0xff at byte 8 of the file; save the file as UTF-8"),  # noqa: E501
        ("d.csv", "text\nok\n".encode("utf-16"), "d.csv: is UTF-16; save it as UTF-8"),
        ("d.jsonl", GOOD + b"{'text': 1}\n", "d.jsonl:2: is not valid JSON: Expecting property name enclosed in double quotes (column 2)"),  # noqa: E501
        ("d.jsonl", b'{"text": "a\n' + GOOD, "d.jsonl:1: is not valid JSON: Unterminated string starting at (column 10)"),  # noqa: E501
        ("d.jsonl", GOOD + b"[1, 2]\n", "d.jsonl:2: is a list, not an object with columns"),
        ("d.jsonl", GOOD + b"null\n", "d.jsonl:2: is null, not an object with columns"),
        ("d.jsonl", GOOD + b'{"a":' * 100_000 + b"\n", "d.jsonl:2: is nested too deeply"),
        ("d.json", b'[{"text": "a"}, 3]', "d.json:1: is a number, not an object with columns"),
        ("d.json", b'[{"text": "a"},\n{"text": "b"', "d.json:2: is not valid JSON: the file is cut off"),
        ("d.json", b'[{"text": "a"},\n{"text": "b', "d.json:2: is not valid JSON: the file is cut off"),
        ("d.json", b'[{"text": "a"}\n{"text": "b"}]', "d.json:2: is not valid JSON: expected ',', found '{'"),
        ("d.json", b'[{"text": "a"}', "d.json:1: is not valid JSON: expected ',', the file ends"),
        ("d.json", b'[{"text": "a"}, nope]', "d.json:1: is not valid JSON: Expecting value"),
        ("d.json", b'[{"text": "a"}] [2]', "d.json:1: goes on after the end of the JSON value; put one object on each line"),  # noqa: E501
        ("d.json", b'{"a": [{"text": "a"}], "b": [{"text": "b"}]}', "d.json:1: holds several lists (a, b); keep the one with the rows"),  # noqa: E501
        ("d.json", b'{\n"a": 1\n}', "d.json: holds an object without a list of rows"),
        ("d.json", b"hello", "d.json:1: is not valid JSON: expected '{', found 'h'"),
        ("d.csv", b"prompt,completion\na,b,c\n", "d.csv:2: has 3 fields where the header has 2"),
        ("d.csv", b"prompt,completion\na\n", "d.csv:2: has 1 fields where the header has 2"),
        ("d.csv", b'prompt,completion\n"a"b,c\n', "d.csv:2: is not valid CSV: ',' expected after '\"'"),
        ("d.csv", b'prompt,completion\n"a,c\nd,e\n', "d.csv:2: is not valid CSV: unexpected end of data"),
        ("d.csv", b"text,text\na,b\n", "d.csv:1: names the column 'text' twice in its header"),
        ("d.csv", b"a,b\n1,2\n1,2\n", "d.csv: has no columns to train on: found a, b; accepted are"),
        ("d.jsonl", GOOD + lines({"text": "a"}), "d.jsonl:2: is a text row, but the file began with messages rows (line 1); keep one format in a file"),  # noqa: E501
        ("d.jsonl", lines({"question": "a"}), "d.jsonl:1: has no columns to train on: found question; accepted are"),
        ("d.txt", b"just words", "d.txt: is none of parquet, arrow, jsonl, json and csv"),
        ("d.parquet", b"just words", "d.parquet: is none of parquet, arrow, jsonl, json and csv, although its name ends with .parquet"),  # noqa: E501
        ("d.jsonl", b"\x1f\x8b\x08", "d.jsonl: is compressed with gzip; decompress it first"),
        ("d.csv", b"<!DOCTYPE html><p>", "d.csv: is an HTML page, not data; was it an error or login page?"),
        ("d.parquet", b"version https://git-lfs.github.com/spec/v1\n", "d.parquet: is a Git LFS pointer, not the data; fetch"),  # noqa: E501
        ("d.parquet", b"PAR1 cut off here", "d.parquet: cannot be read as parquet, it may be cut off: "),
        ("d.arrow", b"ARROW1\0\0 cut off", "d.arrow: cannot be read as arrow, it may be cut off: "),
        ("d.arrow", b"\xff\xff\xff\xff\x10\0\0\0 cut off", "d.arrow: cannot be read as arrow, it may be cut off: "),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, written: bytes, complaint: str
) -> None:
    found = problems(write(tmp_path, name, written))
    assert len(found) == 1
    assert found[0].startswith(complaint)


def test_rows_after_a_broken_one_are_still_checked(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", b'{"\n' + GOOD + b"\xff\n" + GOOD + b"3\n")
    report = check([path])
    assert (report.rows, report.problem_count) == (2, 3)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    found = problems(write(tmp_path, "d.parquet", whole[: len(whole) // 2]))
    assert found[0].startswith("d.parquet: cannot be read as parquet, it may be cut off: ")


def test_text_that_is_not_utf8_in_a_parquet_row_is_named(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "d.parquet")
    assert problems(tmp_path / "d.parquet") == ["d.parquet:row 2: holds text that is not UTF-8 (byte 0xff)"]


def test_a_missing_file_suggests_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", GOOD)
    assert problems(tmp_path / "trian.jsonl") == ["trian.jsonl: does not exist; did you mean train.jsonl?"]
    assert problems(tmp_path / "x.parquet") == [f"x.parquet: does not exist in {tmp_path}"]
    gone = tmp_path / "no" / "train.jsonl"
    assert problems(gone) == [f"train.jsonl: does not exist, nor does the folder {tmp_path / 'no'}"]


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder, "b.jsonl", GOOD)
    assert problems(folder) == ["set: is a directory, not a file; name a file in it, such as b.jsonl"]
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert problems(tmp_path / "pipe.jsonl") == ["pipe.jsonl: is not a regular file"]


def test_the_files_of_a_folder_are_found_by_extension(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.parquet", "README.md", ".hidden.jsonl"):
        write(tmp_path, name, GOOD)
    assert [p.name for p in find_files(tmp_path)] == ["a.parquet", "b.jsonl"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no data file; put one there that ends with \.arrow, "):
        find_files(tmp_path / "empty")


def test_every_ending_that_is_taken_from_a_folder_has_a_reader() -> None:
    assert set(ENDINGS) == set(HINTS)


def test_no_file_at_all_is_a_problem() -> None:
    assert check([]).problems == ("no data file was given; name at least one",)


def test_files_are_called_by_their_given_names(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", b"3\n")
    assert (
        check([path], names={path: "https://host/d.jsonl"})
        .problems[0]
        .startswith("https://host/d.jsonl:1: is a")
    )


def test_a_column_mapping_reaches_every_reader(tmp_path: Path) -> None:
    mapping = ColumnMapping(instruction="q", response="a")
    rows = [{"q": "Q", "a": "A", "text": "never"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    for path in (
        tmp_path / "d.parquet",
        write(tmp_path, "d.csv", b"q,a\nQ,A\n"),
        write(tmp_path, "d", lines(*rows)),
    ):
        (example,) = read_examples([path], mapping=mapping)
        assert [m.content for m in example.messages] == ["Q", "A"]


BIG = chat(answer="x" * 5000)


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.parquet", "d.arrow"])
def test_a_row_over_the_limit_is_named_in_every_format(tmp_path: Path, name: str) -> None:
    path, rows = tmp_path / name, [chat(), BIG, chat()]
    if name == "d.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "d.arrow":
        with pa.ipc.new_file(str(path), pa.Table.from_pylist(rows).schema) as sink:
            sink.write_table(pa.Table.from_pylist(rows))
    elif name == "d.csv":
        write(tmp_path, name, b"text\nok\n" + b"x" * 5000 + b"\nok\n")
    else:
        path.write_bytes(lines(*rows) if name == "d.jsonl" else json.dumps(rows, indent=0).encode())
    line = {"d.jsonl": "2", "d.json": "14", "d.csv": "3"}.get(name, "row 2")
    found = problems(path, row_limit=4096)
    assert found[0].startswith(f"{name}:{line}: is larger than 0.00390625 MiB, the most one row may have")


def test_an_open_quote_does_not_swallow_a_csv_file(tmp_path: Path) -> None:
    path = write(tmp_path, "d.csv", b'text\nok\n"open\n' + b"row\n" * 5000)
    assert problems(path, row_limit=4096) == [
        "d.csv:3: is larger than 0.00390625 MiB, the most one row may have; a quote may be missing"
    ]


def test_a_row_group_of_huge_rows_is_refused_by_its_footer(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"text": "abc" * i} for i in (2000, 2001)]), tmp_path / "d.parquet")
    (found,) = problems(tmp_path / "d.parquet", row_limit=4096)
    assert found.startswith("d.parquet:row 1: is larger than")
    assert found.endswith("(by the sizes in the file's footer)")


@pytest.mark.parametrize("start", [b'{"text": "', b'[{"text": "', b"text\n"])
def test_a_two_gigabyte_row_is_refused_without_being_read_into_memory(tmp_path: Path, start: bytes) -> None:
    path = write(tmp_path, "huge", start + b"x" * 2**22)
    with path.open("r+b") as file:
        file.truncate(2 * 2**30)  # a sparse file: zeros that take no room
    examples = read_examples([path], row_limit=2**20)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"huge:[12]: is larger than 1 MiB"):
            next(examples)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("how", ["jsonl", "csv", "json array", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, how: str) -> None:
    path, rows = tmp_path / "big", [{"text": f"{i} " + "word " * 400} for i in range(5000)]
    if how == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500)
    elif how == "csv":
        path.write_text("text\n" + "\n".join(r["text"] for r in rows))
    else:
        path.write_bytes(lines(*rows) if how == "jsonl" else json.dumps(rows).encode())
    del rows
    next(iter(read_examples([path])))  # imports
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_examples([path])) == 5000
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20  # of 10 MB
    finally:
        tracemalloc.stop()


def test_the_quick_starts_own_data_is_in_order() -> None:
    train, heldout = check([QUICKSTART / "train.jsonl"]), check([QUICKSTART / "heldout.jsonl"])
    assert (train.problems, heldout.problems) == ((), ())
    assert train.rows >= 40
    questions = [
        e.messages[0].content
        for e in read_examples([QUICKSTART / "train.jsonl", QUICKSTART / "heldout.jsonl"])
    ]
    assert len(set(questions)) == len(questions) == train.rows + heldout.rows
