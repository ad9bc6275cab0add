from __future__ import annotations

import json
from pathlib import Path

import pytest

from kairay.errors import InputError
from kairay.workspace import load_documents, parse_documents
from workspace_documents import INFERENCE, TUNING, changed, fault_of_text


def test_a_file_of_several_documents_keeps_what_belongs_together() -> None:
    config = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  training_config.yaml: |\n    a: 1\n"
    )
    other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
    second = changed(INFERENCE, {"metadata.name": "n"})
    text = f"---\n{json.dumps(TUNING)}\n---\n{config}---\n---\n{other}---\n{json.dumps(second)}\n"
    documents = parse_documents(text, "w.yaml")
    assert [workspace.metadata.name for workspace in documents.workspaces] == ["m", "n"]
    assert documents.config_maps == {"c": {"training_config.yaml": "a: 1\n"}}
    assert documents.ignored == ("w.yaml (document 4): Deployment is not for Kairay and was left out",)


def test_mistakes_of_every_document_are_told_with_its_number() -> None:
    bad = changed(TUNING, {"tuning.method": "x"})
    message = fault_of_text(f"{json.dumps(bad)}\n---\nkind: ConfigMap\n---\n[1]\n")
    assert message.splitlines() == [
        "w.yaml (document 1):",
        "tuning.method: give lora or qlora, found x",
        "w.yaml (document 2):",
        "apiVersion: required; give v1",
        "metadata: required; give metadata: {name: my-config}",
        "w.yaml (document 3):",
        "Workspace: give a mapping of fields, found a list",
    ]


def test_one_name_twice_in_a_file_is_refused() -> None:
    message = fault_of_text(f"{json.dumps(TUNING)}\n---\n{json.dumps(INFERENCE)}")
    assert message == (
        "w.yaml (document 2):\nmetadata.name: document 1 is a Workspace m too; give each its own name"
    )


def test_a_config_map_holds_texts_only() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: {b: 1}}"
    assert fault_of_text(text) == "w.yaml (document 1):\ndata.a: give a text, found a mapping of b"


LAUGHS = "a0: &a0 [1,1,1,1,1,1,1,1]\n" + "\n".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 20)
)

BROKEN = [
    ("", "w.yaml: empty; write a Workspace into it"),
    ("# only a comment\n---\n", "w.yaml: empty;"),
    ("kind: Deployment\napiVersion: v1",
     "w.yaml: no Workspace in it (w.yaml (document 1): Deployment is not for"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}", "w.yaml: no Workspace in it (only ConfigMaps)"),
    ("a: b: c", "w.yaml:1:5: not YAML: mapping values are not allowed"),
    ("a: [1\nb: 2", "w.yaml:2:2: not YAML: did not find expected"),
    ("a:\n\tb: 1", "w.yaml:2:1: not YAML: found character that cannot start any token; indent with spaces"),
    ("a: \x00", "w.yaml: not YAML: unacceptable character"),
    ("a: \ud800", "w.yaml: not YAML:"),
    ("a: *b", "w.yaml:1:4: not YAML: found undefined alias"),
    ("a:\n  b: 1\n  c: 2\n  b: 3", "w.yaml:4:3: the key 'b' is here twice, first in line 2; keep one"),
    ("? [a]\n: 1", "w.yaml:1:3: a key must be a word"),
    ("a: !!python/name:os.system x", "w.yaml:1:4: the tag 'python/name:os.system'"),
    ("a: !!timestamp x", "w.yaml:1:4: the tag 'timestamp'"),
    ("a: !!bool x", "w.yaml: not YAML: a value cannot be read"),
    ("a: " + "9" * 5000, "w.yaml: not YAML: a value cannot be read"),
    ("a: &x [*x]", "w.yaml:1:8: the alias *x stands inside"),
    ("[" * 100_000, "w.yaml:1:65: nested more than 64 levels deep"),
    ("- " * 100_000, "w.yaml:1:129: nested more than 64 levels deep"),
    ("- a\n" * 30_000, "w.yaml:20000:3: more than 20000 values"),
    (LAUGHS, "w.yaml:5:22: more than 20000 values"),
    ("a: x\n" + "#" * 2**20, "w.yaml: larger than 1 MiB"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[message[:50] for _, message in BROKEN])
def test_text_that_cannot_be_read_is_refused_with_its_place(text: str, message: str) -> None:
    found = fault_of_text(text)
    assert found.startswith(message)
    assert len(found) < 300


def test_words_that_yaml_would_turn_into_something_else_stay_keys() -> None:
    text = json.dumps(TUNING).replace('"labels"', "labels")
    document = text[:-1] + ', "metadata2": {on: 1, 2024-01-01: 2, null: 3}}'
    assert fault_of_text(document).endswith("metadata2: unknown field; did you mean metadata?")
    dated = changed(TUNING, {"metadata.annotations": {"when": "2024-01-01"}})
    plain = json.dumps(dated).replace('"2024-01-01"', "2024-01-01")
    assert parse_documents(plain, "w").workspaces[0].metadata.annotations == {"when": "2024-01-01"}


def test_anchors_and_merges_work_as_in_yaml() -> None:
    text = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: m, labels: &labels {app: m, tier: a}}
resource:
  labelSelector:
    matchLabels: {<<: *labels, tier: b}
inference: {preset: {name: x}}
"""
    assert parse_documents(text, "w").workspaces[0].resource.label_selector.match_labels == {
        "app": "m",
        "tier": "b",
    }


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: there is no such file"):
        load_documents(tmp_path / "none.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_documents(tmp_path)


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(InputError, match=r"w\.yaml:2: not UTF-8"):
        load_documents(path)


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load_documents(path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(TUNING).encode())
    assert load_documents(path).workspaces == parse_documents(json.dumps(TUNING), "w").workspaces
