"""Rows of every accepted shape become the same conversation; what is wrong with a row is said in words."""

from __future__ import annotations

from typing import Any

import pytest

from kairay_train.formats import ColumnMapping, Example, RowError, RowFormat, recognise
from kairay_train.turns import read_row

USER = {"role": "user", "content": "Q"}
ASSISTANT = {"role": "assistant", "content": "A"}


def read(fields: dict[str, Any], mapping: ColumnMapping | None = None) -> Example:
    mapping = mapping or ColumnMapping()
    return read_row(fields, recognise(fields, mapping), source="d.jsonl", line=3)


def said(example: Example) -> list[tuple[str, str]]:
    return [(m.role.value, m.content) for m in example.messages]


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"messages": [USER, ASSISTANT]}, RowFormat.MESSAGES),
        (
            {"messages": '[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]'},
            RowFormat.MESSAGES,
        ),
        (
            {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
            RowFormat.SHAREGPT,
        ),
        (
            {"conversations": [{"from": "user", "value": "Q"}, {"from": "assistant", "value": "A"}]},
            RowFormat.SHAREGPT,
        ),
        ({"prompt": "Q", "completion": "A"}, RowFormat.PROMPT_COMPLETION),
        ({"prompt": [USER], "completion": [ASSISTANT]}, RowFormat.PROMPT_COMPLETION),
        ({"prompt": [USER], "completion": "A"}, RowFormat.PROMPT_COMPLETION),
        ({"instruction": "Q", "input": "", "output": "A"}, RowFormat.ALPACA),
        ({"instruction": "Q", "output": "A", "text": "Q A"}, RowFormat.ALPACA),
        ({"instruction": "Q", "context": None, "response": "A", "category": "qa"}, RowFormat.DOLLY),
    ],
)
def test_every_shape_becomes_one_conversation(fields: dict[str, Any], shape: RowFormat) -> None:
    assert recognise(fields, ColumnMapping()).format is shape
    assert said(read(fields)) == [("user", "Q"), ("assistant", "A")]


def test_a_text_row_stays_a_text() -> None:
    example = read({"text": " once \n"})
    assert (example.text, example.messages, example.where) == (" once \n", (), "d.jsonl:3")


@pytest.mark.parametrize("column", [("input", "output"), ("context", "response")])
def test_instruction_and_context_are_joined_by_a_blank_line(column: tuple[str, str]) -> None:
    example = read({"instruction": "Sum up.", column[0]: "Long text.", column[1]: "Short."})
    assert said(example)[0] == ("user", "Sum up.\n\nLong text.")


def test_white_space_of_the_words_is_kept() -> None:
    assert said(read({"prompt": " Q\n", "completion": "\tA "})) == [("user", " Q\n"), ("assistant", "\tA ")]


def test_content_may_be_a_list_of_text_parts() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert said(read({"messages": [USER, {"role": "assistant", "content": parts}]}))[1] == ("assistant", "AB")


