"""The conversation or text that a row says, or what is wrong with it.

The words are taken as they are, white space included; instruction and context of a row are joined by a blank
line. Prompt and completion become a user's and an assistant's turn: a model that is tuned here is one to chat
with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kairay_train.formats import Example, Layout, Message, Role, RowError, listed

ROLES = {
    "system": Role.SYSTEM,
    "user": Role.USER,
    "human": Role.USER,
    "assistant": Role.ASSISTANT,
    "gpt": Role.ASSISTANT,
}

UNSUPPORTED_KEYS = ("tool_calls", "function_call")


def read_row(
    fields: Mapping[str, Any], layout: Layout, *, source: str, line: int, by_row: bool = False
) -> Example:
    """The example that a row of this layout says.

    Raises RowError with what is wrong in it.
    """
    if layout.text:
        text = _filled(fields[layout.text], layout.text)
        return Example(text=text, source=source, line=line, by_row=by_row)
    prompt, answer = _turns(fields, layout)
    messages = prompt + answer
    _check_turns(messages)
    loss_from = len(prompt) if answer else 0
    return Example(messages=messages, loss_from=loss_from, source=source, line=line, by_row=by_row)


def _turns(fields: Mapping[str, Any], layout: Layout) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Turns that are context only, and turns to learn from; messages are not told apart and come first."""
    if layout.messages:
        return _messages(fields[layout.messages], layout.messages), ()
    assert layout.prompt
    assert layout.answer
    question, answer = fields[layout.prompt], fields[layout.answer]
    if isinstance(question, list):
        prompt = _messages(question, layout.prompt)
    else:
        said = [_filled(question, layout.prompt)]
        if layout.context and fields.get(layout.context) is not None:
            said.append(_string(fields[layout.context], layout.context))
        prompt = (Message(role=Role.USER, content="\n\n".join(s for s in said if s.strip())),)
    if isinstance(answer, list):
        return prompt, _messages(answer, layout.answer)
    return prompt, (Message(role=Role.ASSISTANT, content=_filled(answer, layout.answer)),)


def _messages(value: Any, column: str) -> tuple[Message, ...]:
    if isinstance(value, str):  # a csv cell holds the list as JSON
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError(f"{column} is text, not a list of messages") from None
    if value is None:
        raise RowError(f"{column} is null, not a list of messages")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RowError(f"{column} is {_kind(value)}, not a list of messages")
    if not value:
        raise RowError(f"{column} is an empty list")
    return tuple(_message(item, f"{column}[{i}]") for i, item in enumerate(value))


def _message(item: Any, at: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowError(f"{at} is {_kind(item)}, not an object with role and content")
    role_key, content_key = (
        ("from", "value") if "role" not in item and "from" in item else ("role", "content")
    )
    for key in UNSUPPORTED_KEYS:
        if item.get(key):
            raise RowError(f"{at}.{key} is not supported; leave rows with tool calls out")
    for key in (role_key, content_key):
        if key not in item:
            raise RowError(f"{at} has no {key!r}; it has {listed(item) or 'nothing'}")
    name = item[role_key]
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise RowError(f"{at}.{role_key} is {_shown(name)}; accepted are {', '.join(ROLES)}")
    return Message(role=role, content=_content(item[content_key], f"{at}.{content_key}"))


def _content(value: Any, at: str) -> str:
    if not isinstance(value, list):
        return _string(value, at)
    texts = []
    for i, part in enumerate(value):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
            raise RowError(f"{at}[{i}] is {_shown(kind)}; only parts of type 'text' can be trained on")
        texts.append(_string(part.get("text"), f"{at}[{i}].text"))
    return "".join(texts)


def _check_turns(messages: tuple[Message, ...]) -> None:
    roles = [m.role for m in messages]
    if Role.ASSISTANT not in roles:
        raise RowError("has no assistant turn, so there is no answer to learn")
    if roles[-1] is not Role.ASSISTANT:
        raise RowError(f"ends with a {roles[-1]} turn; the last turn must be the assistant's")
    if Role.SYSTEM in roles[1:]:
        raise RowError(
            f"has a system turn at position {roles.index(Role.SYSTEM, 1)}; only the first turn may be one"
        )
    if next(r for r in roles if r is not Role.SYSTEM) is not Role.USER:
        raise RowError("starts with the assistant's turn; the user must speak first")
    for i, message in enumerate(messages):
        if message.role is not Role.SYSTEM and not message.content.strip():
            whose = "assistant answer" if message.role is Role.ASSISTANT else "user turn"
            raise RowError(f"has an empty {whose} (turn {i})")


def _filled(value: Any, at: str) -> str:
    text = _string(value, at)
    if not text.strip():
        raise RowError(f"{at} is empty")
    return text


def _string(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{at} is {_kind(value)}, not a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"{at} holds half of a surrogate pair at character {error.start}") from None
    return value


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a string"}
    if isinstance(value, Mapping):
        return "an object"
    return names.get(
        type(value), "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
    )


def _shown(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, str) else _kind(value)
