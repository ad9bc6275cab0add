"""The generated files of the installation are those that the types say, and the schema is bounded and closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kairay.crd.definition import definition
from kairay.crd.install import GENERATED, text_of
from kairay.crd.rules import RULES
from kairay.crd.schema import workspace_schema
from kairay.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", GENERATED)
def test_the_checked_in_file_is_the_generated_one(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == text_of(name), "run `make crd`"


def test_both_versions_have_the_same_schema_and_one_is_stored() -> None:
    first, second = definition()["spec"]["versions"]
    assert first["schema"] == second["schema"]
    assert [each["storage"] for each in (first, second)] == [True, False]


def test_every_field_of_the_types_is_in_the_schema() -> None:
    for part in ("resource", "inference", "tuning"):
        field = Workspace.model_fields[part].annotation
        types = [each for each in (field, *getattr(field, "__args__", ())) if hasattr(each, "field_names")]
        assert set(workspace_schema()["properties"][part]["properties"]) == set(types[0].field_names())


def test_what_people_write_is_bounded_everywhere() -> None:
    schema = workspace_schema()
    unbounded = [
        path
        for part in ("resource", "inference", "tuning")
        for path in loose(schema["properties"][part], part)
    ]
    assert not unbounded


def test_rules_have_names_of_their_own_and_messages_with_a_remedy() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    words = ("give", "apply it anew", "leave it out", "required", "lower-case")
    assert not [rule.name for rule in RULES if not any(word in rule.message for word in words)]


def loose(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Texts, lists and maps without an upper bound."""
    kind = schema.get("type")
    if kind == "string" and "enum" not in schema and "maxLength" not in schema:
        yield path
    if kind == "array":
        if "maxItems" not in schema:
            yield path
        yield from loose(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        if "maxProperties" not in schema:
            yield path
        yield from loose(schema["additionalProperties"], f"{path}{{}}")
    for name, each in schema.get("properties", {}).items():
        yield from loose(each, f"{path}.{name}")