def test_answers_inside_a_prompt_are_context() -> None:
    fields = {"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT]}
    assert read(fields).loss_from == 3
    assert read({"messages": [USER, ASSISTANT, USER, ASSISTANT]}).loss_from == 0


def test_null_keys_that_a_columnar_file_adds_are_ignored() -> None:
    filler = {"tool_calls": None, "name": None}
    assert said(read({"messages": [USER | filler, ASSISTANT | filler]})) == [
        ("user", "Q"),
        ("assistant", "A"),
    ]


@pytest.mark.parametrize(
    ("mapping", "fields", "expected"),
    [
        (ColumnMapping(messages="chat"), {"chat": [USER, ASSISTANT]}, [("user", "Q"), ("assistant", "A")]),
        (
            ColumnMapping(instruction="q", context="c", response="a"),
            {"q": "Q", "c": "C", "a": "A"},
            [("user", "Q\n\nC"), ("assistant", "A")],
        ),
        (ColumnMapping(context="q", response="a"), {"q": "Q", "a": "A"}, [("user", "Q"), ("assistant", "A")]),
    ],
)
def test_columns_can_be_named(
    mapping: ColumnMapping, fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert said(read(fields, mapping)) == expected


def test_a_response_column_alone_is_text() -> None:
    assert read({"body": "words", "text": "other"}, ColumnMapping(response="body")).text == "words"


def test_a_mapping_that_does_not_fit_names_what_is_missing() -> None:
    with pytest.raises(RowError, match="lacks the column a that the column mapping names; found: x, y"):
        recognise(["x", "y"], ColumnMapping(context="x", response="a"))


def test_unknown_columns_are_listed_beside_the_accepted_ones() -> None:
    with pytest.raises(
        RowError, match=r"found question, answer; accepted are messages; .*instruction \(input\)"
    ):
        recognise(["question", "answer"], ColumnMapping())


def test_a_long_list_of_columns_is_cut() -> None:
    with pytest.raises(RowError, match="c11 and 88 more;"):
        recognise([f"c{i}" for i in range(100)], ColumnMapping())


def message(role: Any = "assistant", content: Any = "A", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"messages": []}, "messages is an empty list"),
        ({"messages": None}, "messages is null, not a list of messages"),
        ({"messages": "hello"}, "messages is text, not a list of messages"),
        ({"messages": {"role": "user"}}, "messages is an object, not a list of messages"),
        ({"messages": ["hello"]}, r"messages\[0\] is a string, not an object with role and content"),
        ({"messages": [USER]}, "has no assistant turn"),
        (
            {"messages": [USER, ASSISTANT, USER]},
            "ends with a user turn; the last turn must be the assistant's",
        ),
        ({"messages": [ASSISTANT]}, "starts with the assistant's turn"),
        ({"messages": [message("system"), ASSISTANT]}, "starts with the assistant's turn"),
        ({"messages": [USER, message("system"), ASSISTANT]}, "has a system turn at position 1"),
        ({"messages": [USER, message(content=" \n")]}, r"has an empty assistant answer \(turn 1\)"),
        ({"messages": [message("user", ""), ASSISTANT]}, r"has an empty user turn \(turn 0\)"),
        (
            {"messages": [message("tool"), ASSISTANT]},
            r"messages\[0\].role is 'tool'; accepted are system, user",
        ),
        ({"messages": [message(None), ASSISTANT]}, r"messages\[0\].role is null; accepted are"),
        ({"messages": [{"role": "user"}, ASSISTANT]}, r"messages\[0\] has no 'content'; it has role"),
        ({"messages": [{"content": "Q"}, ASSISTANT]}, r"messages\[0\] has no 'role'; it has content"),
        ({"messages": [message("user", 7), ASSISTANT]}, r"messages\[0\].content is a number, not a string"),
        ({"messages": [USER, message(content=None)]}, r"messages\[1\].content is null, not a string"),
        (
            {"messages": [USER, message(content={"a": 1})]},
            r"messages\[1\].content is an object, not a string",
        ),
        (
            {"messages": [message("user", [{"type": "image_url"}]), ASSISTANT]},
            r"messages\[0\].content\[0\] is 'image_url'; only parts of type 'text'",
        ),
        ({"messages": [USER, message(tool_calls=[{"id": 1}])]}, r"messages\[1\].tool_calls is not supported"),
        ({"prompt": "Q", "completion": ""}, "completion is empty"),
        ({"prompt": None, "completion": "A"}, "prompt is null, not a string"),
        ({"instruction": " ", "output": "A"}, "instruction is empty"),
        ({"instruction": "Q", "input": 3, "output": "A"}, "input is a number, not a string"),
        ({"text": ""}, "text is empty"),
        ({"text": True}, "text is true or false, not a string"),
        ({"text": "a\ud800"}, "text holds half of a surrogate pair at character 1"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RowError, match=complaint):
        read(fields)
